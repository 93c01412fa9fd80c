"""The replay engine: history events in, orchestrator actions out, and nothing else."""

from durabletask.replay.options import Observation, RunOptions, TurnResult, VersionRejected
from durabletask.replay.run import OrchestrationRun

__all__ = ["Observation", "OrchestrationRun", "RunOptions", "TurnResult", "VersionRejected"]
