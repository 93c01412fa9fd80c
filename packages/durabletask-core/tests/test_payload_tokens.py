"""R22: which texts count as tokens of a payload store, and which are only texts."""

from collections.abc import Iterator
from typing import Any

import pytest
from durabletask import task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_scheduler import Scheduler

WAIT = 30
OWN, OTHERS = "blob:v1:own:0", "blob:v1:others:secret"


class ContainerStore(PayloadStore):
    """Keeps payloads in a container of its own, as stores in the cloud do, and notes what it is asked for."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.asked: list[str] = []

    @property
    def options(self) -> LargePayloadStorageOptions:
        return LargePayloadStorageOptions(threshold_bytes=1000)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        self.kept.append(data)
        return f"blob:v1:own:{len(self.kept) - 1}"

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        self.asked.append(token)
        return self.kept[int(token.rpartition(":")[2])]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith("blob:v1:own:")


@pytest.fixture(params=[False, True], ids=["without a store", "with a store"])
def store(request: pytest.FixtureRequest) -> ContainerStore | None:
    return ContainerStore() if request.param else None


@pytest.fixture
def channel() -> Iterator[Any]:
    with Scheduler() as scheduler, scheduler.channel() as channel:
        yield channel


def echo(_: task.ActivityContext, given: Any) -> Any:
    return given


def repeat(ctx: task.OrchestrationContext, given: Any) -> Any:
    ctx.set_custom_status(given)
    event = yield ctx.wait_for_external_event("same")
    return [given, event, (yield ctx.call_activity(echo, input=given))]


def serving(channel: Any, store: PayloadStore | None) -> TaskHubGrpcWorker:
    worker = TaskHubGrpcWorker(channel=channel, payload_store=store)
    worker.add_orchestrator(repeat)
    worker.add_activity(echo)
    worker.start()
    return worker


@pytest.mark.parametrize("given", [OWN, OTHERS, {OTHERS: OWN}, [OWN]], ids=repr)
def test_what_users_pass_is_never_a_token(channel: Any, store: ContainerStore | None, given: Any) -> None:
    if store is not None:
        store.upload(b'"classified"')
    with serving(channel, store), TaskHubGrpcClient(channel=channel, payload_store=store) as client:
        instance_id = client.schedule_new_orchestration(repeat, input=given)
        client.raise_orchestration_event(instance_id, "same", data=given)
        state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None
    assert state.get_output() == [given, given, given]
    assert (state.get_input(), state.get_custom_status()) == (given, given)
    assert store is None or store.asked == []


@pytest.mark.parametrize("raw", [OTHERS, f" {OWN}", f'"{OWN}"'], ids=repr)
def test_a_raw_text_that_is_no_token_of_the_store_is_not_looked_up(
    channel: Any, store: ContainerStore | None, raw: str
) -> None:
    """Whoever reaches the scheduler can send any text in the place of a payload."""
    if store is not None:
        store.upload(b'"classified"')
    request = pb.CreateInstanceRequest(instanceId="raw", name="repeat")
    request.input.value = raw
    pb_grpc.TaskHubSidecarServiceStub(channel).StartInstance(request)
    with serving(channel, store), TaskHubGrpcClient(channel=channel, payload_store=store) as client:
        client.raise_orchestration_event("raw", "same")
        state = client.wait_for_orchestration_completion("raw", timeout=WAIT)
    assert state is not None and state.serialized_input == raw
    assert "classified" not in str(state)
    assert store is None or store.asked == []


def test_a_store_that_fails_is_asked_again_and_the_orchestration_goes_on(channel: Any) -> None:
    class Unreliable(ContainerStore):
        def download(self, token: str) -> bytes:
            data = super().download(token)
            if len(self.asked) == 1:
                raise ConnectionError("the store does not answer")
            return data

    store, large = Unreliable(), "x" * 2000
    with serving(channel, store), TaskHubGrpcClient(channel=channel, payload_store=store) as client:
        instance_id = client.schedule_new_orchestration(repeat, input=large)
        client.raise_orchestration_event(instance_id, "same")
        state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED
    assert state.get_output() == [large, None, large]
