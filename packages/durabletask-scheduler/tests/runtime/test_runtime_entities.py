"""Entities over the service: work items, leases, queries, restarts; a worker that follows a script."""

from __future__ import annotations

import base64
import time

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from durabletask_scheduler.entity_queries import UNLOCK_METADATA
from durabletask_scheduler.hub import entity_batches
from durabletask_scheduler.hub.entity_model import Entity, EntityChanges, Lock, Sender
from durabletask_scheduler.hub.model import Commit, HubError
from durabletask_scheduler.storage.maintenance import check
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

A, B = "@counter@a", "@counter@b"


def guid(number):
    return f"00000000-0000-0000-0000-{number:012x}"


class Entities:
    """What clients and workers do with entities."""

    def __init__(self, runtime):
        self.runtime = runtime

    def signal(self, entity=A, name="add", **fields):
        return self.runtime.call("SignalEntity", pb.SignalEntityRequest(instanceId=entity, name=name, **fields))

    def get(self, entity=A):
        return self.runtime.call("GetEntity", pb.GetEntityRequest(instanceId=entity, includeState=True))

    def state(self, entity=A):
        found = self.get(entity)
        return found.entity.serializedState.value if found.exists else None

    def answer(self, item, state="1", token=None, **fields):
        count = len(item.entityRequestV2.operationRequests)
        fields.setdefault("results", [pb.OperationResult(success=pb.OperationResultSuccess())] * count)
        result = pb.EntityBatchResult(
            entityState=None if state is None else StringValue(value=state),
            completionToken=item.completionToken if token is None else token,
            **fields,
        )
        return self.runtime.begin("CompleteEntityTask", result)

    def abandon(self, item):
        return self.runtime.call(
            "AbandonTaskEntityWorkItem", pb.AbandonEntityTaskRequest(completionToken=item.completionToken)
        )

    def query(self, **fields):
        return self.runtime.call("QueryEntities", pb.QueryEntitiesRequest(query=pb.EntityQuery(**fields)))


def operations(item):
    events = item.entityRequestV2.operationRequests
    return [getattr(event, event.WhichOneof("eventType")).operation for event in events]


def call(number, entity=A, operation="get"):
    called = pb.EntityOperationCalledEvent(
        requestId=guid(number), operation=operation, targetInstanceId=StringValue(value=entity)
    )
    message = pb.SendEntityMessageAction(entityOperationCalled=called)
    return pb.OrchestratorAction(id=number, sendEntityMessage=message)


def signal(number, entity=A, operation="add"):
    signaled = pb.EntityOperationSignaledEvent(operation=operation, targetInstanceId=StringValue(value=entity))
    message = pb.SendEntityMessageAction(entityOperationSignaled=signaled)
    return pb.OrchestratorAction(id=number, sendEntityMessage=message)


def lock(number, *entities):
    asked = pb.EntityLockRequestedEvent(criticalSectionId=f"section {number}", lockSet=entities)
    return pb.OrchestratorAction(id=number, sendEntityMessage=pb.SendEntityMessageAction(entityLockRequested=asked))


def unlock(number, entity):
    sent = pb.EntityUnlockSentEvent(criticalSectionId="section 1", targetInstanceId=StringValue(value=entity))
    return pb.OrchestratorAction(id=number, sendEntityMessage=pb.SendEntityMessageAction(entityUnlockSent=sent))


def ask_for_locks(runtime, worker, **lock_sets):
    """Orchestrations that ask for their locks in this order; the first is granted its own at once."""
    for name in lock_sets:
        runtime.start(name)
    for item in [worker.next() for _ in lock_sets]:
        runtime.answer(item, lock(1, *lock_sets[item.orchestratorRequest.instanceId])).result(5)


def kinds(item):
    return [event.WhichOneof("eventType") for event in item.orchestratorRequest.newEvents]


@pytest.fixture
def entities(runtime):
    return Entities(runtime)


@pytest.fixture
def workers(runtime):
    """A worker for orchestrations and one for entities."""
    filters = pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="order")])
    others = pb.WorkItemFilters(entities=[pb.EntityFilter(name="Counter")])
    return runtime.worker(workItemFilters=filters), runtime.worker(workItemFilters=others)


def test_a_signal_becomes_a_batch_and_its_answer_the_state(runtime, entities):
    worker = runtime.worker()
    entities.signal(input=StringValue(value="5"))
    item = worker.next()
    request = item.entityRequestV2
    assert (request.instanceId, operations(item), request.HasField("entityState")) == (A, ["add"], False)
    assert request.executionId
    assert not entities.get().exists
    entities.answer(item, "5").result(5)
    assert entities.state() == "5"
    entities.signal()
    assert worker.next().entityRequestV2.entityState.value == "5"


