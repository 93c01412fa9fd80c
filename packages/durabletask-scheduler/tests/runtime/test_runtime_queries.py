"""Queries, lists, purges and histories."""

from __future__ import annotations

import base64
import json

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.queries import instance_history
from google.protobuf.wrappers_pb2 import StringValue


def finish(runtime, do, *instance_ids):
    worker = runtime.worker()
    for _ in instance_ids:
        turn = worker.next()
        if turn.orchestratorRequest.instanceId in instance_ids:
            runtime.answer(turn, do.complete()).result(5)
    worker.cancel()


def query(runtime, token=None, metadata=None, **fields):
    instance_query = pb.InstanceQuery(continuationToken=None if token is None else StringValue(value=token), **fields)
    return runtime.call("QueryInstances", pb.QueryInstancesRequest(query=instance_query), **(metadata or {}))


def found(response):
    return [state.instanceId for state in response.orchestrationState]


def by(**conditions):
    return {"durabletask-query": json.dumps(conditions)}


# -- QueryInstances --


def test_pages_are_full_and_the_last_has_no_token(runtime):
    expected = [runtime.start(f"a{number}") for number in range(5)]
    first = query(runtime, maxInstanceCount=2)
    second = query(runtime, first.continuationToken.value, maxInstanceCount=2)
    third = query(runtime, second.continuationToken.value, maxInstanceCount=2)
    assert [found(page) for page in (first, second, third)] == [expected[:2], expected[2:4], expected[4:]]
    assert not third.HasField("continuationToken")


def test_a_page_that_ends_with_the_data_has_no_token(runtime):
    runtime.start("a")
    assert not query(runtime, maxInstanceCount=1).HasField("continuationToken")
    assert not query(runtime).HasField("continuationToken")


def test_conditions_are_combined(runtime, do):
    for number in range(3):
        runtime.start(f"a{number}")
    runtime.start("b")
    finish(runtime, do, "a0", "a1", "a2", "b")
    runtime.start("a9")
    completed = [pb.ORCHESTRATION_STATUS_COMPLETED]
    assert found(query(runtime, instanceIdPrefix=StringValue(value="a"))) == ["a0", "a1", "a2", "a9"]
    assert found(query(runtime, instanceIdPrefix=StringValue(value="a"), runtimeStatus=completed)) == ["a0", "a1", "a2"]
    created = runtime.get("b").orchestrationState.createdTimestamp
    assert found(query(runtime, createdTimeFrom=created)) == ["b", "a9"]
    assert found(query(runtime, createdTimeTo=created)) == ["a0", "a1", "a2"]


def test_payloads_come_only_if_asked_for(runtime):
    runtime.start("a", input=StringValue(value="5"))
    assert not query(runtime).orchestrationState[0].HasField("input")
    assert query(runtime, fetchInputsAndOutputs=True).orchestrationState[0].input.value == "5"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"name": "order"}, ["new", "old"]),
        ({"version": "1.0.0"}, ["old"]),
        ({"version": ""}, ["refund"]),
        ({"name": "order", "version": "2.0.0"}, ["new"]),
        ({"tags": {"team": "red"}}, ["old", "refund"]),
        ({"tags": {"team": "red"}, "name": "order"}, ["old"]),
        ({}, ["new", "old", "refund"]),
    ],
)
def test_instances_are_found_by_name_version_and_tags(runtime, conditions, expected):
    """R25."""
    runtime.start("old", version=StringValue(value="1.0.0"), tags={"team": "red", "size": "s"})
    runtime.start("new", version=StringValue(value="2.0.0"), tags={"team": "blue"})
    runtime.start("refund", name="refund", tags={"team": "red"})
    assert sorted(found(query(runtime, metadata=by(**conditions)))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        '"x"',
        '{"nam": "x"}',
        '{"name": 1}',
        '{"tags": ["x"]}',
        '{"tags": {"x": 1}}',
        r'{"name": "\ud800"}',
        r'{"version": "\udfff"}',
        r'{"tags": {"x": "\ud800"}}',
        r'{"tags": {"\ud800": "x"}}',
    ],
)
def test_malformed_conditions_are_refused(runtime, text):
    with pytest.raises(HubError, match="durabletask-query") as refusal:
        query(runtime, metadata={"durabletask-query": text})
    assert refusal.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("status", [[-1], [99], range(-300, 0)])
