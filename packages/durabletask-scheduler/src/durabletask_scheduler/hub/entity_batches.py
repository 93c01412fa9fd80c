"""Batches: which operations run next, and what their results change.

A batch stays in the inbox until its answer is committed, so what was not executed is still in its
place. Its answer becomes one commit: the state, the replies to callers, signals to other entities and
new orchestrations (backend semantics, state and execution of entities).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from durabletask_proto import copying, warm
from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import checks, entity_ids, entity_queue, events, failures, instances, times
from durabletask_scheduler.hub.entity_model import Batch, Entity, GivenUp, Queued, Sender
from durabletask_scheduler.hub.model import Commit, Context, HubError, Limits, Message

MOST_OPERATIONS = 100
MOST_BYTES = 1_000_000
MOST_ATTEMPTS = 10
"""How often a batch that its worker cannot run is tried before its operations fail."""


def next_batch_at(entity: Entity, now: int) -> int | None:
    """When the entity may begin its next batch.

    Returns:
        ``now`` if it may begin at once, a later time to wake up at, or None if it has nothing to do
        until something arrives (or a batch is in flight).
    """
    if entity.batch is not None:
        return None
    entity_queue.make_due(entity, now)
    if entity_queue.next_up(entity) is not None:
        return max(now, entity.not_before)
    return entity.scheduled[0].due_at if entity.scheduled else None


def begin_batch(entity: Entity, ctx: Context) -> Batch:
    """Begin a batch of an entity that may begin one now: operations in order, up to a lock request or unlock."""
    operations: list[Queued] = []
    size = 0
    for entry in entity_queue.eligible(entity):
        size += len(entry.data)
        full = len(operations) >= (entity.retrying or MOST_OPERATIONS) or (bool(operations) and size > MOST_BYTES)
        if full or entity_queue.kind_of(entry) not in entity_queue.OPERATIONS:
            break
        operations.append(entry)
    entity.batch = Batch(ctx.new_id(), operations)
    return entity.batch


def batch_request(
    entity: Entity, batch: Batch, warm_token: str | None = None, request: pb.EntityRequest | None = None
) -> pb.EntityRequest:
    """The work item of a batch, with the entity's state.

    Args:
        warm_token: the completion token of the batch whose worker keeps the state, which is left out then.
        request: an empty one to fill in; by default a new one.
    """
    request = pb.EntityRequest() if request is None else request
    request.instanceId = entity.instance_id
    request.executionId = entity.execution_id if warm_token is None else warm.ENTITY_BASE + warm_token
    copying.copy_all([entry.event for entry in batch.operations], request.operationRequests)
    if warm_token is None and entity.state is not None:
        request.entityState.value = entity.state
    return request


def abandon_batch(entity: Entity, ctx: Context) -> None:
    """The worker gave the batch back: try again after 1 s, doubling up to 60 s."""
    entity.batch = None
    entity.not_before = ctx.now + times.back_off(entity.abandoned)
    entity.abandoned += 1


def release_batch(entity: Entity) -> None:
    """The batch is lost through no fault of its own (its lease ended): it may begin again at once."""
    entity.batch = None


def complete_batch(entity: Entity, result: pb.EntityBatchResult, ctx: Context) -> Commit:
    """Commit the answer to the batch in flight.

    Operations without a result run again, first and in order. If the worker says that it could not run
    the batch, the state stays as it is and the rest is tried again after a pause, up to ten times in all;
    then each of its operations fails. If its answer cannot be accepted, one of the operations may be the
    reason: half as many are tried each time, so that in the end that one fails by itself.

    Returns:
        An empty commit if the token is not that of the batch in flight.
    """
    batch = entity.batch
    commit = Commit()
    if batch is None or result.completionToken != batch.token:
        return commit
    entity.batch = None
    problem = _problem(batch, result, ctx.limits)
    refused = problem is not None
    executed = 0 if refused else len(result.results)
    for entry, outcome in zip(batch.operations, result.results[:executed]):
        entity_queue.remove(entity, entry, commit)
        _reply(entity, entry, outcome, ctx, commit)
    if problem is None:
        for action in result.actions:
            _ACTIONS[action.WhichOneof("operationActionType") or ""].handle(entity, action, ctx, commit)
    if problem is None and result.HasField("failureDetails"):
        problem = result.failureDetails
    elif problem is None:
        _set_state(entity, result, ctx, commit)
    rest = batch.operations[executed:]
    if problem is None or not rest:
        entity.abandoned = entity.failed = entity.retrying = entity.not_before = 0
        entity.distrusted = False
    elif _is_over(entity, rest, refused=refused):
        _give_up(entity, rest, problem, ctx, commit)
        # It may not be the only one of its kind. The next one is tried by itself, and if it is, not ten times.
        entity.retrying, entity.distrusted = int(refused), refused
    else:
        # Just these again, or some of them: what arrives meanwhile gets its own ten attempts.
        entity.retrying = max(len(rest) // 2, 1) if refused else len(rest)
        abandon_batch(entity, ctx)
    entity_queue.settle(entity, ctx, commit)
    return commit


def _set_state(entity: Entity, result: pb.EntityBatchResult, ctx: Context, commit: Commit) -> None:
    entity.state = result.entityState.value if result.HasField("entityState") else None
    entity.modified_at = ctx.now
    entity_queue.changed(entity, commit)


def _problem(batch: Batch, result: pb.EntityBatchResult, limits: Limits) -> pb.TaskFailureDetails | None:
    """Why nothing of the answer can be accepted."""
    count = len(result.results)
    if count > len(batch.operations):
        text = f"The worker answered {len(batch.operations)} operations with {count} results"
        return events.failure("InvalidEntityResult", text)
    if count == 0 and not result.HasField("failureDetails"):
        return events.failure("InvalidEntityResult", "The worker answered without any result")
    for action in result.actions:
        kind = action.WhichOneof("operationActionType") or "(none)"
        try:
            if kind not in _ACTIONS:
                raise HubError(checks.INVALID_ARGUMENT, "this task hub does not support this kind of action")
            _ACTIONS[kind].check(action, limits)
        except HubError as error:
            text = f"An entity action cannot be carried out (id {action.id}, {kind}): {error.message}"
            return events.failure("InvalidEntityAction", text)
    return None


def _is_over(entity: Entity, rest: list[Queued], *, refused: bool) -> bool:
    """Count a failed attempt; whether it was the last one."""
    entity.failed += 1
    if refused and len(rest) > 1:
        return False
    return entity.failed >= MOST_ATTEMPTS or (refused and entity.distrusted)


def _give_up(entity: Entity, rest: list[Queued], problem: pb.TaskFailureDetails, ctx: Context, commit: Commit) -> None:
    entity.abandoned = entity.failed = entity.not_before = 0
    failed = pb.OperationResult(failure=pb.OperationResultFailure(failureDetails=problem))
    for entry in rest:
        entity_queue.remove(entity, entry, commit)
        _reply(entity, entry, failed, ctx, commit)
    signals = [
        entry.event.entityOperationSignaled.operation
        for entry in rest
        if entity_queue.kind_of(entry) == entity_queue.SIGNALED
    ]
    if signals:
        commit.on_entities().given_up = GivenUp(signals, problem)


def _reply(entity: Entity, entry: Queued, outcome: pb.OperationResult, ctx: Context, commit: Commit) -> None:
    """Tell the caller, if it is still in the same generation; nobody waits for signals."""
    if entity_queue.kind_of(entry) != entity_queue.CALLED:
        return
    request_id = entity_queue.request_id(entry)
    event = pb.HistoryEvent(eventId=events.NO_ID, timestamp=times.to_timestamp(ctx.now))
    if outcome.HasField("failure"):
        event.entityOperationFailed.requestId = request_id
        details = failures.bounded(outcome.failure.failureDetails, ctx.limits.failure_depth)
        event.entityOperationFailed.failureDetails.CopyFrom(details)
    else:
        event.entityOperationCompleted.requestId = request_id
        if outcome.success.HasField("result"):
            event.entityOperationCompleted.output.CopyFrom(outcome.success.result)
    sender = entry.sender
    commit.messages.append(Message(entity.task_hub, sender.instance_id, event, sender.execution_id))


# --- actions of entities


def _check_signal(action: pb.OperationAction, limits: Limits) -> None:
    asked = action.sendSignal
    entity_ids.check_entity_id(asked.instanceId, limits)
    checks.check_name("the entity operation", asked.name, limits)
    if asked.HasField("scheduledTime"):
        checks.check_timestamp("scheduledTime", asked.scheduledTime)


def _send_signal(entity: Entity, action: pb.OperationAction, ctx: Context, commit: Commit) -> None:
    asked = action.sendSignal
    event = pb.HistoryEvent(
        eventId=events.NO_ID,
        timestamp=times.to_timestamp(ctx.now),
        entityOperationSignaled=pb.EntityOperationSignaledEvent(
            requestId=entity_ids.guid(ctx.new_id()),
            operation=asked.name,
            scheduledTime=asked.scheduledTime if asked.HasField("scheduledTime") else None,
            input=asked.input if asked.HasField("input") else None,
        ),
    )
    target = entity_ids.normalise(asked.instanceId)
    commit.messages.append(Message(entity.task_hub, target, event, sender=Sender(entity.instance_id)))


def _check_start(action: pb.OperationAction, limits: Limits) -> None:
    asked = action.startNewOrchestration
    checks.check_name("the orchestrator", asked.name, limits)
    if asked.instanceId:
        checks.check_instance_id(asked.instanceId, limits)
    if asked.HasField("scheduledTime"):
        checks.check_timestamp("scheduledTime", asked.scheduledTime)


def _start(entity: Entity, action: pb.OperationAction, ctx: Context, commit: Commit) -> None:
    """Nobody waits for it; if the id belongs to a live instance nothing happens, a terminal one is replaced."""
    asked = action.startNewOrchestration
    at = times.from_timestamp(asked.scheduledTime) if asked.HasField("scheduledTime") else 0
    generation = instances.NewGeneration(
        name=asked.name,
        version=asked.version if asked.HasField("version") else None,
        input=asked.input if asked.HasField("input") else None,
        tags={},
        trace=asked.parentTraceContext if asked.HasField("parentTraceContext") else None,
        scheduled_at=at if at > ctx.now else 0,
    )
    instance_id = asked.instanceId or ctx.new_id()
    event = instances.execution_started(generation, instance_id, ctx.new_id(), None, ctx.now)
    commit.messages.append(Message(entity.task_hub, instance_id, event))


@dataclass(frozen=True, slots=True)
class _Row:
    check: Callable[[pb.OperationAction, Limits], None]
    handle: Callable[[Entity, pb.OperationAction, Context, Commit], None]


_ACTIONS: dict[str, _Row] = {
    "sendSignal": _Row(_check_signal, _send_signal),
    "startNewOrchestration": _Row(_check_start, _start),
}