def test_a_call_is_answered_to_its_orchestration(runtime, entities, workers, do):
    orchestrations, batches = workers
    runtime.start("a")
    runtime.answer(orchestrations.next(), call(1)).result(5)
    item = batches.next()
    output = pb.OperationResult(success=pb.OperationResultSuccess(result=StringValue(value="7")))
    entities.answer(item, results=[output]).result(5)
    turn = orchestrations.next()
    assert kinds(turn) == ["orchestratorStarted", "entityOperationCompleted"]
    assert turn.orchestratorRequest.newEvents[1].entityOperationCompleted.output.value == "7"
    assert turn.orchestratorRequest.pastEvents[-1].entityOperationCalled.targetInstanceId.value == A
    runtime.answer(turn, do.complete()).result(5)
    assert runtime.status("a") == "COMPLETED"


def test_many_messages_of_one_turn_may_make_the_same_entity(runtime, entities, workers, do):
    orchestrations, batches = workers
    runtime.start("a")
    runtime.answer(orchestrations.next(), *[signal(n, operation=f"op{n}") for n in range(1, 50)], do.complete()).result(
        5
    )
    assert operations(batches.next()) == [f"op{n}" for n in range(1, 50)]


def test_two_children_of_one_id_in_one_turn_make_one_instance(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.child(1, "kid"), do.child(2, "kid")).result(5)
    turns = {item.orchestratorRequest.instanceId: kinds(item) for item in (worker.next(), worker.next())}
    assert turns["kid"] == ["orchestratorStarted", "executionStarted"]
    assert turns["a"] == ["orchestratorStarted", "subOrchestrationInstanceFailed"]


def test_opposite_lock_sets_take_turns_and_leave_a_sound_store(runtime, workers, do, tmp_path):
    """Checklist 9."""
    orchestrations, _ = workers
    ask_for_locks(runtime, orchestrations, x=(A, B), y=(B, A))
    for _ in range(2):
        turn = orchestrations.next()
        assert kinds(turn) == ["orchestratorStarted", "entityLockGranted"]
        runtime.answer(turn, unlock(2, A), unlock(3, B), do.complete()).result(5)
    assert check(tmp_path / "hub.db") == []
    assert {runtime.status("x"), runtime.status("y")} == {"COMPLETED"}
    assert not runtime.call(
        "QueryEntities", pb.QueryEntitiesRequest(query=pb.EntityQuery(includeTransient=True))
    ).entities


def test_a_restart_in_a_critical_section_keeps_it_and_its_queue(runtime, entities, workers, do):
    """Lesson 63: locks and what waits for them survive."""
    orchestrations, _ = workers
    ask_for_locks(runtime, orchestrations, x=(A,), y=(A,))
    granted = orchestrations.next()
    runtime.answer(granted).result(5)
    entities.signal(name="outside")
    runtime.restart()
    [shown] = entities.query(includeTransient=True).entities
    assert (shown.lockedBy.value, shown.backlogQueueSize) == ("x", 2)
    worker = runtime.worker()
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId="x"))
    turn = worker.next()
    assert turn.orchestratorRequest.instanceId == "y"
    assert kinds(turn) == ["orchestratorStarted", "entityLockGranted"]
    runtime.answer(turn, do.complete()).result(5)
    assert operations(worker.next()) == ["outside"]


def test_what_waits_is_taken_up_after_a_restart(runtime, entities):
    entities.signal(name="now")
    at = pb.SignalEntityRequest()
    at.scheduledTime.FromNanoseconds(time.time_ns() + 300_000_000)
    entities.signal(B, name="later", scheduledTime=at.scheduledTime)
    runtime.restart()
    worker = runtime.worker()
    assert [operations(worker.next()), operations(worker.next())] == [["now"], ["later"]]
    assert time.time_ns() >= at.scheduledTime.ToNanoseconds()


