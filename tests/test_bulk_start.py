"""Starting many orchestrations at once, and counting them: clients and scheduler, in process and over gRPC."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from durabletask.client import (
    AsyncTaskHubGrpcClient,
    BulkStartError,
    NewOrchestration,
    OrchestrationCount,
    OrchestrationQuery,
    OrchestrationStatus,
    TaskHubGrpcClient,
)
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb

if TYPE_CHECKING:
    from conftest import Hub

PENDING = OrchestrationStatus.PENDING
REPLACE = pb.OrchestrationIdReusePolicy(
    replaceableStatus=[pb.ORCHESTRATION_STATUS_PENDING, pb.ORCHESTRATION_STATUS_TERMINATED]
)

Act = Callable[[Any], Any]
Invoke = Callable[..., Any]


@pytest.fixture(params=["threads", "asyncio"])
def invoke(request: pytest.FixtureRequest, hub: Hub) -> Invoke:
    """Runs a function of a client, on either kind of client, and returns its result."""

    def on_threads(act: Act, **options: Any) -> Any:
        return act(hub.client(**options))

    def on_asyncio(act: Act, **options: Any) -> Any:
        connection = dict(hub.connection)
        if "channel" in connection:
            connection = {"channel": hub.scheduler.aio_channel()}

        async def main() -> Any:
            async with AsyncTaskHubGrpcClient(**connection, **options) as client:  # type: ignore[arg-type]
                return await act(client)

        return asyncio.run(main())

    return on_threads if request.param == "threads" else on_asyncio


def start(new: list[NewOrchestration]) -> Act:
    return lambda client: client.schedule_new_orchestrations(new)


def states(hub: Hub) -> dict[str, Any]:
    query = OrchestrationQuery(fetch_inputs_and_outputs=True)
    return {state.instance_id: state for state in hub.client().get_all_orchestration_states(query)}


class Watching(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Notes how many more requests for a start than before there are in this process whenever many of them leave."""

    def __init__(self) -> None:
        self._before = _starts_in_memory()
        self.there_are: list[int] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        if details.method.endswith("/StartInstances"):
            self.there_are.append(_starts_in_memory() - self._before)
        return continuation(details, request)


def _starts_in_memory() -> int:
    gc.collect()
    return sum(type(one) is pb.CreateInstanceRequest for one in gc.get_objects())


def test_requests_whose_outcome_is_known_are_let_go(hub: Hub) -> None:
    watching = Watching()
    channel = grpc.intercept_channel(hub.scheduler.channel(), watching)
    with TaskHubGrpcClient(channel=channel) as client:
        ids = client.schedule_new_orchestrations([NewOrchestration("order", n) for n in range(4_100)])
    assert len(set(ids)) == 4_100
    assert watching.there_are == [4_100, 2_100, 100]


def test_thousands_are_started_in_order_with_all_they_ask_for(hub: Hub, invoke: Invoke) -> None:
    new = [NewOrchestration("order", {"n": n}, f"i{n}", version=str(n % 2), tags={"n": str(n)}) for n in range(2_500)]
    assert invoke(start(new)) == [f"i{n}" for n in range(2_500)]
    client = hub.client()
    assert client.count_orchestrations() == [OrchestrationCount(PENDING, 2_500)]
    for n in (0, 1_999, 2_000, 2_499):
        state = client.get_orchestration_state(f"i{n}")
        assert state is not None and state.get_input() == {"n": n}
        assert (state.version, state.tags) == (str(n % 2), {"n": str(n)})


def test_each_start_has_an_outcome_of_its_own(hub: Hub, invoke: Invoke) -> None:
    hub.client().schedule_new_orchestration("order", instance_id="taken")
    new = [NewOrchestration("order", instance_id=one) for one in ("a", "taken", "@an@entity", "b")]
    with pytest.raises(BulkStartError, match=r"2 of 4 .*'taken': ALREADY_EXISTS.*; '@an@entity': INVALID") as caught:
        invoke(start(new))
    assert [(one, error.code()) for one, error in caught.value.failures] == [
        ("taken", grpc.StatusCode.ALREADY_EXISTS),
        ("@an@entity", grpc.StatusCode.INVALID_ARGUMENT),
    ]
    assert caught.value.started == ["a", "b"] and {"a", "b"} <= states(hub).keys()


def test_reuse_policies_are_those_of_each(hub: Hub, invoke: Invoke) -> None:
    client = hub.client()
    for instance_id in "ab":
        client.schedule_new_orchestration("old", instance_id=instance_id)
    new = [NewOrchestration("new", instance_id="a", reuse_id_policy=REPLACE), NewOrchestration("new", instance_id="b")]
    with pytest.raises(BulkStartError) as caught:
        invoke(start(new))
    assert caught.value.started == ["a"]
    assert {one: state.name for one, state in states(hub).items()} == {"a": "new", "b": "old"}


