"""What the clients send and how they read the answers, against a recording server; on threads and on asyncio."""

import asyncio
import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from durabletask import history
from durabletask.client import (
    AsyncTaskHubGrpcClient,
    BulkStartError,
    NewOrchestration,
    OrchestrationFailedError,
    OrchestrationQuery,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
    TaskHubGrpcClient,
    UnsupportedByServerError,
)
from durabletask.grpc_options import GrpcClientResiliencyOptions
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue, StringValue

NAIVE = datetime(2026, 1, 2, 3, 4, 5, 678901)
AWARE_SAME = NAIVE.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=5, minutes=30)))
METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"].methods}


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def text(value: str) -> StringValue:
    return StringValue(value=value)


@dataclass
class Received:
    rpc: str
    request: Any
    metadata: dict[str, Any]
    seconds_left: float | None
    peer: str


@dataclass
class RecordingHub(grpc.GenericRpcHandler):
    """Answers each RPC with what ``answers`` holds: a message, a status code, a function of the request,
    or a list of these, taken in order. A stream is a tuple of messages."""

    answers: dict[str, Any] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def service(self, details: Any) -> Any:
        method = METHODS.get(details.method.rpartition("/")[2])
        if method is None:
            return None
        request_type = getattr(pb, method.input_type.name, None)
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        return make(
            lambda request, context: self._answer(method, request, context),
            request_deserializer=request_type.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _answer(self, method: Any, request: Message, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        left = context.time_remaining()
        self.received.append(
            Received(method.name, request, metadata, left if left and left < 1e6 else None, context.peer())
        )
        answer = self.answers.get(method.name)
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as told")
        if isinstance(answer, tuple):
            return iter(answer)
        return getattr(pb, method.output_type.name)() if answer is None else answer


@pytest.fixture
def hub() -> Iterator[RecordingHub]:
    recording = RecordingHub()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[recording])
    recording.port = server.add_insecure_port("localhost:0")
    server.start()
    yield recording
    server.stop(None).wait()


Act = Callable[[Any], Any]
Invoke = Callable[..., Any]


@pytest.fixture(params=["threads", "asyncio"])
def invoke(request: pytest.FixtureRequest, hub: RecordingHub) -> Invoke:
    """Runs a function of a client, on either kind of client, and returns its result."""

    def on_threads(act: Act, **options: Any) -> Any:
        with TaskHubGrpcClient(**{"host_address": hub.address, **options}) as client:
            return act(client)

    def on_asyncio(act: Act, **options: Any) -> Any:
        async def main() -> Any:
            async with AsyncTaskHubGrpcClient(**{"host_address": hub.address, **options}) as client:
                return await act(client)

        return asyncio.run(main())

    return on_threads if request.param == "threads" else on_asyncio


def greet(ctx: Any, name: str) -> None:
    """An orchestrator, known here by its name only."""


STARTS = {
    "by function": (lambda c: c.schedule_new_orchestration(greet, instance_id="i"), {}),
    "by name": (lambda c: c.schedule_new_orchestration("greet", instance_id="i"), {}),
    "no input is no field": (lambda c: c.schedule_new_orchestration("greet", instance_id="i", input=None), {}),
    "falsy input is sent": (
        lambda c: c.schedule_new_orchestration("greet", instance_id="i", input=0),
        {"input": text("0")},
    ),
    "input as json": (
        lambda c: c.schedule_new_orchestration("greet", instance_id="i", input={"a": [1, "é"]}),
        {"input": text('{"a": [1, "\\u00e9"]}')},
    ),
    "version": (lambda c: c.schedule_new_orchestration("greet", instance_id="i", version="2"), {"version": text("2")}),
    "tags": (lambda c: c.schedule_new_orchestration("greet", instance_id="i", tags={"a": "b"}), {"tags": {"a": "b"}}),
    "naive start": (
        lambda c: c.schedule_new_orchestration("greet", instance_id="i", start_at=NAIVE),
        {"scheduledStartTimestamp": stamp(NAIVE)},
    ),
    "aware start": (
        lambda c: c.schedule_new_orchestration("greet", instance_id="i", start_at=AWARE_SAME),
        {"scheduledStartTimestamp": stamp(NAIVE)},
    ),
    "empty reuse policy is sent": (
        lambda c: c.schedule_new_orchestration(
            "greet", instance_id="i", reuse_id_policy=pb.OrchestrationIdReusePolicy()
        ),
        {"orchestrationIdReusePolicy": pb.OrchestrationIdReusePolicy()},
    ),
}


@pytest.mark.parametrize("act, fields", STARTS.values(), ids=STARTS.keys())
def test_start_sends_exactly_what_was_asked(
    invoke: Invoke, hub: RecordingHub, act: Act, fields: dict[str, Any]
) -> None:
    assert invoke(act) == "i"
    (received,) = hub.received
    assert received.request.HasField("requestTime")
    received.request.ClearField("requestTime")
    assert received.request == pb.CreateInstanceRequest(name="greet", instanceId="i", **fields)
    assert received.seconds_left is None


def test_generated_instance_ids_are_32_hexadecimal_digits(invoke: Invoke, hub: RecordingHub) -> None:
    instance_id = invoke(lambda c: c.schedule_new_orchestration("greet"))
    assert re.fullmatch("[0-9a-f]{32}", instance_id)
    assert hub.received[0].request.instanceId == instance_id


@pytest.mark.parametrize(("given", "sent"), [(None, "1.0"), ("", "1.0"), ("2.0", "2.0")])
def test_the_default_version_stands_in_for_a_missing_one(
    invoke: Invoke, hub: RecordingHub, given: str | None, sent: str
) -> None:
    """Lesson 13, as far as clients start orchestrations."""
    invoke(lambda c: c.schedule_new_orchestration("greet", version=given), default_version="1.0")
    assert hub.received[0].request.version.value == sent


def test_an_empty_instance_id_is_refused(invoke: Invoke, hub: RecordingHub) -> None:
    """Lesson 56: an empty id is an error, not a generated one."""
    with pytest.raises(ValueError, match="instance_id must not be empty"):
        invoke(lambda c: c.schedule_new_orchestration("greet", instance_id=""))
    assert hub.received == []


ORDERS = {
    "raise": (
        lambda c: c.raise_orchestration_event("i", "Approved", data=False),
        "RaiseEvent",
        pb.RaiseEventRequest(instanceId="i", name="Approved", input=text("false")),
    ),
    "raise without data": (
        lambda c: c.raise_orchestration_event("i", "Approved"),
        "RaiseEvent",
        pb.RaiseEventRequest(instanceId="i", name="Approved"),
    ),
    "terminate": (
        lambda c: c.terminate_orchestration("i", output={"why": 1}),
        "TerminateInstance",
        pb.TerminateRequest(instanceId="i", output=text('{"why": 1}'), recursive=True),
    ),
    "terminate alone": (
        lambda c: c.terminate_orchestration("i", recursive=False),
        "TerminateInstance",
        pb.TerminateRequest(instanceId="i"),
    ),
    "suspend": (
        lambda c: c.suspend_orchestration("i", reason="r"),
        "SuspendInstance",
        pb.SuspendRequest(instanceId="i", reason=text("r")),
    ),
    "resume": (lambda c: c.resume_orchestration("i"), "ResumeInstance", pb.ResumeRequest(instanceId="i")),
    "rewind": (
        lambda c: c.rewind_orchestration("i", reason="r"),
        "RewindInstance",
        pb.RewindInstanceRequest(instanceId="i", reason=text("r")),
    ),
}


@pytest.mark.parametrize("act, rpc, request_", ORDERS.values(), ids=ORDERS.keys())
def test_orders_send_one_request_without_a_deadline(
    invoke: Invoke, hub: RecordingHub, act: Act, rpc: str, request_: Message
) -> None:
    assert invoke(act) is None
    (received,) = hub.received
    assert (received.rpc, received.request, received.seconds_left) == (rpc, request_, None)


@pytest.mark.parametrize(("answered", "result"), [("other", "other"), ("", "i")])
def test_restart_returns_the_resulting_id(invoke: Invoke, hub: RecordingHub, answered: str, result: str) -> None:
    hub.answers["RestartInstance"] = pb.RestartInstanceResponse(instanceId=answered)
    assert invoke(lambda c: c.restart_orchestration("i", restart_with_new_instance_id=True)) == result
    assert hub.received[0].request == pb.RestartInstanceRequest(instanceId="i", restartWithNewInstanceId=True)


PURGES = {
    "one": (
        lambda c: c.purge_orchestration("i"),
        pb.PurgeInstancesRequest(instanceId="i", recursive=True, isOrchestration=True),
    ),
    "filter": (
        lambda c: c.purge_orchestrations_by(
            NAIVE, AWARE_SAME, [OrchestrationStatus.FAILED], timeout=timedelta(seconds=1.5)
        ),
        pb.PurgeInstancesRequest(
            purgeInstanceFilter=pb.PurgeInstanceFilter(
                createdTimeFrom=stamp(NAIVE),
                createdTimeTo=stamp(NAIVE),
                runtimeStatus=[pb.ORCHESTRATION_STATUS_FAILED],
                timeout=Duration(seconds=1, nanos=500_000_000),
            )
        ),
    ),
}


@pytest.mark.parametrize("is_complete", [None, True, False])
@pytest.mark.parametrize("act, request_", PURGES.values(), ids=PURGES.keys())
def test_purge(invoke: Invoke, hub: RecordingHub, act: Act, request_: Message, is_complete: bool | None) -> None:
    flag = None if is_complete is None else BoolValue(value=is_complete)
    hub.answers["PurgeInstances"] = pb.PurgeInstancesResponse(deletedInstanceCount=3, isComplete=flag)
    assert invoke(act) == PurgeInstancesResult(3, is_complete)
    assert hub.received[0].request == request_


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=-1)])
def test_a_purge_timeout_must_be_positive(invoke: Invoke, timeout: timedelta) -> None:
    with pytest.raises(ValueError, match="greater than zero"):
        invoke(lambda c: c.purge_orchestrations_by(timeout=timeout))