class TestLeases:
    def test_a_lost_batch_goes_to_another_worker_under_a_new_token(self, runtime, entities):
        """Lesson 64, checklist 13."""
        first = runtime.worker()
        entities.signal()
        lost = first.next()
        second = runtime.worker()
        first.cancel()
        item = second.next()
        assert item.completionToken != lost.completionToken
        entities.answer(lost, "stale").result(5)
        assert not entities.get().exists
        entities.answer(item, "new").result(5)
        entities.answer(item, "twice").result(5)
        assert entities.state() == "new"

    def test_a_large_batch_that_is_lost_with_every_stream_fails(self, runtime, entities, do):
        """Lesson 41: it would be sent, and break the stream, for ever. What comes after it gets its own tries."""
        state = "x" * 5_000_000
        worker = runtime.worker()
        runtime.start("a")
        runtime.answer(worker.next(), call(1)).result(5)
        entities.answer(worker.next(), state).result(5)
        turn = worker.next()
        runtime.answer(turn, call(2)).result(5)
        for _ in range(2):
            # A worker of its own each time, so that each is sent the whole state.
            other = runtime.worker()
            worker.cancel()
            worker = other
            assert operations(worker.next()) == ["get"]
        other = runtime.worker()
        worker.cancel()
        failed = other.next().orchestratorRequest.newEvents[1].entityOperationFailed
        assert (failed.requestId, failed.failureDetails.errorType) == (guid(2), "WorkItemTooLarge")
        assert "3 times in a row the worker's stream broke" in failed.failureDetails.errorMessage
        assert entities.state() == state
        entities.signal(name="after")
        assert operations(other.next()) == ["after"]

    def test_an_abandoned_batch_comes_again_after_a_pause(self, runtime, entities):
        worker = runtime.worker()
        entities.signal()
        begun = time.monotonic()
        entities.abandon(worker.next())
        assert operations(worker.next()) == ["add"]
        assert time.monotonic() - begun > 0.9

    def test_one_batch_of_an_entity_at_a_time_and_no_more_than_permitted(self, runtime, entities):
        worker = runtime.worker(maxConcurrentEntityWorkItems=2)
        for entity in (A, B, "@counter@c"):
            entities.signal(entity)
        entities.signal(A, name="second")
        first, second = worker.next(), worker.next()
        assert {first.entityRequestV2.instanceId, second.entityRequestV2.instanceId} == {A, B}
        assert worker.waiting == 0
        entities.answer(second).result(5)
        assert worker.next().entityRequestV2.instanceId == "@counter@c"

    @pytest.mark.parametrize(("names", "served"), [(["COUNTER"], True), (["counters"], False), ([], False)])
    def test_filters_choose_by_name(self, runtime, entities, names, served):
        """Section 2.1: an empty category means nothing of it."""
        filters = pb.WorkItemFilters(entities=[pb.EntityFilter(name=name) for name in names])
        chosen = runtime.worker(workItemFilters=filters)
        entities.signal()
        anything = chosen if served else runtime.worker()
        assert operations(anything.next()) == ["add"]
        assert chosen.waiting == 0

    def test_an_empty_token_means_nothing(self, runtime, entities):
        """Section 2.5: entities have no fallback."""
        worker = runtime.worker()
        entities.signal()
        item = worker.next()
        entities.answer(item, token="").result(5)
        assert not entities.get().exists
        entities.answer(item).result(5)
        assert entities.get().exists


def test_a_signal_that_is_given_up_is_logged(runtime, entities, caplog, monkeypatch):
    monkeypatch.setattr(entity_batches, "MOST_ATTEMPTS", 1)
    entities.signal(name="welcome")
    bad = pb.OperationAction(id=7, sendSignal=pb.SendSignalAction(instanceId="@user@bob\tsmith", name="hello"))
    entities.answer(runtime.worker().next(), actions=[bad]).result(5)
    assert 'Entity @counter@a has lost signals (welcome): InvalidEntityAction, "An entity action cannot' in caplog.text


class TestWarm:
    @pytest.fixture
    def worker(self, runtime):
        return runtime.worker(capabilities=[warm.ENTITY_CAPABILITY])

    def test_a_worker_that_keeps_states_is_not_sent_them(self, worker, entities):
        entities.signal()
        first = worker.next()
        entities.answer(first, "1").result(5)
        entities.signal()
        second = worker.next().entityRequestV2
        assert not second.HasField("entityState")
        assert second.executionId == warm.ENTITY_BASE + first.completionToken

    def test_a_miss_brings_the_state_under_a_new_token(self, worker, entities):
        entities.signal()
        entities.answer(worker.next(), "1").result(5)
        entities.signal()
        item = worker.next()
        entities.answer(item, None, results=[], requiresState=True).result(5)
        again = worker.next()
        assert again.completionToken != item.completionToken
        assert again.entityRequestV2.entityState.value == "1"
        entities.answer(again, "2").result(5)
        assert entities.state() == "2"

    def test_requiring_the_state_although_it_was_sent_is_an_abandon(self, worker, entities):
        entities.signal()
        begun = time.monotonic()
        entities.answer(worker.next(), None, results=[], requiresState=True).result(5)
        assert worker.next().entityRequestV2.operationRequests
        assert time.monotonic() - begun > 0.9

    def test_after_an_answer_that_was_not_taken_over_the_state_is_sent(self, worker, entities):
        entities.signal()
        entities.answer(worker.next(), "1").result(5)
        entities.signal()
        failed = pb.TaskFailureDetails(errorMessage="no")
        entities.answer(worker.next(), "9", results=[], failureDetails=failed).result(5)
        assert worker.next().entityRequestV2.entityState.value == "1"

    def test_others_never_see_it(self, runtime, entities):
        worker = runtime.worker(capabilities=[warm.CAPABILITY])
        entities.signal()
        entities.answer(worker.next(), "1").result(5)
        entities.signal()
        assert worker.next().entityRequestV2.entityState.value == "1"


