"""A small world around the hub: it applies commits to dictionaries, as a store would."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import (
    activities,
    delivery,
    entity_batches,
    entity_delivery,
    entity_ids,
    entity_requests,
    requests,
    turns,
    views,
)
from durabletask_scheduler.hub.entity_model import Batch, Entity, EntityChanges, EntityInboxRow, Queued
from durabletask_scheduler.hub.model import (
    Commit,
    Context,
    HistoryRow,
    Inbound,
    Instance,
    Limits,
    Message,
    OpenTask,
    TaskKind,
    Turn,
)
from durabletask_scheduler.hub.times import SECOND, to_timestamp
from google.protobuf.wrappers_pb2 import StringValue

HUB = "default"
MEMORY_ONLY = {"clock", "turn", "abandoned", "not_before", "open_tasks", "inbox", "by_id", "specials", "parent_trace"}


ENTITY_ROW = ("key", "task_hub", "instance_id", "execution_id", "modified_at", "state", "lock")


def text(value: str | None) -> StringValue | None:
    return None if value is None else StringValue(value=value)


def guid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


class World:
    """One task hub: instances in memory, rows in dictionaries, a clock that tests move."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 1_000_000 * SECOND
        self.limits = limits or Limits()
        self.keys = itertools.count(1)
        self.ids = itertools.count(1)
        self.live: dict[str, Instance] = {}
        self.rows: dict[int, dict[str, Any]] = {}
        self.history_rows: dict[int, list[HistoryRow]] = {}
        self.tasks: dict[int, tuple[int, OpenTask]] = {}
        self.inbox: dict[int, tuple[int, bytes]] = {}
        self.commits: list[Commit] = []
        self.entities: dict[str, Entity] = {}
        self.entity_rows: dict[int, dict[str, Any]] = {}
        self.entity_inbox: dict[int, EntityInboxRow] = {}

    @property
    def ctx(self) -> Context:
        return Context(self.now, self.keys.__next__, lambda: f"{next(self.ids):032x}", self.limits)

    # --- the store

    def write(self, commit: Commit) -> None:
        self.commits.append(commit)
        for key in commit.deleted:
            del self.rows[key]
            self.history_rows.pop(key, None)
            self.tasks = {k: v for k, v in self.tasks.items() if v[0] != key}
            self.inbox = {k: v for k, v in self.inbox.items() if v[0] != key}
            self.live = {k: v for k, v in self.live.items() if v.key != key}
        for key in commit.history_dropped:
            self.history_rows.pop(key, None)
        for instance in commit.created:
            assert instance.instance_id not in self.live
            self.live[instance.instance_id] = instance
        for instance in [*commit.created, *commit.updated.values()]:
            self._write_row(instance, commit)
        for row in commit.history:
            assert len(pb.HistoryChunk.FromString(row.events).events) == row.count
            self.history_rows.setdefault(row.instance_key, []).append(row)
        for key in commit.closed:
            self.tasks.pop(key)
        for key, task in commit.opened:
            assert task.key not in self.tasks
            self.tasks[task.key] = (key, task)
        for key in commit.inbox_removed:
            self.inbox.pop(key)
        for row in commit.inbox_added:
            assert row.key not in self.inbox
            self.inbox[row.key] = (row.instance_key, row.event)
        if commit.entities is not None:
            self._write_entities(commit.entities)

    def _write_entities(self, changes: EntityChanges) -> None:
        for key in changes.deleted:
            del self.entity_rows[key]
            self.entities = {k: v for k, v in self.entities.items() if v.key != key}
        for entity in changes.created:
            assert entity.instance_id not in self.entities
            self.entities[entity.instance_id] = entity
        for entity in [*changes.created, *changes.updated.values()]:
            self.entity_rows[entity.key] = {name: getattr(entity, name) for name in ENTITY_ROW}
        for key in changes.inbox_removed:
            self.entity_inbox.pop(key)
        for row in changes.inbox_added:
            assert row.key not in self.entity_inbox and row.entity_key in self.entity_rows
            self.entity_inbox[row.key] = row

    def _write_row(self, instance: Instance, commit: Commit) -> None:
        row = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}
        before = self.rows.get(instance.key)
        if before is not None and instance.key not in commit.restarted:
            assert before["started"] == row["started"], "a changed ExecutionStarted must be announced"
        row["tags"] = dict(instance.tags)
        self.rows[instance.key] = row

    def apply(self, commit: Commit) -> Commit:
        """Write a commit and everything that its messages bring about."""
        self.write(commit)
        for message in commit.messages:
            self.apply(self.deliver(message))
        return commit

    def deliver(self, message: Message) -> Commit:
        if entity_ids.is_entity(message.target):
            return entity_delivery.deliver(self.entities.get(message.target), message, self.ctx)
        existing = self.live.get(message.target)
        history = self.history(message.target) if delivery.needs_history(existing, message) else ()
        return delivery.deliver(existing, message, self.ctx, history)

    def stored(self, key: int) -> Instance:
        """The instance as a restart would load it."""
        row = {k: v for k, v in self.rows[key].items() if k not in MEMORY_ONLY}
        open_tasks = {
            k: dataclasses.replace(t, fired=False) for k, (owner, t) in sorted(self.tasks.items()) if owner == key
        }
        inbox = [
            Inbound(k, pb.HistoryEvent.FromString(data))
            for k, (owner, data) in sorted(self.inbox.items())
            if owner == key
        ]
        return Instance(**row, clock=self.rows[key]["clock"], open_tasks=open_tasks, inbox=inbox)

    def crash(self) -> None:
        """Forget everything in memory and load it again."""
        self.live = {row["instance_id"]: self.stored(key) for key, row in self.rows.items()}
        self.entities = {row["instance_id"]: self.stored_entity(key) for key, row in self.entity_rows.items()}

    def stored_entity(self, key: int) -> Entity:
        """The entity as a restart would load it."""
        entity = Entity(**self.entity_rows[key])
        for row in sorted(self.entity_inbox.values(), key=lambda row: row.key):
            if row.entity_key == key:
                entry = Queued(row.key, pb.HistoryEvent.FromString(row.event), row.event, row.sender, row.due_at)
                if row.due_at:
                    entity.scheduled.append(entry)
                else:
                    entity.inbox[row.key] = entry
        entity.scheduled.sort(key=lambda entry: (entry.due_at, entry.key))
        return entity

    # --- what clients, workers and time do

    def start(self, instance_id: str = "a", name: str = "main", **fields: Any) -> Commit:
        request = pb.CreateInstanceRequest(instanceId=instance_id, name=name, **fields)
        return self.apply(requests.start(self.live.get(instance_id), request, HUB, self.ctx))

    def call(self, function: Callable[..., Commit], instance_id: str, request: Any, *rest: Any) -> Commit:
        return self.apply(function(self.live.get(instance_id), request, *rest, self.ctx))

    def raise_event(self, instance_id: str, name: str, data: str | None = None) -> Commit:
        request = pb.RaiseEventRequest(instanceId=instance_id, name=name, input=text(data))
        return self.call(requests.raise_event, instance_id, request)

    def suspend(self, instance_id: str = "a", reason: str | None = None) -> Commit:
        return self.call(requests.suspend, instance_id, pb.SuspendRequest(instanceId=instance_id, reason=text(reason)))

    def resume(self, instance_id: str = "a", reason: str | None = None) -> Commit:
        return self.call(requests.resume, instance_id, pb.ResumeRequest(instanceId=instance_id, reason=text(reason)))

    def terminate(self, instance_id: str = "a", output: str | None = None, recursive: bool = False) -> Commit:
        request = pb.TerminateRequest(instanceId=instance_id, output=text(output), recursive=recursive)
        return self.call(requests.terminate, instance_id, request)

    def rewind(self, instance_id: str = "a", reason: str | None = None) -> Commit:
        request = pb.RewindInstanceRequest(instanceId=instance_id, reason=text(reason))
        return self.call(requests.rewind, instance_id, request, self.history(instance_id))

    def runnable(self, instance_id: str = "a") -> bool:
        at = turns.next_turn_at(self.live[instance_id], self.now)
        return at is not None and at <= self.now

    def begin(self, instance_id: str = "a") -> Turn:
        assert self.runnable(instance_id), f"{instance_id} has no turn to begin"
        self.now += SECOND
        return turns.begin_turn(self.live[instance_id], self.ctx)

    def answer(self, *actions: pb.OrchestratorAction, instance_id: str = "a", **fields: Any) -> Commit:
        turn = self.live[instance_id].turn
        assert turn is not None
        fields.setdefault("completionToken", turn.token)
        response = pb.OrchestratorResponse(instanceId=instance_id, actions=actions, **fields)
        return self.apply(turns.complete_turn(self.live[instance_id], response, self.ctx))

    def turn(self, *actions: pb.OrchestratorAction, instance_id: str = "a", **fields: Any) -> list[str]:
        """One whole turn; returns the kinds of its new events."""
        begun = self.begin(instance_id)
        self.answer(*actions, instance_id=instance_id, **fields)
        return self.kinds(begun.events)

    def open(self, instance_id: str = "a", kind: TaskKind = TaskKind.ACTIVITY) -> list[OpenTask]:
        return [task for task in self.live[instance_id].open_tasks.values() if task.kind is kind]

    def finish_activity(
        self, task: OpenTask, result: str | None = "1", error: str | None = None, instance_id: str = "a"
    ) -> Commit:
        response = pb.ActivityResponse(instanceId=instance_id, taskId=task.task_id, result=text(result))
        if error is not None:
            response.failureDetails.errorMessage = error
        return self.apply(activities.complete_activity(self.live[instance_id], task.key, response, self.ctx))

    def fire(self, instance_id: str = "a") -> None:
        """Fire all timers that are due."""
        for task in self.open(instance_id, TaskKind.TIMER):
            if task.due_at <= self.now:
                turns.fire_timer(self.live[instance_id], task.key, self.ctx)

    # --- entities

    def signal(self, entity: str = "@counter@a", operation: str = "add", **fields: Any) -> Commit:
        request = pb.SignalEntityRequest(instanceId=entity, name=operation, **fields)
        entity_requests.check_signal(request, self.ctx)
        existing = self.entities.get(entity_ids.normalise(entity))
        return self.apply(entity_requests.signal(existing, request, HUB, self.ctx))

    def batch_waits(self, entity: str = "@counter@a") -> bool:
        found = self.entities.get(entity)
        return found is not None and entity_batches.next_batch_at(found, self.now) == self.now

    def begin_batch(self, entity: str = "@counter@a") -> Batch:
        assert self.batch_waits(entity), f"{entity} has no batch to begin"
        batch = entity_batches.begin_batch(self.entities[entity], self.ctx)
        assert batch.operations
        return batch

    def answer_batch(
        self,
        *results: pb.OperationResult,
        entity: str = "@counter@a",
        state: str | None = "1",
        actions: Any = (),
        error: str | None = None,
        token: str | None = None,
    ) -> Commit:
        batch = self.entities[entity].batch
        assert batch is not None
        result = pb.EntityBatchResult(
            results=results, actions=actions, entityState=text(state), completionToken=token or batch.token
        )
        if error is not None:
            result.failureDetails.errorMessage = error
        return self.apply(entity_batches.complete_batch(self.entities[entity], result, self.ctx))

    def run_batch(self, entity: str = "@counter@a", **answer: Any) -> list[str]:
        """One whole batch, every operation a success; returns the names of the operations."""
        batch = self.begin_batch(entity)
        self.answer_batch(*[self.success() for _ in batch.operations], entity=entity, **answer)
        return self.operations(batch)

    @staticmethod
    def operations(batch: Batch) -> list[str]:
        return [getattr(e.event, e.event.WhichOneof("eventType")).operation for e in batch.operations]

    @staticmethod
    def success(value: str | None = '"ok"') -> pb.OperationResult:
        return pb.OperationResult(success=pb.OperationResultSuccess(result=text(value)))

    @staticmethod
    def failed(message: str = "boom") -> pb.OperationResult:
        details = pb.TaskFailureDetails(errorMessage=message)
        return pb.OperationResult(failure=pb.OperationResultFailure(failureDetails=details))

    @staticmethod
    def to_entity(number: int, **message: Any) -> pb.OrchestratorAction:
        return pb.OrchestratorAction(id=number, sendEntityMessage=pb.SendEntityMessageAction(**message))

    def entity_call(self, number: int, entity: str = "@counter@a", operation: str = "get") -> pb.OrchestratorAction:
        called = pb.EntityOperationCalledEvent(
            requestId=guid(number), operation=operation, targetInstanceId=text(entity)
        )
        return self.to_entity(number, entityOperationCalled=called)

    def entity_signal(self, number: int, entity: str = "@counter@a", operation: str = "add") -> pb.OrchestratorAction:
        signaled = pb.EntityOperationSignaledEvent(
            requestId=guid(number), operation=operation, targetInstanceId=text(entity)
        )
        return self.to_entity(number, entityOperationSignaled=signaled)

    def lock(self, number: int, *entities: str, section: str = "s") -> pb.OrchestratorAction:
        asked = pb.EntityLockRequestedEvent(criticalSectionId=section, lockSet=entities)
        return self.to_entity(number, entityLockRequested=asked)

    def unlock(self, number: int, entity: str, section: str = "s") -> pb.OrchestratorAction:
        sent = pb.EntityUnlockSentEvent(criticalSectionId=section, targetInstanceId=text(entity))
        return self.to_entity(number, entityUnlockSent=sent)

    def owner(self, entity: str = "@counter@a") -> str | None:
        found = self.entities.get(entity)
        return None if found is None or found.lock is None else found.lock.owner.instance_id

    # --- what can be seen

    def history(self, instance_id: str = "a") -> list[pb.HistoryEvent]:
        instance = self.live[instance_id]
        return views.full_history(instance, self.history_rows.get(instance.key, []))

    @staticmethod
    def kinds(events: Any) -> list[str]:
        return [event.WhichOneof("eventType") for event in events]

    def shown(self, instance_id: str = "a") -> list[str]:
        return self.kinds(self.history(instance_id))

    def state(self, instance_id: str = "a") -> pb.OrchestrationState:
        state = pb.OrchestrationState()
        views.describe(self.live[instance_id], state, payloads=True)
        return state

    def status(self, instance_id: str = "a") -> str:
        return self.live[instance_id].status_name

    # --- actions

    @staticmethod
    def activity(number: int, name: str = "act", **fields: Any) -> pb.OrchestratorAction:
        return pb.OrchestratorAction(id=number, scheduleTask=pb.ScheduleTaskAction(name=name, **fields))

    def timer(self, number: int, seconds: float = 10) -> pb.OrchestratorAction:
        at = to_timestamp(self.now + int(seconds * SECOND))
        return pb.OrchestratorAction(id=number, createTimer=pb.CreateTimerAction(fireAt=at))

    @staticmethod
    def child(number: int, instance_id: str = "c", name: str = "child", **fields: Any) -> pb.OrchestratorAction:
        asked = pb.CreateSubOrchestrationAction(instanceId=instance_id, name=name, **fields)
        return pb.OrchestratorAction(id=number, createSubOrchestration=asked)

    @staticmethod
    def send(number: int, target: str, name: str, data: str | None = None) -> pb.OrchestratorAction:
        asked = pb.SendEventAction(instance=pb.OrchestrationInstance(instanceId=target), name=name, data=text(data))
        return pb.OrchestratorAction(id=number, sendEvent=asked)

    @staticmethod
    def complete(
        number: int,
        status: str = "COMPLETED",
        result: str | None = None,
        error: str | None = None,
        **fields: Any,
    ) -> pb.OrchestratorAction:
        asked = pb.CompleteOrchestrationAction(
            orchestrationStatus=pb.OrchestrationStatus.Value(f"ORCHESTRATION_STATUS_{status}"),
            result=text(result),
            **fields,
        )
        if error is not None:
            asked.failureDetails.errorMessage = error
        return pb.OrchestratorAction(id=number, completeOrchestration=asked)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> type[World]:
    return World