def existing(**fields: Any) -> pb.GetInstanceResponse:
    return pb.GetInstanceResponse(exists=True, orchestrationState=pb.OrchestrationState(instanceId="i", **fields))


GETS = {
    "state": (lambda c: c.get_orchestration_state("i"), "GetInstance", True, None),
    "state, no payloads": (lambda c: c.get_orchestration_state("i", fetch_payloads=False), "GetInstance", False, None),
    "start": (lambda c: c.wait_for_orchestration_start("i", timeout=7), "WaitForInstanceStart", False, 7),
    "completion": (lambda c: c.wait_for_orchestration_completion("i"), "WaitForInstanceCompletion", True, 60),
}


@pytest.mark.parametrize("act, rpc, payloads, deadline", GETS.values(), ids=GETS.keys())
def test_states_and_waits(
    invoke: Invoke, hub: RecordingHub, act: Act, rpc: str, payloads: bool, deadline: float | None
) -> None:
    hub.answers[rpc] = existing(name="greet", orchestrationStatus=1, output=text("[1]"))
    state = invoke(act)
    assert (state.name, state.runtime_status, state.get_output()) == ("greet", OrchestrationStatus.COMPLETED, [1])
    (received,) = hub.received
    assert received.request == pb.GetInstanceRequest(instanceId="i", getInputsAndOutputs=payloads)
    if deadline is None:
        assert received.seconds_left is None
    else:
        assert received.seconds_left == pytest.approx(deadline, abs=2)