def test_a_status_that_is_not_known_matches_nothing(runtime, status):
    runtime.start("a")
    assert found(query(runtime, runtimeStatus=status)) == []
    assert found(query(runtime, runtimeStatus=[*status, pb.ORCHESTRATION_STATUS_PENDING])) == ["a"]


def token(*fields):
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


@pytest.mark.parametrize(
    "foreign",
    [
        "0",
        "not base64!",
        "é",
        base64.b64encode(b"\xff\xfe").decode(),
        token(),
        token(2, "QueryInstances", 1, 1),
        token(1, "ListInstanceIds", 1, 1),
        token(1, "QueryInstances", 1),
        token(1, "QueryInstances", "1", 1),
        token(1, "QueryInstances", True, 1),
        token(1, "QueryInstances", -1, 1),
        token(1, "QueryInstances", 2**63, 1),
    ],
)
def test_foreign_continuation_tokens_are_refused(runtime, foreign):
    with pytest.raises(HubError, match="continuation token") as refusal:
        query(runtime, foreign)
    assert refusal.value.code == "INVALID_ARGUMENT"


def test_a_negative_page_size_is_refused(runtime):
    with pytest.raises(HubError) as refusal:
        query(runtime, maxInstanceCount=-1)
    assert refusal.value.code == "INVALID_ARGUMENT"


# -- ListInstanceIds --


def test_completed_instances_are_listed_in_pages(runtime, do):
    names = [runtime.start(f"a{number}") for number in range(3)]
    finish(runtime, do, *names)
    runtime.start("live")
    first = runtime.call(
        "ListInstanceIds", pb.ListInstanceIdsRequest(pageSize=2, lastInstanceKey=StringValue(value=""))
    )
    second = runtime.call(
        "ListInstanceIds", pb.ListInstanceIdsRequest(pageSize=2, lastInstanceKey=first.lastInstanceKey)
    )
    assert len(first.instanceIds) == 2
    assert sorted([*first.instanceIds, *second.instanceIds]) == names
    assert not second.HasField("lastInstanceKey")


# -- PurgeInstances --


def purge(runtime, **fields):
    response = runtime.call("PurgeInstances", pb.PurgeInstancesRequest(**fields))
    return response.deletedInstanceCount, response.isComplete.value


def test_a_completed_instance_is_purged_and_its_id_is_free(runtime, do):
    runtime.start("a")
    finish(runtime, do, "a")
    assert purge(runtime, instanceId="a") == (1, True)
    assert purge(runtime, instanceId="a") == (0, True)
    assert not runtime.get("a").exists
    runtime.start("a")
    assert runtime.status("a") == "PENDING"


def test_a_running_instance_is_not_purged(runtime):
    """R24, lesson 52."""
    runtime.start("a")
    with pytest.raises(HubError) as refusal:
        purge(runtime, instanceId="a")
    assert refusal.value.code == "FAILED_PRECONDITION"
    assert purge(runtime, instanceBatch=pb.InstanceBatch(instanceIds=["a", "none"])) == (0, True)
    assert purge(runtime, purgeInstanceFilter=pb.PurgeInstanceFilter()) == (0, True)
    assert runtime.get("a").exists