class TestQueries:
    @pytest.fixture
    def three(self, runtime, entities):
        worker = runtime.worker()
        for name in ("@counter@a", "@counter@b", "@counters@a"):
            entities.signal(name)
            entities.answer(worker.next(), f'"{name}"').result(5)
        return worker

    def test_pages_end_without_a_token(self, entities, three):
        """Checklist 21: .NET goes on for as long as there is one."""
        first = entities.query(pageSize=Int32Value(value=2), includeState=True)
        assert [e.instanceId for e in first.entities] == ["@counter@a", "@counter@b"]
        assert first.entities[0].serializedState.value == '"@counter@a"'
        last = entities.query(pageSize=Int32Value(value=2), continuationToken=first.continuationToken)
        assert [e.instanceId for e in last.entities] == ["@counters@a"]
        assert not last.HasField("continuationToken")
        assert not last.entities[0].HasField("serializedState")

    @pytest.mark.parametrize(
        ("prefix", "count"), [("", 3), ("@counter", 3), ("Counter@", 2), ("@COUNTER@b", 1), ("@counter@B", 0)]
    )
    def test_a_prefix_may_lack_its_mark_and_write_the_name_as_it_likes(self, entities, three, prefix, count):
        assert len(entities.query(instanceIdStartsWith=StringValue(value=prefix)).entities) == count

    def test_a_token_with_half_a_surrogate_pair_is_refused(self, entities, three):
        token = base64.urlsafe_b64encode(rb'[1, "QueryEntities", "@a@\ud800"]').decode()
        with pytest.raises(HubError, match="continuation token") as refusal:
            entities.query(continuationToken=StringValue(value=token))
        assert refusal.value.code == "INVALID_ARGUMENT"

    def test_a_foreign_token_is_refused(self, entities, three):
        with pytest.raises(HubError, match="continuation token"):
            entities.query(continuationToken=StringValue(value="x"))

    def test_entities_are_not_instances(self, runtime, entities, three):
        assert not runtime.get("@counter@a").exists
        assert not runtime.call("QueryInstances").orchestrationState
        assert not runtime.call("ListInstanceIds").instanceIds

    @pytest.mark.parametrize(("is_orchestration", "deleted"), [(False, 1), (True, 0)])
    def test_purging_the_id_of_an_entity_deletes_it(self, runtime, entities, three, is_orchestration, deleted):
        request = pb.PurgeInstancesRequest(instanceId="@Counter@a", isOrchestration=is_orchestration)
        assert runtime.call("PurgeInstances", request).deletedInstanceCount == deleted
        assert entities.get().exists is not bool(deleted)
        assert entities.get(B).exists

    def test_purging_voids_the_batch_in_flight(self, runtime, entities, three):
        entities.signal()
        item = three.next()
        runtime.call("PurgeInstances", pb.PurgeInstancesRequest(instanceId=A))
        again = three.next()
        assert not again.entityRequestV2.HasField("entityState")
        entities.answer(item, "stale").result(5)
        assert not entities.get().exists