@pytest.mark.parametrize("act, rpc, payloads, deadline", GETS.values(), ids=GETS.keys())
def test_a_missing_instance_is_none(
    invoke: Invoke, hub: RecordingHub, act: Act, rpc: str, payloads: bool, deadline: float | None
) -> None:
    assert invoke(act) is None


@pytest.mark.parametrize(
    ("name", "end"), [("wait_for_orchestration_start", "start"), ("wait_for_orchestration_completion", "complete")]
)
def test_a_wait_that_reaches_its_deadline_raises_the_builtin_timeout_error(
    invoke: Invoke, hub: RecordingHub, name: str, end: str
) -> None:
    """The words are those of 1.12, then come the instance and what to look for."""
    hub.answers["WaitForInstanceStart"] = hub.answers["WaitForInstanceCompletion"] = grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(TimeoutError) as caught:
        invoke(lambda c: getattr(c, name)("order-1", timeout=3))
    assert type(caught.value) is TimeoutError
    assert str(caught.value) == (
        f"Timed-out waiting for the orchestration to {end}: instance 'order-1' did not {end} within 3 s. If it should "
        "have, see that a worker of this task hub is running that has registered its orchestrator."
    )


def test_server_errors_reach_the_caller_as_grpc_errors(invoke: Invoke, hub: RecordingHub) -> None:
    hub.answers["StartInstance"] = grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.RpcError) as caught:
        invoke(lambda c: c.schedule_new_orchestration("greet"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_a_failed_orchestration_is_reported_and_not_raised(invoke: Invoke, hub: RecordingHub) -> None:
    failure = pb.TaskFailureDetails(errorType="builtins.ValueError", errorMessage="no")
    hub.answers["WaitForInstanceCompletion"] = existing(orchestrationStatus=3, failureDetails=failure)
    state = invoke(lambda c: c.wait_for_orchestration_completion("i"))
    with pytest.raises(OrchestrationFailedError, match="'i' failed: no") as caught:
        state.raise_if_failed()
    assert caught.value.failure_details.is_caused_by(ValueError)


def test_list_instance_ids(invoke: Invoke, hub: RecordingHub) -> None:
    hub.answers["ListInstanceIds"] = pb.ListInstanceIdsResponse(instanceIds=["a", "b"], lastInstanceKey=text("t2"))
    page = invoke(lambda c: c.list_instance_ids([OrchestrationStatus.FAILED], NAIVE, None, 2, "t1"))
    assert page == Page(["a", "b"], "t2")
    assert hub.received[0].request == pb.ListInstanceIdsRequest(
        runtimeStatus=[3], completedTimeFrom=stamp(NAIVE), pageSize=2, lastInstanceKey=text("t1")
    )


def test_list_instance_ids_ends_without_a_token(invoke: Invoke, hub: RecordingHub) -> None:
    assert invoke(lambda c: c.list_instance_ids()) == Page([], None)
    assert hub.received[0].request == pb.ListInstanceIdsRequest()


def page(ids: str, token: str | None) -> pb.QueryInstancesResponse:
    return pb.QueryInstancesResponse(
        orchestrationState=[pb.OrchestrationState(instanceId=i) for i in ids],
        continuationToken=None if token is None else text(token),
    )


@pytest.mark.parametrize("last", [None, "", "0", "t1"], ids=["unset", "empty", "zero", "repeated"])
def test_all_states_are_read_page_by_page(invoke: Invoke, hub: RecordingHub, last: str | None) -> None:
    """Item 31 of the pinned behaviours: the count is a page size; servers end in four different ways."""
    records: list[str] = []
    logger = logging.Logger("test")
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    hub.answers["QueryInstances"] = [page("ab", "t1"), page("c", last)]
    query = OrchestrationQuery(
        max_instance_count=2, instance_id_prefix="p", runtime_status=[OrchestrationStatus.PENDING]
    )
    states = invoke(lambda c: c.get_all_orchestration_states(query), logger=logger)
    assert [state.instance_id for state in states] == ["a", "b", "c"]
    first, second = (received.request.query for received in hub.received)
    assert first == pb.InstanceQuery(maxInstanceCount=2, instanceIdPrefix=text("p"), runtimeStatus=[6])
    assert second.continuationToken.value == "t1"
    assert sum("Received continuation token" in record for record in records) == 1
    assert all("durabletask-query" not in received.metadata for received in hub.received)


def test_name_version_and_tags_are_filtered_on_both_sides(invoke: Invoke, hub: RecordingHub) -> None:
    """R25: the versions in flight can be listed, also on servers that do not know the filter."""
    states = [
        pb.OrchestrationState(instanceId="hit", name="order", version=text("1"), tags={"a": "1", "b": "2"}),
        pb.OrchestrationState(instanceId="name", name="other", version=text("1"), tags={"a": "1"}),
        pb.OrchestrationState(instanceId="version", name="order", version=text("2"), tags={"a": "1"}),
        pb.OrchestrationState(instanceId="tags", name="order", version=text("1"), tags={"b": "2"}),
    ]
    hub.answers["QueryInstances"] = pb.QueryInstancesResponse(orchestrationState=states)
    query = OrchestrationQuery(name="order", version="1", tags={"a": "1"})
    assert [s.instance_id for s in invoke(lambda c: c.get_all_orchestration_states(query))] == ["hit"]
    sent = json.loads(hub.received[0].metadata["durabletask-query"])
    assert sent == {"name": "order", "version": "1", "tags": {"a": "1"}}


def test_the_filter_reaches_the_server_in_ascii(invoke: Invoke, hub: RecordingHub) -> None:
    invoke(lambda c: c.get_all_orchestration_states(OrchestrationQuery(name="bestellung-ü\n")))
    assert json.loads(hub.received[0].metadata["durabletask-query"]) == {"name": "bestellung-ü\n"}


def test_history_is_read_from_all_chunks(invoke: Invoke, hub: RecordingHub) -> None:
    started = pb.HistoryEvent(eventId=-1, timestamp=stamp(NAIVE), orchestratorStarted=pb.OrchestratorStartedEvent())
    scheduled = pb.HistoryEvent(eventId=1, timestamp=stamp(NAIVE), taskScheduled=pb.TaskScheduledEvent(name="a"))
    hub.answers["StreamInstanceHistory"] = (pb.HistoryChunk(events=[started]), pb.HistoryChunk(events=[scheduled]))
    events = invoke(lambda c: c.get_orchestration_history("i", execution_id="e"))
    moment = NAIVE.replace(tzinfo=timezone.utc)
    assert events == [history.OrchestratorStartedEvent(-1, moment), history.TaskScheduledEvent(1, moment, "a")]
    assert hub.received[0].request == pb.StreamInstanceHistoryRequest(instanceId="i", executionId=text("e"))


def test_the_history_of_a_missing_instance_is_an_error(invoke: Invoke, hub: RecordingHub) -> None:
    hub.answers["StreamInstanceHistory"] = grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        invoke(lambda c: c.get_orchestration_history("i"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_bulk_start_returns_the_ids_in_order(invoke: Invoke, hub: RecordingHub) -> None:
    new = (NewOrchestration(greet, input=n, instance_id=f"i{n}") for n in range(300))
    assert invoke(lambda c: c.schedule_new_orchestrations(new), default_version="3") == [f"i{n}" for n in range(300)]
    sent = {one.request.instanceId: one.request for one in hub.received if one.rpc == "StartInstance"}
    assert len(sent) == 300
    assert (sent["i7"].input.value, sent["i7"].version.value) == ("7", "3")


def test_bulk_start_names_what_failed_and_starts_the_rest(invoke: Invoke, hub: RecordingHub) -> None:
    def answer(request: pb.CreateInstanceRequest) -> Any:
        return grpc.StatusCode.ALREADY_EXISTS if request.instanceId in ("b", "d") else None

    hub.answers["StartInstance"] = answer
    with pytest.raises(BulkStartError, match=r"2 of 4 .*'b': ALREADY_EXISTS: as told; 'd': ALREADY_EXISTS") as caught:
        invoke(lambda c: c.schedule_new_orchestrations([NewOrchestration("o", instance_id=i) for i in "abcd"]))
    assert [instance_id for instance_id, _ in caught.value.failures] == ["b", "d"]
    assert caught.value.started == ["a", "c"]


def test_a_bulk_start_with_a_bad_input_starts_nothing(invoke: Invoke, hub: RecordingHub) -> None:
    new = [NewOrchestration("o"), NewOrchestration("o", input=object())]
    with pytest.raises(Exception, match="object"):
        invoke(lambda c: c.schedule_new_orchestrations(new))
    assert hub.received == []


def test_counting_on_a_server_that_cannot_says_what_to_do(invoke: Invoke, hub: RecordingHub) -> None:
    with pytest.raises(UnsupportedByServerError, match=r"CountInstances.*get_all_orchestration_states"):
        invoke(lambda c: c.count_orchestrations())


def test_metadata_goes_with_unary_and_streaming_calls(invoke: Invoke, hub: RecordingHub) -> None:
    hub.answers["StreamInstanceHistory"] = ()
    for act in (lambda c: c.get_orchestration_state("i"), lambda c: c.get_orchestration_history("i")):
        invoke(act, metadata=[("taskhub", "mine")])
    assert [received.metadata["taskhub"] for received in hub.received] == ["mine", "mine"]


class MemoryStore(PayloadStore):
    options = LargePayloadStorageOptions(threshold_bytes=10)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, str | None]] = {}

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token = f"token:{uuid.uuid4().hex}"
        self.kept[token] = (data, instance_id)
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        return self.kept[token][0]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value in self.kept


def test_large_payloads_go_through_the_payload_store(invoke: Invoke, hub: RecordingHub) -> None:
    store = MemoryStore()
    invoke(lambda c: c.schedule_new_orchestration("o", instance_id="i", input="x" * 20), payload_store=store)
    token = hub.received[0].request.input.value
    assert store.kept[token] == (b'"' + b"x" * 20 + b'"', "i")
    hub.answers["GetInstance"] = existing(input=text(token))
    state = invoke(lambda c: c.get_orchestration_state("i"), payload_store=store)
    assert state.get_input() == "x" * 20


def test_a_failing_channel_is_replaced_by_a_new_connection(invoke: Invoke, hub: RecordingHub) -> None:
    """Item 29 of the pinned behaviours: long-poll deadlines and errors of the application do not count."""
    codes = grpc.StatusCode
    hub.answers["GetInstance"] = [
        codes.UNAVAILABLE, codes.NOT_FOUND, codes.UNAVAILABLE, codes.UNAVAILABLE, existing(),
    ]  # fmt: skip
    hub.answers["WaitForInstanceStart"] = codes.DEADLINE_EXCEEDED
    get = "get_orchestration_state"
    names = [get, get, get, "wait_for_orchestration_start", get, get]
    options = GrpcClientResiliencyOptions(channel_recreate_failure_threshold=2)
    logger = logging.Logger("silent", logging.CRITICAL)

    def sync_run(client: Any) -> None:
        for name in names:
            try:
                getattr(client, name)("i")
            except (grpc.RpcError, TimeoutError):
                continue

    async def async_run(client: Any) -> None:
        for name in names:
            try:
                await getattr(client, name)("i")
            except (grpc.RpcError, TimeoutError):
                continue

    def act(client: Any) -> Any:
        return async_run(client) if isinstance(client, AsyncTaskHubGrpcClient) else sync_run(client)

    invoke(act, resiliency_options=options, logger=logger)
    peers = [received.peer for received in hub.received]
    assert len(peers) == 6
    assert len(set(peers[:5])) == 1
    assert peers[5] != peers[0]


def test_calls_on_a_replaced_channel_go_on_until_the_client_is_closed(hub: RecordingHub) -> None:
    """Item 29 of the pinned behaviours: a retired channel keeps its calls, and close() ends it at once."""
    waiting, release = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        waiting.set()
        release.wait(30)

    hub.answers["WaitForInstanceCompletion"] = hold
    hub.answers["GetInstance"] = [grpc.StatusCode.UNAVAILABLE, existing()]
    silent = logging.Logger("silent", logging.CRITICAL)
    options = GrpcClientResiliencyOptions(channel_recreate_failure_threshold=1)
    client = TaskHubGrpcClient(host_address=hub.address, resiliency_options=options, logger=silent)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(client.wait_for_orchestration_completion, "i")
        assert waiting.wait(10)
        with pytest.raises(grpc.RpcError):
            client.get_orchestration_state("i")
        assert client.get_orchestration_state("i") is not None
        assert not wait.done()
        client.close()
        error = wait.exception(10)
        release.set()
    assert isinstance(error, grpc.RpcError)
    assert error.code() is grpc.StatusCode.CANCELLED
    wait_peer, first, second = (received.peer for received in hub.received)
    assert (wait_peer == first, second == first) == (True, False)


def test_a_threshold_of_zero_keeps_the_channel(invoke: Invoke, hub: RecordingHub) -> None:
    hub.answers["GetInstance"] = grpc.StatusCode.UNAVAILABLE
    options = GrpcClientResiliencyOptions(channel_recreate_failure_threshold=0)
    silent = logging.Logger("silent", logging.CRITICAL)

    async def on_asyncio(client: Any) -> None:
        for _ in range(6):
            with pytest.raises(grpc.RpcError):
                await client.get_orchestration_state("i")

    def on_threads(client: Any) -> None:
        for _ in range(6):
            with pytest.raises(grpc.RpcError):
                client.get_orchestration_state("i")

    invoke(
        lambda c: (on_asyncio if isinstance(c, AsyncTaskHubGrpcClient) else on_threads)(c),
        resiliency_options=options,
        logger=silent,
    )
    assert len(hub.received) == 6
    assert len({received.peer for received in hub.received}) == 1


class StatusOnlyError(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


class Refusing(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        raise StatusOnlyError("no token yet")


def test_an_interceptors_error_that_has_a_status_only_is_raised_as_it_is(hub: RecordingHub) -> None:
    silent = logging.Logger("silent", logging.CRITICAL)
    client = TaskHubGrpcClient(host_address=hub.address, interceptors=[Refusing()], logger=silent)
    with client, pytest.raises(StatusOnlyError, match="no token yet"):
        client.get_orchestration_state("i")