def test_inputs_larger_together_than_a_message_are_split(hub: Hub, invoke: Invoke) -> None:
    """Lesson 57: the server takes 64 MB at once."""
    new = [NewOrchestration("order", "x" * 3_000_000, f"i{n}") for n in range(24)]
    assert invoke(start(new)) == [f"i{n}" for n in range(24)]
    state = hub.client().get_orchestration_state("i23")
    assert state is not None and len(state.get_input()) == 3_000_000


def test_one_that_is_too_large_for_a_message_fails_alone(hub: Hub, invoke: Invoke) -> None:
    """Lesson 57."""
    if not hub.over_grpc:
        pytest.skip("in process nothing is too large for a message")
    new = [NewOrchestration("order", instance_id="a"), NewOrchestration("order", "x" * 70_000_000, "large")]
    with pytest.raises(BulkStartError) as caught:
        invoke(start(new))
    ((instance_id, error),) = caught.value.failures
    assert (instance_id, error.code()) == ("large", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert caught.value.started == ["a"]


class MemoryStore(PayloadStore):
    options = LargePayloadStorageOptions(threshold_bytes=10)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, str | None]] = {}

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        if b"unwanted" in data:
            raise OSError("the store is full")
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


def test_large_payloads_go_to_the_store_of_the_client(hub: Hub, invoke: Invoke) -> None:
    store = MemoryStore()
    new = [NewOrchestration("order", "long enough", "a"), NewOrchestration("order", "unwanted data", "b")]
    with pytest.raises(BulkStartError, match=r"1 of 2 .*'b': OSError: the store is full"):
        invoke(start(new), payload_store=store)
    (token,) = store.kept
    assert store.kept[token] == (b'"long enough"', "a")
    assert [state.serialized_input for state in states(hub).values()] == [token]


class _Lacks(grpc.UnaryUnaryClientInterceptor):
    """A way to a server that announces the calls beyond the protocol and then does not have them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.asked.append(details.method.rpartition("/")[2])
        if additions.SERVICE in details.method:
            details = details._replace(method=details.method + "Gone")
        return continuation(details, request)


def test_a_server_that_was_replaced_by_an_older_one_gets_them_one_by_one(hub: Hub) -> None:
    if not hub.over_grpc:
        pytest.skip("the scheduler of the same process is not replaced")
    lacks = _Lacks()
    new = [NewOrchestration("order", instance_id=f"i{n}") for n in range(3)]
    assert hub.client(interceptors=[lacks]).schedule_new_orchestrations(new) == ["i0", "i1", "i2"]
    assert lacks.asked.count("StartInstances") == 1 and lacks.asked.count("StartInstance") == 3


def test_when_nobody_answers_every_start_says_so() -> None:
    """Lesson 41: an outage is reported, not waited out."""

    async def main() -> None:
        async with AsyncTaskHubGrpcClient(host_address="127.0.0.1:1") as client:
            await client.schedule_new_orchestrations([NewOrchestration("order", instance_id=one) for one in "ab"])

    with pytest.raises(BulkStartError, match=r"2 of 2 .*UNAVAILABLE"):
        asyncio.run(main())


def counted(counts: list[OrchestrationCount]) -> dict[tuple[Any, ...], int]:
    return {(one.runtime_status, one.name, one.version): one.count for one in counts}


def test_instances_are_counted_by_what_is_asked(hub: Hub, invoke: Invoke) -> None:
    new = [NewOrchestration(f"order-{n % 2}", version="1" if n else None, tags={"all": "yes"}) for n in range(5)]
    invoke(start([*new, NewOrchestration("other")]))
    count: Callable[..., Act] = lambda *args, **by: lambda client: client.count_orchestrations(*args, **by)  # noqa: E731
    assert invoke(count()) == [OrchestrationCount(PENDING, 6)]
    tagged = OrchestrationQuery(tags={"all": "yes"})
    assert counted(invoke(count(tagged, by_name=True))) == {
        (PENDING, "order-0", None): 3,
        (PENDING, "order-1", None): 2,
    }
    assert counted(invoke(count(tagged, by_version=True))) == {(PENDING, None, ""): 1, (PENDING, None, "1"): 4}
    nothing = OrchestrationQuery(runtime_status=[OrchestrationStatus.FAILED])
    assert invoke(count(nothing)) == []


def test_counts_change_with_the_statuses(hub: Hub) -> None:
    client = hub.client()
    for instance_id in client.schedule_new_orchestrations([NewOrchestration("order") for _ in range(3)])[:2]:
        client.terminate_orchestration(instance_id)
    assert counted(client.count_orchestrations()) == {
        (OrchestrationStatus.TERMINATED, None, None): 2,
        (PENDING, None, None): 1,
    }
