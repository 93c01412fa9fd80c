"""What clients ask for that changes something: each request meets its instance in the engine."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

from durabletask_scheduler.engine import Engine
from durabletask_scheduler.entity_calls import purge_entity
from durabletask_scheduler.hub import requests as rules
from durabletask_scheduler.hub import views
from durabletask_scheduler.hub.entity_ids import is_entity
from durabletask_scheduler.hub.entity_sections import has_sections
from durabletask_scheduler.hub.model import Instance
from durabletask_scheduler.limits import check_batch

Handler = Callable[[Engine, str, Any], Message]
"""Takes engine, task hub and request; runs in the engine; the response leaves after the write."""


def _start(engine: Engine, task_hub: str, request: pb.CreateInstanceRequest) -> pb.CreateInstanceResponse:
    request = with_id(request)
    existing = _instance(engine, task_hub, request.instanceId)
    engine.commit(rules.start(existing, request, task_hub, engine.context), no_hurry=True)
    return pb.CreateInstanceResponse(instanceId=request.instanceId)


def with_id(request: pb.CreateInstanceRequest) -> pb.CreateInstanceRequest:
    """The request itself, or a copy with a new id if it has none."""
    if request.instanceId:
        return request
    copy = pb.CreateInstanceRequest()
    copy.CopyFrom(request)
    copy.instanceId = _new_id()
    return copy


def _raise_event(engine: Engine, task_hub: str, request: pb.RaiseEventRequest) -> pb.RaiseEventResponse:
    instance = _instance(engine, task_hub, request.instanceId)
    engine.commit(rules.raise_event(instance, request, engine.context), no_hurry=True)
    return pb.RaiseEventResponse()


def _terminate(engine: Engine, task_hub: str, request: pb.TerminateRequest) -> pb.TerminateResponse:
    instance = _instance(engine, task_hub, request.instanceId)
    engine.commit(rules.terminate(instance, request, engine.context))
    return pb.TerminateResponse()


def _suspend(engine: Engine, task_hub: str, request: pb.SuspendRequest) -> pb.SuspendResponse:
    instance = _instance(engine, task_hub, request.instanceId)
    engine.commit(rules.suspend(instance, request, engine.context))
    return pb.SuspendResponse()


def _resume(engine: Engine, task_hub: str, request: pb.ResumeRequest) -> pb.ResumeResponse:
    instance = _instance(engine, task_hub, request.instanceId)
    engine.commit(rules.resume(instance, request, engine.context))
    return pb.ResumeResponse()


def _rewind(engine: Engine, task_hub: str, request: pb.RewindInstanceRequest) -> pb.RewindInstanceResponse:
    entry = engine.find(task_hub, request.instanceId)
    instance = None if entry is None else entry.instance
    history = [] if entry is None else views.full_history(entry.instance, engine.instances.history(entry))
    engine.commit(rules.rewind(instance, request, history, engine.context))
    return pb.RewindInstanceResponse()


def _restart(engine: Engine, task_hub: str, request: pb.RestartInstanceRequest) -> pb.RestartInstanceResponse:
    source = _instance(engine, task_hub, request.instanceId)
    instance_id = _new_id() if request.restartWithNewInstanceId else request.instanceId
    target = _instance(engine, task_hub, instance_id)
    engine.commit(rules.restart(source, target, request, instance_id, engine.context))
    return pb.RestartInstanceResponse(instanceId=instance_id)


def _skip_graceful_terminations(
    engine: Engine, task_hub: str, request: pb.SkipGracefulOrchestrationTerminationsRequest
) -> pb.SkipGracefulOrchestrationTerminationsResponse:
    check_batch(len(request.instanceBatch.instanceIds))
    left = pb.SkipGracefulOrchestrationTerminationsResponse()
    output = request.reason if request.HasField("reason") else None
    for instance_id in request.instanceBatch.instanceIds:
        instance = _instance(engine, task_hub, instance_id)
        if instance is None or instance.is_terminal or has_sections(instance):
            left.unterminatedInstanceIds.append(instance_id)
        else:
            terminate = pb.TerminateRequest(instanceId=instance_id, output=output)
            engine.commit(rules.terminate(instance, terminate, engine.context))
    return left


def _complete_turn(engine: Engine, task_hub: str, response: pb.OrchestratorResponse) -> pb.CompleteTaskResponse:
    engine.desk.turns.complete(task_hub, response)
    return pb.CompleteTaskResponse()


def _complete_activity(engine: Engine, task_hub: str, response: pb.ActivityResponse) -> pb.CompleteTaskResponse:
    engine.desk.tasks.complete(task_hub, response)
    return pb.CompleteTaskResponse()


def _abandon_turn(
    engine: Engine, task_hub: str, request: pb.AbandonOrchestrationTaskRequest
) -> pb.AbandonOrchestrationTaskResponse:
    engine.desk.turns.abandon(task_hub, request.completionToken)
    return pb.AbandonOrchestrationTaskResponse()


def _abandon_activity(
    engine: Engine, task_hub: str, request: pb.AbandonActivityTaskRequest
) -> pb.AbandonActivityTaskResponse:
    engine.desk.tasks.abandon(task_hub, request.completionToken)
    return pb.AbandonActivityTaskResponse()


def terminate_all(engine: Engine, task_hub: str, instance_ids: Sequence[str], request: pb.TerminateRequest) -> int:
    """Terminate the live ones among these instances as another one was; how many were looked at."""
    output = request.output if request.HasField("output") else None
    for instance_id in instance_ids:
        instance = _instance(engine, task_hub, instance_id)
        terminate = pb.TerminateRequest(instanceId=instance_id, output=output, recursive=True)
        commit = rules.terminate(instance, terminate, engine.context)
        if commit.updated:
            engine.commit(commit)
    return len(instance_ids)


def purge_all(engine: Engine, task_hub: str, instance_ids: Sequence[str], *, single: bool) -> int:
    """Delete the terminal ones among these instances, and the entities; how many there were.

    Args:
        single: the first one was asked for by its id: a live one is refused (FAILED_PRECONDITION).
    """
    deleted = 0
    for number, instance_id in enumerate(instance_ids):
        if is_entity(instance_id):
            deleted += purge_entity(engine, task_hub, instance_id)
            continue
        instance = _instance(engine, task_hub, instance_id)
        commit = rules.purge(instance, engine.context, single=single and number == 0)
        if commit.deleted:
            engine.commit(commit)
            deleted += len(commit.deleted)
    return deleted


def _instance(engine: Engine, task_hub: str, instance_id: str) -> Instance | None:
    entry = engine.find(task_hub, instance_id)
    return None if entry is None else entry.instance


def _new_id() -> str:
    return uuid.uuid4().hex


HANDLERS: Mapping[str, Handler] = {
    "StartInstance": _start,
    "RaiseEvent": _raise_event,
    "TerminateInstance": _terminate,
    "SuspendInstance": _suspend,
    "ResumeInstance": _resume,
    "RewindInstance": _rewind,
    "RestartInstance": _restart,
    "SkipGracefulOrchestrationTerminations": _skip_graceful_terminations,
    "CompleteOrchestratorTask": _complete_turn,
    "CompleteActivityTask": _complete_activity,
    "AbandonTaskOrchestratorWorkItem": _abandon_turn,
    "AbandonTaskActivityWorkItem": _abandon_activity,
}
