"""The worker of the scheduled task: the orchestrator that is started again and again, and what schedules need."""

from __future__ import annotations

from connection import run_worker
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker


def report(ctx: task.OrchestrationContext, subject: str) -> str:
    return f"report on {subject}"


def setup(worker: DurableTaskSchedulerWorker) -> None:
    worker.add_orchestrator(report)
    # A schedule is an entity; this registers it.
    worker.configure_scheduled_tasks()


if __name__ == "__main__":
    run_worker(setup)