class TestCleaning:
    def clean(self, runtime, **fields):
        return runtime.call("CleanEntityStorage", pb.CleanEntityStorageRequest(**fields))

    def test_nothing_is_ever_left_to_clean_and_there_is_no_token(self, runtime, entities, workers, do):
        orchestrations, batches = workers
        runtime.start("a")
        runtime.answer(orchestrations.next(), lock(1, A)).result(5)
        entities.signal(B)
        entities.answer(batches.next(), None).result(5)
        cleaned = self.clean(runtime, removeEmptyEntities=True, releaseOrphanedLocks=True)
        assert (cleaned.emptyEntitiesRemoved, cleaned.orphanedLocksReleased) == (0, 0)
        assert not cleaned.HasField("continuationToken")
        assert entities.query(includeTransient=True).entities[0].lockedBy.value == "a"

    @pytest.mark.parametrize("asked", ["releaseOrphanedLocks", "removeEmptyEntities"])
    def test_what_should_not_be_there_is_cleaned_and_counted(self, runtime, entities, asked):
        """An entity locked by nobody alive, and one of which nothing is left."""
        ghost = Lock(Sender("ghost", "x"), "s", 1)
        left = [
            Entity(10**6, "default", "@counter@orphan", "e", 1, state="1", lock=ghost),
            Entity(10**6 + 1, "default", "@counter@empty", "e", 1),
        ]
        runtime.storage.write([Commit(entities=EntityChanges(created=left))])
        cleaned = self.clean(runtime, **{asked: True})
        counts = {
            "releaseOrphanedLocks": cleaned.orphanedLocksReleased,
            "removeEmptyEntities": cleaned.emptyEntitiesRemoved,
        }
        assert counts.pop(asked) == 1 and set(counts.values()) == {0}
        shown = {e.instanceId: e.lockedBy.value for e in entities.query(includeTransient=True).entities}
        released = asked == "releaseOrphanedLocks"
        assert shown.get("@counter@orphan") == ("" if released else "ghost")
        assert ("@counter@empty" in shown) is released

    def test_a_lock_can_be_taken_by_force_with_a_reason(self, runtime, entities, workers, caplog):
        orchestrations, _ = workers
        ask_for_locks(runtime, orchestrations, x=(A,), y=(A,))
        orchestrations.next()
        unlock = {UNLOCK_METADATA: '{"entity": "@counter@a", "reason": "x hangs\\n\\u001b[2Jand forges"}'}
        assert runtime.call("CleanEntityStorage", **unlock).orphanedLocksReleased == 1
        assert kinds(orchestrations.next()) == ["orchestratorStarted", "entityLockGranted"]
        assert "taken from x by force: x hangs [2Jand forges" in caplog.text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"entity": "a", "reason": "r"}',
            '{"entity": "@a@b", "reason": " "}',
            r'{"entity": "@a@\ud800", "reason": "r"}',
        ],
    )
    def test_force_needs_an_entity_and_a_reason(self, runtime, text):
        with pytest.raises(HubError, match="reason") as refusal:
            runtime.call("CleanEntityStorage", **{UNLOCK_METADATA: text})
        assert refusal.value.code == "INVALID_ARGUMENT"

    def test_owners_of_locks_are_not_terminated_ungracefully(self, runtime, workers):
        """Section 1.2, SkipGracefulOrchestrationTerminations."""
        orchestrations, _ = workers
        runtime.start("a")
        runtime.answer(orchestrations.next(), lock(1, A)).result(5)
        request = pb.SkipGracefulOrchestrationTerminationsRequest()
        request.instanceBatch.instanceIds.append("a")
        left = runtime.call("SkipGracefulOrchestrationTerminations", request)
        assert list(left.unterminatedInstanceIds) == ["a"]


class TestStorageFailures:
    def test_a_signal_that_could_not_be_written_never_was(self, runtime, entities):
        runtime.storage.fail_next_writes(1)
        with pytest.raises(HubError, match="try again"):
            entities.signal(name="lost")
        worker = runtime.worker()
        entities.signal(name="kept")
        assert operations(worker.next()) == ["kept"]

    def test_a_batch_whose_answer_could_not_be_written_runs_again(self, runtime, entities):
        """Checklist 14."""
        worker = runtime.worker(capabilities=[warm.ENTITY_CAPABILITY])
        entities.signal()
        item = worker.next()
        runtime.storage.fail_next_writes(1)
        with pytest.raises(HubError, match="try again"):
            entities.answer(item, "1").result(5)
        again = worker.next()
        assert (operations(again), again.entityRequestV2.HasField("entityState")) == (["add"], False)
        entities.answer(again, "2").result(5)
        assert entities.state() == "2"

    def test_an_entity_that_cannot_be_read_is_taken_up_later(self, runtime, entities):
        entities.signal()
        runtime.storage.failing.add("load_entity")
        runtime.storage.fail_next_writes(1)
        with pytest.raises(HubError, match="try again"):
            entities.signal(name="lost")
        with pytest.raises(HubError, match="try again"):
            entities.get()
        runtime.storage.failing.clear()
        assert operations(runtime.worker().next()) == ["add"]


def test_idle_entities_leave_memory_and_come_back(small):
    entities = Entities(small)
    worker = small.worker()
    for number in range(5):
        entities.signal(f"@counter@{number}")
        entities.answer(worker.next(), str(number)).result(5)
    assert [entities.state(f"@counter@{number}") for number in range(5)] == ["0", "1", "2", "3", "4"]
