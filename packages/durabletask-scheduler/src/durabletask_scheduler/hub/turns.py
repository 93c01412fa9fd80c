"""Turns: when one may begin, what is in it, and what its answer changes.

A turn freezes the events it consumes when it begins; what arrives later waits for the next one.
Its answer becomes one commit: the history row, tasks, messages, and the instance itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import actions, events, failures, instances
from durabletask_scheduler.hub.actions import Effects
from durabletask_scheduler.hub.model import (
    CONTINUED_AS_NEW,
    FAILED,
    PENDING,
    RUNNING,
    SUSPENDED,
    TERMINAL,
    Commit,
    Context,
    HubError,
    Inbound,
    Instance,
    Limits,
    TaskKind,
    Turn,
    added,
)
from durabletask_scheduler.hub.times import MILLISECOND, back_off, to_timestamp

# SDKs keep milliseconds or microseconds of a time, and some arm a timer again unless the clock is
# strictly later than the time it was to fire.
_TIMER_MARGIN = MILLISECOND


def next_turn_at(instance: Instance, now: int) -> int | None:
    """When the instance may begin its next turn.

    Returns:
        ``now`` if it may begin at once, a later time to wake up at, or None if it has nothing to do
        until something arrives (or a turn is in flight).
    """
    if instance.turn is not None or instance.status in TERMINAL:
        return None
    if instance.open_tasks and instances.find_task(instance, TaskKind.LOCK_AGAIN, 0) is not None:
        return None
    suspended = instance.status == SUSPENDED
    if instance.event_count == 0:
        return None if suspended else max(now, instance.scheduled_at, instance.not_before)
    if not instance.inbox or (suspended and not _waits(instance, instances.SUSPEND)):
        return None
    return max(now, instance.not_before)


def _waits(instance: Instance, kind: str) -> bool:
    if not instances.specials(instance):
        return False
    return any(entry.event.WhichOneof("eventType") == kind for entry in instance.inbox)


def begin_turn(instance: Instance, ctx: Context) -> Turn:
    """Begin a turn of an instance that may begin one now.

    The clock (OrchestratorStarted) never goes back and is strictly later than the timers that fire.
    The first turn of a generation has ExecutionStarted second, whatever was stored before it.
    """
    delivered: Sequence[Inbound] = instance.inbox
    taken = len(delivered)
    if instances.specials(instance):
        taken = _arrange(instance)
        arranged = instance.inbox[:taken]
        delivered = [entry for entry in arranged if entry.event.WhichOneof("eventType") != instances.REWIND]
    fired = 0
    for entry in delivered:
        if entry.timer is not None and entry.timer.due_at > fired:
            fired = entry.timer.due_at
    at = events.next_clock(instance, ctx, at_least=fired + _TIMER_MARGIN if fired else 0)
    new_events = [events.turn_started(at, ctx)]
    if instance.event_count == 0:
        new_events.append(events.started_event(instance))
    new_events += [entry.event for entry in delivered]
    instance.clock = at
    instance.turn = Turn(ctx.new_id(), new_events, taken, at)
    return instance.turn


def _arrange(instance: Instance) -> int:
    """Bring what the next turn takes to the front of the inbox, and say how much that is.

    A suspend is a turn of its own, and so is a resume that another suspend follows; the last resume
    comes first and takes everything else along.
    """
    kinds = [entry.event.WhichOneof("eventType") for entry in instance.inbox]
    controls = [i for i, kind in enumerate(kinds) if kind in (instances.SUSPEND, instances.RESUME)]
    if not controls:
        return len(kinds)
    first = controls[0]
    inbox = instance.inbox
    instance.inbox = [inbox[first], *inbox[:first], *inbox[first + 1 :]]
    alone = kinds[first] == instances.SUSPEND or len(controls) > 1
    return 1 if alone else len(kinds)


def abandon_turn(instance: Instance, ctx: Context) -> None:
    """The worker gave the turn back: try again after 1 s, doubling up to 60 s."""
    instance.turn = None
    instance.not_before = ctx.now + back_off(instance.abandoned)
    instance.abandoned += 1


def release_turn(instance: Instance) -> None:
    """The turn is lost through no fault of its own (its lease ended): it may begin again at once."""
    instance.turn = None


def fire_timer(instance: Instance, task_key: int, ctx: Context) -> None:
    """Put the TimerFired of a due timer into the inbox, once; an unknown key changes nothing.

    Nothing is written: the timer stays open until the turn that consumes it commits.
    """
    timer = instance.open_tasks.get(task_key)
    if timer is None or timer.kind is not TaskKind.TIMER or timer.fired:
        return
    timer.fired = True
    fired = events.timer_fired(max(ctx.now, timer.due_at), timer)
    instances.add_inbound(instance, Inbound(0, fired, timer))


def complete_turn(instance: Instance, response: pb.OrchestratorResponse, ctx: Context) -> Commit:
    """Commit the answer to the turn in flight.

    Args:
        response: all of the answer; chunks are put together by the caller. An empty completion
            token means "the turn in flight".

    Returns:
        An empty commit if the token is not that of the turn in flight.

    Raises:
        HubError: INVALID_ARGUMENT if ``numEventsProcessed`` makes no sense. Nothing has changed; the
            caller should abandon the turn.
    """
    turn = instance.turn
    if turn is None or response.completionToken not in ("", turn.token):
        return Commit()
    taken = _taken(instance, turn, response)
    others, completion = actions.plan(response.actions, ctx.limits)
    size = instance.event_count + len(turn.events) + len(others)
    if size > ctx.limits.history_events and completion is None:
        others, completion = [], _history_too_long(size, ctx.limits.history_events)
    refusal = _beyond_limits(response, ctx.limits)
    if refusal is not None:
        others, completion = [], refusal
    commit = Commit()
    effects = Effects(instance, ctx, commit, max(ctx.now, turn.started_at), ctx.new_key(), completion is not None)
    row = _consume(effects, turn, taken)
    for action in others:
        actions.apply(effects, action)
    _settle(instance, response, effects, takes_status=refusal is None)
    ending = completion.completeOrchestration.orchestrationStatus if completion is not None else None
    if completion is not None and ending == CONTINUED_AS_NEW:
        _continue_as_new(effects, completion.completeOrchestration)
        return commit
    row += [event.SerializeToString() for event in effects.confirmations]
    instances.append_history(instance, effects.row_key, row, commit)
    if completion is not None:
        instances.finish(instance, _completed_event(completion, effects.at, ctx.limits.failure_depth), ctx, commit)
    return commit


def _taken(instance: Instance, turn: Turn, response: pb.OrchestratorResponse) -> int:
    """How many entries of the inbox the worker has processed."""
    if not response.HasField("numEventsProcessed"):
        return turn.taken
    processed = response.numEventsProcessed.value
    total = len(turn.events)
    # Workers that send their answer in chunks write 0 where they mean "see the first chunk".
    if processed in (0, total):
        return turn.taken
    header = 2 if instance.event_count == 0 else 1
    if not header <= processed < total:
        raise HubError(
            "INVALID_ARGUMENT",
            f"numEventsProcessed is {processed}; expected {header} to {total}, the number of new events of the turn, "
            "or nothing, which means all of them",
        )
    return turn.taken - (total - processed)


def _beyond_limits(response: pb.OrchestratorResponse, limits: Limits) -> pb.OrchestratorAction | None:
    """How the orchestration fails if its answer is larger than one may be."""
    if len(response.actions) > limits.actions:
        return actions.failed_completion(
            "TooManyActions",
            f"A turn of this orchestration asked for {len(response.actions)} actions; at most {limits.actions} are "
            "allowed. Spread them over several turns, or over sub-orchestrations",
        )
    size = len(response.customStatus.value.encode("utf-8", "replace")) if response.HasField("customStatus") else 0
    if size > limits.custom_status_bytes:
        return actions.failed_completion(
            "CustomStatusTooLarge",
            f"The custom status of this orchestration would have {size} bytes in UTF-8; at most "
            f"{limits.custom_status_bytes} are allowed. Keep large data in results or in a store of its own",
        )
    return None


def _history_too_long(size: int, limit: int) -> pb.OrchestratorAction:
    return actions.failed_completion(
        "HistoryTooLong",
        f"The history of this orchestration would grow to {size} events; at most {limit} are allowed. "
        "Use continue-as-new to begin a new generation, or sub-orchestrations to spread the work",
    )


def _consume(effects: Effects, turn: Turn, taken: int) -> list[bytes]:
    """Remove what the turn has consumed from the inbox; returns the first part of its history row."""
    row = [turn.events[0].SerializeToString()]
    if not taken:
        return row
    has_specials = instances.specials(effects.instance)
    for entry in instances.remove_inbound(effects.instance, taken, effects.commit):
        if not has_specials or entry.event.WhichOneof("eventType") != instances.REWIND:
            row.append(entry.data or entry.event.SerializeToString())
    return row


def _settle(instance: Instance, response: pb.OrchestratorResponse, effects: Effects, *, takes_status: bool) -> None:
    """What every answer changes in the instance itself."""
    instance.turn = None
    instance.abandoned = instance.not_before = 0
    instance.updated_at = effects.ctx.now
    if instance.status == PENDING:
        instance.status = RUNNING
        effects.commit.finished = added(effects.commit.finished, instance)
    if response.HasField("customStatus") and takes_status:
        # Some SDKs always send one, and mean "none" by an empty one.
        instance.custom_status = response.customStatus.value or None
    if response.HasField("orchestrationTraceContext"):
        instance.trace_context = response.orchestrationTraceContext.SerializeToString()
    effects.commit.updated[instance.key] = instance
    effects.commit.runnable.append(instance)


def _completed_event(completion: pb.OrchestratorAction, at: int, depth: int) -> pb.HistoryEvent:
    asked = completion.completeOrchestration
    details = failures.bounded(asked.failureDetails, depth) if asked.HasField("failureDetails") else None
    if details is None and asked.orchestrationStatus == FAILED:
        details = events.failure("OrchestrationFailed", "The worker reported a failure without details")
    result = asked.result if asked.HasField("result") else None
    return events.execution_completed(at, asked.orchestrationStatus, result, details, completion.id)


def _continue_as_new(effects: Effects, asked: pb.CompleteOrchestrationAction) -> None:
    """Replace the generation: carried events first, then what waited; all else of the old one is dropped."""
    instance, ctx, commit = effects.instance, effects.ctx, effects.commit
    old = events.started_event(instance).executionStarted
    version = asked.newVersion if asked.HasField("newVersion") else None
    if version is None and old.HasField("version"):
        version = old.version
    instance.tags = {**instance.tags, **asked.tags}
    generation = instances.NewGeneration(
        name=instance.name,
        version=version,
        input=asked.result if asked.HasField("result") else None,
        tags=instance.tags,
        trace=old.parentTraceContext if old.HasField("parentTraceContext") else None,
    )
    # Locks are released in the name of the generation that held them.
    instances.close_all_tasks(instance, commit)
    instance.execution_id = ctx.new_id()
    instance.version = None if version is None else version.value
    parent = old.parentInstance if old.HasField("parentInstance") else None
    started = instances.execution_started(generation, instance.instance_id, instance.execution_id, parent, effects.at)
    instance.started = started.SerializeToString()
    instance.event_count = 0
    instance.trace_context = b""
    commit.history_dropped = added(commit.history_dropped, instance.key)
    commit.restarted = added(commit.restarted, instance.key)
    _carry_over(effects, asked)


def _carry_over(effects: Effects, asked: pb.CompleteOrchestrationAction) -> None:
    instance, ctx, commit = effects.instance, effects.ctx, effects.commit
    # Results belong to the old generation. Suspend and resume go too: the status says whether the instance
    # is suspended, and the new generation has told no worker anything yet.
    survivors: list[Inbound] = []
    for entry in instance.inbox:
        if entry.event.WhichOneof("eventType") == "eventRaised":
            survivors.append(entry)
        elif entry.key:
            commit.inbox_removed = added(commit.inbox_removed, entry.key)
    instance.specials = 0
    if not asked.carryoverEvents:
        instance.inbox = survivors
        return
    instance.inbox = ()
    for event in asked.carryoverEvents:
        carried = pb.HistoryEvent()
        carried.CopyFrom(event)
        carried.eventId = events.NO_ID
        if not carried.HasField("timestamp"):
            carried.timestamp.CopyFrom(to_timestamp(effects.at))
        instances.receive(instance, carried, ctx, commit)
    # Rows are read back in the order of their keys: what comes after the carried events needs later ones.
    for entry in survivors:
        commit.inbox_removed = added(commit.inbox_removed, entry.key)
        instances.receive(instance, entry.event, ctx, commit)