def test_a_recursive_purge_reaches_grandchildren_and_spares_the_living(runtime, do):
    """Lesson 51."""
    worker = runtime.worker()
    runtime.start("top")
    runtime.answer(worker.next(), do.child(1, "mid"), do.child(2, "live")).result(5)
    live_or_mid = {}
    for _ in range(2):
        turn = worker.next()
        live_or_mid[turn.orchestratorRequest.instanceId] = turn
    runtime.answer(live_or_mid["mid"], do.child(1, "leaf")).result(5)
    runtime.answer(worker.next(), do.complete()).result(5)
    runtime.answer(worker.next(), do.complete()).result(5)
    runtime.answer(worker.next(), do.complete()).result(5)
    assert [runtime.status(name) for name in ("top", "mid", "leaf", "live")] == ["COMPLETED"] * 3 + ["PENDING"]
    assert purge(runtime, instanceId="top", recursive=True) == (3, True)
    assert runtime.get("live").exists
    assert not runtime.get("leaf").exists


def test_a_filter_purges_in_batches_what_has_the_status(runtime, do):
    names = [runtime.start(f"a{number}") for number in range(3)]
    finish(runtime, do, *names)
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId=runtime.start("ended")))
    runtime.start("live")
    terminated = pb.PurgeInstanceFilter(runtimeStatus=[pb.ORCHESTRATION_STATUS_TERMINATED])
    assert purge(runtime, purgeInstanceFilter=terminated) == (1, True)
    running = pb.PurgeInstanceFilter(runtimeStatus=[pb.ORCHESTRATION_STATUS_RUNNING])
    assert purge(runtime, purgeInstanceFilter=running) == (0, True)
    assert purge(runtime, purgeInstanceFilter=pb.PurgeInstanceFilter()) == (3, True)
    assert runtime.status("live") == "PENDING"


def test_a_purge_that_runs_out_of_time_says_so(runtime, do):
    runtime.start("a")
    finish(runtime, do, "a")
    chosen = pb.PurgeInstanceFilter()
    chosen.timeout.FromNanoseconds(0)
    assert purge(runtime, purgeInstanceFilter=chosen) == (0, False)


def test_a_batch_has_a_bound(runtime):
    with pytest.raises(HubError) as refusal:
        purge(runtime, instanceBatch=pb.InstanceBatch(instanceIds=["a"] * 501))
    assert refusal.value.code == "INVALID_ARGUMENT"


def test_a_batch_is_terminated_without_ceremony(runtime):
    runtime.start("a")
    request = pb.SkipGracefulOrchestrationTerminationsRequest(instanceBatch=pb.InstanceBatch(instanceIds=["a", "none"]))
    response = runtime.call("SkipGracefulOrchestrationTerminations", request)
    assert list(response.unterminatedInstanceIds) == ["none"]
    assert runtime.status("a") == "TERMINATED"


# -- StreamInstanceHistory --


def history(runtime, **fields):
    stream = runtime.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="a", **fields))
    events = [event for chunk in stream.rest() for event in chunk.events]
    if stream.error is not None:
        raise stream.error
    return events


def test_the_history_has_the_layout_of_the_protocol(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1)).result(5)
    runtime.result(worker.next()).result(5)
    runtime.answer(worker.next(), do.complete(2)).result(5)
    events = history(runtime)
    assert [event.WhichOneof("eventType") for event in events] == [
        "orchestratorStarted",
        "executionStarted",
        "taskScheduled",
        "orchestratorStarted",
        "taskCompleted",
        "executionCompleted",
    ]
    execution_id = events[1].executionStarted.orchestrationInstance.executionId
    assert history(runtime, executionId=execution_id) == events


def test_a_long_history_comes_in_chunks(runtime):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    for _ in range(5):
        runtime.call(
            "RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go", input=StringValue(value="x" * 100_000))
        )
    runtime.answer(turn).result(5)
    runtime.answer(worker.next()).result(5)
    stream = runtime.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="a"))
    chunks = stream.rest()
    assert len(chunks) == 3
    assert sum(len(chunk.events) for chunk in chunks) == 8


