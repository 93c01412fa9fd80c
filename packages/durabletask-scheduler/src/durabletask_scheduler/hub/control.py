"""Suspend and resume.

The status changes at once. The worker is told by a turn of its own (``ExecutionSuspended``), after
which nothing is dispatched until the turn that begins with ``ExecutionResumed``. An instance whose
generation has not begun has told no worker anything: it just does not begin while suspended.
"""

from __future__ import annotations

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import instances
from durabletask_scheduler.hub.model import PENDING, RUNNING, SUSPENDED, Commit, Context, Instance, added

_CONTROLS = frozenset({instances.SUSPEND, instances.RESUME})


def suspend(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """``event`` is the ExecutionSuspended; redundant ones never reach the history."""
    commit = Commit()
    if instance.is_terminal or instance.status == SUSPENDED:
        return commit
    if instance.status == PENDING:
        commit.finished = added(commit.finished, instance)
    _set_status(instance, SUSPENDED, ctx, commit)
    if _has_begun(instance):
        instances.receive(instance, event, ctx, commit)
    return commit


def resume(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """``event`` is the ExecutionResumed; redundant ones never reach the history."""
    commit = Commit()
    if instance.status != SUSPENDED:
        return commit
    if _has_begun(instance):
        _set_status(instance, RUNNING, ctx, commit)
        instances.receive(instance, event, ctx, commit)
        return commit
    # The clock has ticked if an earlier generation ran, or a turn of this one was given back.
    _set_status(instance, RUNNING if instance.clock else PENDING, ctx, commit)
    _drop_controls(instance, commit)
    commit.runnable.append(instance)
    return commit


def _drop_controls(instance: Instance, commit: Commit) -> None:
    """Forget suspends and resumes that no worker has seen and none will miss."""
    if not instances.specials(instance):
        return
    kept = []
    for entry in instance.inbox:
        if entry.event.WhichOneof("eventType") in _CONTROLS:
            commit.inbox_removed = added(commit.inbox_removed, entry.key)
        else:
            kept.append(entry)
    instance.inbox = kept
    instance.specials = -1


def _has_begun(instance: Instance) -> bool:
    return instance.event_count > 0 or instance.turn is not None


def _set_status(instance: Instance, status: int, ctx: Context, commit: Commit) -> None:
    instance.status = status
    instance.updated_at = ctx.now
    commit.updated[instance.key] = instance
