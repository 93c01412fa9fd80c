"""Comparing what history says the orchestrator did with what its code does now."""

from typing import TYPE_CHECKING

from durabletask.replay.ledger import ActionRecord, describe_call
from durabletask.task import NonDeterminismError

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun

_CURE = (
    "An orchestrator must repeat its calls in the same order for as long as instances of it are running. Restore the "
    "old code, or put the change behind ctx.version_at_least(...) or a registration of a new version. Also look for "
    "clocks, random numbers, sets and outside state that decide what is called."
)


def confirm(
    run: "OrchestrationRun", event_id: int, method: str, name: str = "", target: str | None = None
) -> ActionRecord:
    """Take the pending action that history confirms with ``event_id``.

    ``method`` is the context method that makes such actions, ``name`` what it called, ``target`` the instance
    it addressed (None: not compared). Raises NonDeterminismError when the code made no such action.
    """
    record = run.ledger.pending.pop(event_id, None)
    if record is None:
        raise NonDeterminismError(_nothing_made(run, event_id, describe_call(method, name, target)))
    if record.method != method or not _same(record, name) or (target is not None and record.target != target):
        raise NonDeterminismError(_other_made(run, event_id, describe_call(method, name, target), record))
    return record


def _same(record: ActionRecord, name: str) -> bool:
    if record.name == name:
        return True
    return record.method == "send_event" and record.name.casefold() == name.casefold()


def _other_made(run: "OrchestrationRun", event_id: int, recorded: str, record: ActionRecord) -> str:
    return (
        f"{_subject(run)} is not deterministic at action #{event_id}: history expects {recorded}, but the code now "
        f"makes {record.describe()} at {record.where}. {_CURE}"
    )


def _nothing_made(run: "OrchestrationRun", event_id: int, recorded: str) -> str:
    if run.is_complete:
        now = f"the code has already finished ({run.outcome}) in {run.where}"
    elif run.ledger.sequence >= event_id:
        now = f"the code makes no such action there; it stands at {run.where}"
    else:
        now = f"the code made only {run.ledger.sequence} actions and stands at {run.where}"
    return f"{_subject(run)} is not deterministic at action #{event_id}: history expects {recorded}, but {now}. {_CURE}"


def _subject(run: "OrchestrationRun") -> str:
    version = f" version {run.version!r}" if run.version else ""
    return f"Orchestrator {run.name!r}{version} (instance {run.instance_id!r})"