def test_a_slow_reader_of_a_history_is_waited_for(runtime):
    """However long the history, only a few chunks are under way at a time."""
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    for _ in range(12):
        event = pb.RaiseEventRequest(instanceId="a", name="go", input=StringValue(value="x" * 300_000))
        runtime.call("RaiseEvent", event)
    runtime.answer(turn).result(5)
    runtime.answer(worker.next()).result(5)
    stream = runtime.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="a"), slow=True)
    first = [stream.next() for _ in range(4)]
    runtime.get("a")
    assert stream.waiting == 0
    stream.slow = False
    stream.go_on()
    events = [event for chunk in (*first, *stream.rest()) for event in chunk.events]
    assert sum(event.HasField("eventRaised") for event in events) == 12


@pytest.mark.parametrize("fields", [{}, {"executionId": StringValue(value="another")}])
def test_a_history_that_is_not_there_is_not_found(runtime, fields):
    if fields:
        runtime.start("a")
    with pytest.raises(HubError) as refusal:
        history(runtime, **fields)
    assert refusal.value.code == "NOT_FOUND"


class Interrupted:
    """The store as a reader sees it; after the first read of a history something is committed."""

    def __init__(self, storage, interrupt):
        self._interrupt = interrupt
        self.load, self._history = storage.load, storage.history
        self.reads = 0

    def history(self, key):
        self.reads += 1
        if self.reads == 1:
            self._interrupt()
        return self._history(key)


def read_past(storage, wanted=lambda: True, **fields):
    request = pb.StreamInstanceHistoryRequest(instanceId="a", **fields)
    return list(instance_history(storage, "default", request, wanted))


def raised(runtime):
    runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))


def test_a_history_is_read_once_although_the_instance_goes_on(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1)).result(5)
    runtime.result(worker.next()).result(5)
    turn = worker.next()
    before = history(runtime)

    def go_on():
        runtime.answer(turn, do.activity(2)).result(5)
        runtime.result(worker.next()).result(5)
        runtime.answer(worker.next(), do.complete(3)).result(5)

    storage = Interrupted(runtime.storage, go_on)
    assert read_past(storage) == before
    assert storage.reads == 1
    assert len(history(runtime)) > len(before)


def test_an_instance_that_begins_meanwhile_has_no_history_yet(runtime):
    worker = runtime.worker()
    runtime.start("a")
    storage = Interrupted(runtime.storage, lambda: runtime.answer(worker.next()).result(5))
    assert read_past(storage) == []
    assert storage.reads == 1


@pytest.mark.parametrize("named", [False, True])
def test_a_history_is_never_of_two_generations(runtime, do, named):
    worker = runtime.worker()
    runtime.start("a", input=StringValue(value="1"))
    runtime.answer(worker.next()).result(5)
    execution_id = runtime.get("a").orchestrationState.executionId

    def next_generation():
        raised(runtime)
        again = do.complete(1, result="2", status=pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW)
        runtime.answer(worker.next(), again).result(5)
        runtime.answer(worker.next()).result(5)

    storage = Interrupted(runtime.storage, next_generation)
    if named:
        with pytest.raises(HubError) as refusal:
            read_past(storage, executionId=execution_id)
        assert refusal.value.code == "NOT_FOUND"
        return
    started = read_past(storage)[1].executionStarted
    assert started.orchestrationInstance.executionId != execution_id
    assert started.input.value == "2"
    assert storage.reads == 2


def test_a_history_of_a_rewound_instance_is_that_of_its_new_execution(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete(1, status=pb.ORCHESTRATION_STATUS_FAILED)).result(5)
    storage = Interrupted(
        runtime.storage, lambda: runtime.call("RewindInstance", pb.RewindInstanceRequest(instanceId="a"))
    )
    events = read_past(storage)
    assert storage.reads == 2
    assert events == history(runtime)
    assert not any(event.HasField("executionCompleted") for event in events)


def test_a_history_that_nobody_waits_for_is_not_read_again(runtime):
    runtime.start("a")
    storage = Interrupted(runtime.storage, lambda: None)
    assert read_past(storage, lambda: False) == []
    assert storage.reads == 0
