"""What is refused, with which code and advice, and that the scheduler serves on afterwards."""

from __future__ import annotations

import socket
import time

import grpc
import pytest
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_scheduler.hub.model import Limits
from durabletask_scheduler.server import ServerOptions
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

PATH = "/TaskHubSidecarService/"
MEBIBYTE = 1024 * 1024
LONG = "x" * 1_025
STATUSES = ("PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "FAILED", "TERMINATED")
LIVE = {"PENDING", "RUNNING", "SUSPENDED"}


@pytest.fixture
def still_serves(site, do):
    """Checks at the end of the test that an orchestration runs from its start to its end."""
    yield
    worker = site.worker("other")
    metadata = (("taskhub", "other"),)
    site.stub.StartInstance(pb.CreateInstanceRequest(instanceId="afterwards", name="order"), metadata=metadata)
    worker.step(do.complete(1, "served"))
    found = site.stub.GetInstance(
        pb.GetInstanceRequest(instanceId="afterwards", getInputsAndOutputs=True), metadata=metadata
    )
    assert found.orchestrationState.output.value == "served"


def bring_to(site, do, status: str) -> None:
    """An instance ``a`` in that status."""
    if status == "PENDING":
        site.start("a")
        return
    worker = site.worker()
    site.start("a")
    endings = {"COMPLETED": [do.complete(1, "old")], "FAILED": [do.fail()]}
    worker.step(*endings.get(status, []))
    worker.close()
    if status == "SUSPENDED":
        site.suspend("a")
    elif status == "TERMINATED":
        site.terminate("a")


def policy(*statuses: str) -> pb.OrchestrationIdReusePolicy:
    values = [pb.OrchestrationStatus.Value(f"ORCHESTRATION_STATUS_{status}") for status in statuses]
    return pb.OrchestrationIdReusePolicy(replaceableStatus=values)


class TestReuseOfIds:
    """Scenario 24: the table of the protocol, on each status that an existing instance may have."""

    @pytest.mark.parametrize("status", STATUSES)
    def test_without_a_policy_an_ended_instance_is_replaced_and_a_live_one_is_not(self, site, do, tools, status):
        bring_to(site, do, status)
        before = site.state("a").executionId.value
        if status in LIVE:
            code, details = tools.refused(lambda: site.start("a"))
            assert (code, "'a'" in details) == ("ALREADY_EXISTS", True)
            assert site.state("a").executionId.value == before
        else:
            site.start("a")
            assert site.status("a") == "PENDING"
            assert site.state("a").executionId.value != before

    @pytest.mark.parametrize("status", STATUSES)
    def test_an_empty_policy_never_replaces(self, site, do, tools, status):
        bring_to(site, do, status)
        assert tools.refused(lambda: site.start("a", orchestrationIdReusePolicy=policy()))[0] == "ALREADY_EXISTS"
        assert site.status("a") == status

    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("listed", [True, False])
    def test_a_policy_replaces_what_it_lists_and_nothing_else(self, site, do, tools, status, listed):
        bring_to(site, do, status)
        before = site.state("a").executionId.value
        chosen = {status, "TERMINATED"} if listed else set(STATUSES) - {status}
        if not listed and status == "TERMINATED":
            chosen -= LIVE
        wanted = policy(*sorted(chosen))
        if listed:
            site.start("a", orchestrationIdReusePolicy=wanted)
            assert site.state("a").executionId.value != before
        else:
            code, _ = tools.refused(lambda: site.start("a", orchestrationIdReusePolicy=wanted))
            assert code == "ALREADY_EXISTS"

    def test_a_policy_that_could_not_be_honoured_is_refused(self, site, tools, still_serves):
        code, details = tools.refused(lambda: site.start("a", orchestrationIdReusePolicy=policy("RUNNING")))
        assert code == "INVALID_ARGUMENT"
        expected = "cannot exclude 'Terminated' while also allowing reuse of running instances"
        assert expected in details

    def test_replacing_a_running_instance_ends_its_work_and_its_waits(self, site, do):
        worker = site.worker()
        site.start("a")
        worker.step(do.activity(1))
        old = worker.activity()
        site.start("a", orchestrationIdReusePolicy=policy("RUNNING", "TERMINATED"))
        worker.result(old, "old")
        worker.step(do.complete(1, "new"))
        assert site.wait("a").output.value == "new"
        assert "taskCompleted" not in site.kinds("a")


MISSING = {
    "RaiseEvent": (pb.RaiseEventRequest(instanceId="missing", name="go"), "NOT_FOUND"),
    "TerminateInstance": (pb.TerminateRequest(instanceId="missing"), None),
    "SuspendInstance": (pb.SuspendRequest(instanceId="missing"), "NOT_FOUND"),
    "ResumeInstance": (pb.ResumeRequest(instanceId="missing"), "NOT_FOUND"),
    "RewindInstance": (pb.RewindInstanceRequest(instanceId="missing"), "NOT_FOUND"),
    "RestartInstance": (pb.RestartInstanceRequest(instanceId="missing"), "NOT_FOUND"),
}


@pytest.mark.parametrize("rpc", sorted(MISSING))
def test_an_unknown_instance_per_call(site, tools, rpc, still_serves):
    request, expected = MISSING[rpc]
    call = getattr(site.stub, rpc)
    if expected is None:
        call(request)
        return
    code, details = tools.refused(lambda: call(request))
    assert (code, "'missing'" in details) == (expected, True)


def test_an_unknown_instance_does_not_exist_has_nothing_to_purge_and_no_history(site, tools):
    assert not site.get("missing").exists
    purged = site.stub.PurgeInstances(pb.PurgeInstancesRequest(instanceId="missing", isOrchestration=True))
    assert (purged.deletedInstanceCount, purged.isComplete.value) == (0, True)
    assert tools.refused(lambda: site.history("missing"))[0] == "NOT_FOUND"


@pytest.mark.parametrize("rpc", ["WaitForInstanceStart", "WaitForInstanceCompletion"])
def test_a_wait_for_an_unknown_instance_is_held_until_it_exists(site, do, rpc):
    waiting = site.begin_wait("a", rpc)
    worker = site.worker()
    assert not waiting.done()
    site.start("a")
    worker.step(do.complete())
    assert waiting.result().exists


def test_a_wait_s_deadline_passes_with_the_code_that_clients_expect(site, tools):
    site.start("a")
    assert tools.refused(lambda: site.begin_wait("a", timeout=0.1).result())[0] == "DEADLINE_EXCEEDED"


STATE_ERRORS = {
    "rewind of a running instance": (lambda site: site.rewind("a"), "only a failed instance can be rewound"),
    "restart of a running instance": (
        lambda site: site.stub.RestartInstance(pb.RestartInstanceRequest(instanceId="a")),
        "restart it under a new one",
    ),
    "purge of a running instance": (
        lambda site: site.stub.PurgeInstances(pb.PurgeInstancesRequest(instanceId="a", isOrchestration=True)),
        "terminate it first",
    ),
}


@pytest.mark.parametrize("what", sorted(STATE_ERRORS))
def test_the_wrong_state_is_a_failed_precondition_with_advice(site, do, tools, what, still_serves):
    bring_to(site, do, "RUNNING")
    call, advice = STATE_ERRORS[what]
    code, details = tools.refused(lambda: call(site))
    assert (code, advice in details) == ("FAILED_PRECONDITION", True)
    assert site.status("a") == "RUNNING"


def test_requests_to_an_ended_instance_succeed_and_do_nothing(site, do):
    bring_to(site, do, "COMPLETED")
    before = site.kinds("a")
    site.raise_event("a")
    site.suspend("a")
    site.resume("a")
    site.terminate("a", '"late"')
    assert site.kinds("a") == before
    assert site.state("a").output.value == "old"


@pytest.mark.parametrize("rpc", ["Hello", "StartInstance", "GetInstance", "QueryInstances", "CompleteOrchestratorTask"])
def test_an_unknown_task_hub_is_not_found(site, tools, rpc, still_serves):
    descriptor = pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"].methods_by_name[rpc]
    call = site.channel.unary_unary(PATH + rpc)
    code, details = tools.refused(lambda: call(b"", metadata=(("taskhub", "nowhere"),), timeout=10))
    assert descriptor.name == rpc
    assert (code, details) == ("NOT_FOUND", "Task hub not found: nowhere")


def test_an_unknown_task_hub_ends_a_worker_s_stream(site):
    stream = site.stub.GetWorkItems(pb.GetWorkItemsRequest(), metadata=(("taskhub", "nowhere"),))
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", "Task hub not found: nowhere")


def a_timestamp(seconds: int, nanos: int = 0) -> pb.CreateInstanceRequest:
    request = pb.CreateInstanceRequest(instanceId="a", name="order")
    request.scheduledStartTimestamp.seconds = seconds
    request.scheduledStartTimestamp.nanos = nanos
    return request


BAD_STARTS = {
    "empty name": (pb.CreateInstanceRequest(instanceId="a"), "is empty"),
    "long name": (pb.CreateInstanceRequest(instanceId="a", name=LONG), "at most 1024"),
    "control characters in the name": (pb.CreateInstanceRequest(instanceId="a", name="a\tb"), "leave them out"),
    "long id": (pb.CreateInstanceRequest(instanceId=LONG, name="order"), "at most 1024"),
    "long id in another script": (pb.CreateInstanceRequest(instanceId="ф" * 600, name="order"), "1200 bytes"),
    "an entity's id": (pb.CreateInstanceRequest(instanceId="@counter@a", name="order"), "reserved for entities"),
    "control characters in the id": (pb.CreateInstanceRequest(instanceId="a\0", name="order"), "leave them out"),
    "line break in the id": (pb.CreateInstanceRequest(instanceId="a\nb", name="order"), "leave them out"),
    "year 0": (a_timestamp(-62_135_596_801), "between the years 1 and 9999"),
    "year 10000": (a_timestamp(253_402_300_800), "between the years 1 and 9999"),
    "too many nanoseconds": (a_timestamp(0, 1_000_000_000), "between the years 1 and 9999"),
    "too many tags": (
        pb.CreateInstanceRequest(instanceId="a", name="order", tags={str(n): "" for n in range(1_001)}),
        "at most 1000",
    ),
    "large tags": (
        pb.CreateInstanceRequest(instanceId="a", name="order", tags={"a": "x" * 65_536}),
        "pass data as input instead",
    ),
}


@pytest.mark.parametrize("what", sorted(BAD_STARTS))
def test_a_bad_start_is_an_invalid_argument_that_says_what_to_do(site, tools, what, still_serves):
    request, advice = BAD_STARTS[what]
    code, details = tools.refused(lambda: site.stub.StartInstance(request))
    assert (code, advice in details) == ("INVALID_ARGUMENT", True), details
    assert not site.get("a").exists


def query(**fields) -> pb.QueryInstancesRequest:
    return pb.QueryInstancesRequest(query=pb.InstanceQuery(**fields))


OTHER_BAD_REQUESTS = {
    "event without a name": ("RaiseEvent", pb.RaiseEventRequest(instanceId="a"), "is empty"),
    "event with a long name": ("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name=LONG), "at most 1024"),
    "wait without an id": ("WaitForInstanceCompletion", pb.GetInstanceRequest(), "is empty"),
    "wait with a long id": ("WaitForInstanceStart", pb.GetInstanceRequest(instanceId=LONG), "at most 1024"),
    "foreign page token": (
        "QueryInstances",
        query(continuationToken=StringValue(value="MTIzNDU=")),
        "pass the token of the last page unchanged",
    ),
    "page token that is not even base64": (
        "QueryInstances",
        query(continuationToken=StringValue(value="%%%")),
        "pass the token of the last page unchanged",
    ),
    "page token of another query": (
        "ListInstanceIds",
        pb.ListInstanceIdsRequest(lastInstanceKey=StringValue(value="WzEsIlF1ZXJ5SW5zdGFuY2VzIiwxLDFd")),
        "ListInstanceIds of this scheduler",
    ),
    "negative page": ("QueryInstances", query(maxInstanceCount=-1), "expected 0 (for 100) or more"),
    "purge of nothing": ("PurgeInstances", pb.PurgeInstancesRequest(), "needs an instance id, a filter or a batch"),
    "purge of too many": (
        "PurgeInstances",
        pb.PurgeInstancesRequest(instanceBatch=pb.InstanceBatch(instanceIds=["x"] * 501)),
        "split it",
    ),
}


@pytest.mark.parametrize("what", sorted(OTHER_BAD_REQUESTS))
def test_a_bad_request_is_an_invalid_argument_that_says_what_to_do(site, tools, what, still_serves):
    rpc, request, advice = OTHER_BAD_REQUESTS[what]
    code, details = tools.refused(lambda: getattr(site.stub, rpc)(request, timeout=10))
    assert (code, advice in details) == ("INVALID_ARGUMENT", True), details


@pytest.mark.parametrize("text", ["{", "[]", '{"color": "red"}', '{"tags": {"a": 1}}', "[" * 5_000])
def test_bad_conditions_of_a_query_are_refused(site, tools, text, still_serves):
    metadata = (("durabletask-query", text),)
    code, details = tools.refused(lambda: site.stub.QueryInstances(query(), metadata=metadata))
    assert (code, "expected a JSON object" in details) == ("INVALID_ARGUMENT", True)


ADDITIONS = additions_pb.DESCRIPTOR.services_by_name["SchedulerAdditions"]
METHODS = [
    *((PATH, method) for method in pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"].methods),
    *((f"/{additions.SERVICE}/", method) for method in ADDITIONS.methods),
]
WITH_FIELDS = {path + method.name: method.server_streaming for path, method in METHODS if method.input_type.fields}


@pytest.mark.parametrize("path", sorted(WITH_FIELDS))
def test_bytes_that_are_no_message_are_refused(site, tools, path, still_serves):
    make = site.channel.unary_stream if WITH_FIELDS[path] else site.channel.unary_unary
    call = make(path)
    code, details = tools.refused(lambda: list(call(b"\xff", timeout=10)))
    assert (code, "expects a serialized" in details) == ("INVALID_ARGUMENT", True)


def test_a_method_that_does_not_exist_is_unimplemented(site, tools, still_serves):
    call = site.channel.unary_unary(PATH + "Nothing")
    assert tools.refused(lambda: call(b"", timeout=10))[0] == "UNIMPLEMENTED"


class TestLargeRequests:
    @pytest.fixture
    def server_options(self):
        return ServerOptions(max_receive_bytes=MEBIBYTE)

    def test_one_beyond_the_limit_is_refused_with_both_sizes(self, site, tools, still_serves):
        code, details = tools.refused(lambda: site.start("a", input=tools.text("x" * 2 * MEBIBYTE)))
        assert code == "RESOURCE_EXHAUSTED"
        assert str(MEBIBYTE) in details
        assert not site.get("a").exists

    def test_the_largest_that_is_allowed_passes(self, site, tools):
        site.start("a", input=tools.text("x" * (MEBIBYTE - 100)))
        assert len(site.state("a").input.value) == MEBIBYTE - 100


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100_000]
)
def test_what_is_not_grpc_harms_nobody(site, data, still_serves):
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        try:
            connection.sendall(data)
            while connection.recv(4096):
                pass
        except (ConnectionError, TimeoutError):
            pass


class TestBadAnswers:
    """What workers send; a turn that cannot be committed fails the orchestration visibly or comes again."""

    @pytest.fixture
    def service_options(self):
        limits = Limits(tags=2, custom_status_bytes=10, actions=5, history_events=40, inbox_events=3, failure_depth=4)
        return {"limits": limits, "history_warning": 10}

    @pytest.mark.parametrize(
        ("make", "error", "says"),
        [
            (lambda do: do.activity(1, ""), "InvalidOrchestratorAction", "is empty"),
            (lambda do: do.activity(1, tags={c: c for c in "abc"}), "InvalidOrchestratorAction", "at most 2"),
            (lambda do: do.child(1, "@e@k"), "InvalidOrchestratorAction", "reserved for entities"),
            (lambda do: do.child(1, LONG), "InvalidOrchestratorAction", "at most 1024"),
            (lambda do: do.timer(1, seconds=10**12), "InvalidOrchestratorAction", "years 1 and 9999"),
            (lambda do: do.again("1", *"abcd"), "InvalidOrchestratorAction", "at most 3 may wait"),
            (lambda do: pb.OrchestratorAction(id=1), "InvalidOrchestratorAction", "does not support"),
        ],
    )
    def test_an_action_that_cannot_be_carried_out_fails_the_orchestration(self, site, do, make, error, says):
        worker = site.worker()
        site.start("a")
        worker.step(make(do))
        details = site.wait("a").failureDetails
        assert (details.errorType, says in details.errorMessage) == (error, True), details

    def test_too_many_actions_in_a_turn(self, site, do):
        worker = site.worker()
        site.start("a")
        worker.step(*[do.activity(number) for number in range(6)])
        assert site.wait("a").failureDetails.errorType == "TooManyActions"

    def test_too_large_a_custom_status(self, site, do, tools):
        worker = site.worker()
        site.start("a")
        worker.step(do.timer(1), customStatus=tools.text("x" * 11))
        state = site.wait("a")
        assert state.failureDetails.errorType == "CustomStatusTooLarge"
        assert not state.HasField("customStatus")

    def test_a_history_beyond_its_limit_fails_with_the_reason_after_a_warning(self, site, do, caplog):
        worker = site.worker()
        site.start("a")
        worker.step(do.timer(1))
        number = 1
        while site.status("a") == "RUNNING":
            number += 1
            worker.step(do.timer(number))
        details = site.wait("a").failureDetails
        assert details.errorType == "HistoryTooLong"
        assert "continue-as-new" in details.errorMessage
        assert len(site.history("a")) <= 40 + 2  # what ends it is kept too
        assert sum("use continue-as-new" in message for message in caplog.messages) == 1

    def test_a_failure_nested_too_deeply_is_cut_visibly_and_can_be_read_back(self, site, do):
        worker = site.worker()
        site.start("a")
        worker.step(do.activity(1))
        details = pb.TaskFailureDetails(errorType="E0", errorMessage="outermost")
        inner = details
        for number in range(1, 60):
            inner = inner.innerFailure
            inner.errorType = f"E{number}"
        value = details.properties["deep"]
        for _ in range(20):
            value = value.list_value.values.add()
        value.string_value = "far down"
        worker.result(worker.activity(), None, failureDetails=details)
        site.restart()
        worker = site.worker()
        item = worker.turn()
        kept = item.orchestratorRequest.newEvents[-1].taskFailed.failureDetails
        assert kept.errorMessage == "outermost"
        assert "nested too deeply" in kept.properties["deep"].string_value
        assert "nested too deeply" in str(kept.innerFailure)
        worker.answer(item, do.complete(2, None, "FAILED", failureDetails=details))
        assert "nested too deeply" in str(site.wait("a").failureDetails)
        assert site.kinds("a")[-1] == "executionCompleted"

    def test_events_beyond_what_may_wait(self, site, do, tools):
        """A client is refused; an event of another orchestration fails the receiver, visibly."""
        worker = site.worker()
        site.start("a")
        worker.step()
        site.suspend("a")
        worker.step()
        for _ in range(3):
            site.raise_event("a")
        code, details = tools.refused(lambda: site.raise_event("a"))
        assert code == "RESOURCE_EXHAUSTED"
        assert "raise the event again when it has processed some" in details
        site.start("b")
        worker.step(do.send(1, "a"), do.complete(2))
        failure = site.wait("a").failureDetails
        assert failure.errorType == "TooManyEvents"
        assert "'go'" in failure.errorMessage
        assert site.status("b") == "COMPLETED"

    def test_a_count_of_events_that_makes_no_sense_is_refused_and_the_turn_comes_again(self, site, do, tools):
        worker = site.worker()
        site.start("a")
        item = worker.turn()
        code, details = tools.refused(
            lambda: worker.answer(item, do.complete(), numEventsProcessed=Int32Value(value=9))
        )
        assert (code, "expected 2 to 2" in details) == ("INVALID_ARGUMENT", True)
        worker.step(do.complete())
        assert site.status("a") == "COMPLETED"


class TestWaitsAreBounded:
    @pytest.fixture
    def service_options(self):
        return {"parked_waits": 10}

    def test_one_too_many_is_refused_with_advice_and_room_is_given_back(self, site, do, tools):
        site.start("a")
        waits = [site.begin_wait("a") for _ in range(11)]
        tools.eventually(lambda: any(wait.done() for wait in waits))
        # Calls may overtake each other on the way.
        (late,) = (wait for wait in waits if wait.done())
        waits.remove(late)
        assert late.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "GetInstance now and then" in late.details()
        assert _is_refused(site)
        for wait in waits[:5]:
            wait.cancel()
        tools.eventually(lambda: not _is_refused(site))
        worker = site.worker()
        worker.step(do.complete())
        assert all(wait.result().exists for wait in waits[5:])


def _is_refused(site) -> bool:
    try:
        site.begin_wait("a", timeout=0.2).result()
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


def test_stopping_with_everything_open_takes_no_longer_than_a_moment(site):
    """Workers, waiters, health watchers: none of them may hold a scheduler that was told to stop."""
    site.worker()
    site.start("a")
    waiting = site.begin_wait("a")
    watch = site.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert next(watch) == b"\x08\x01"
    begun = time.monotonic()
    site.scheduler.stop()
    assert time.monotonic() - begun < 3
    assert waiting.exception().code() is grpc.StatusCode.UNAVAILABLE
    assert list(watch) == [b"\x08\x02"]
