"""Large payloads leave messages for a store and come back."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from durabletask.payload import (
    LargePayloadStorageOptions,
    PayloadStore,
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.struct_pb2 import Value
from google.protobuf.wrappers_pb2 import StringValue

LARGE = "x" * 11


class CountingStore(PayloadStore):
    def __init__(self, maximum: int = 100) -> None:
        self._options = LargePayloadStorageOptions(threshold_bytes=10, max_stored_payload_bytes=maximum)
        self.kept: list[bytes] = []
        self.instance_ids: list[str | None] = []

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        self.kept.append(data)
        self.instance_ids.append(instance_id)
        return f"a rather long token:{len(self.kept) - 1}"

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        return self.kept[int(token.rpartition(":")[2])]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith("a rather long token:")


Move = tuple[Callable[..., None], Callable[..., None]]


@pytest.fixture(params=["threads", "asyncio"])
def move(request: pytest.FixtureRequest) -> Move:
    if request.param == "threads":
        return externalize_payloads, deexternalize_payloads
    return (
        lambda *args, **kwargs: asyncio.run(externalize_payloads_async(*args, **kwargs)),
        lambda *args: asyncio.run(deexternalize_payloads_async(*args)),
    )


def text(value: str) -> StringValue:
    return StringValue(value=value)


def history_event(payload: str) -> pb.HistoryEvent:
    return pb.HistoryEvent(taskCompleted=pb.TaskCompletedEvent(result=text(payload)))


MESSAGES: dict[str, tuple[Any, int]] = {
    "singular": (pb.CreateInstanceRequest(name=LARGE, input=text(LARGE)), 1),
    "several": (pb.OrchestrationState(input=text(LARGE), output=text(LARGE)), 2),
    "nested and repeated": (pb.HistoryChunk(events=[history_event(LARGE), history_event("small")]), 1),
    "repeated itself": (pb.InstanceQuery(taskHubNames=[text(LARGE), text(LARGE)]), 2),
    "itself": (text(LARGE), 1),
    "maps of other types are left": (
        pb.OrchestratorRequest(properties={"k": Value(string_value=LARGE)}, newEvents=[history_event(LARGE)]),
        1,
    ),
    "plain string maps are left": (pb.CreateInstanceRequest(tags={"k": LARGE}), 0),
    "empty": (pb.CreateInstanceRequest(), 0),
}


@pytest.mark.parametrize("message, uploads", MESSAGES.values(), ids=MESSAGES.keys())
def test_payloads_go_out_and_come_back_in_place(move: Move, message: Any, uploads: int) -> None:
    out, back = move
    store, work = CountingStore(), type(message).FromString(message.SerializeToString())
    out(work, store, instance_id="i")
    assert store.kept == [LARGE.encode()] * uploads
    assert store.instance_ids == ["i"] * uploads
    assert (work == message) is (uploads == 0)
    out(work, store)
    assert len(store.kept) == uploads
    back(work, store)
    assert work == message


@pytest.mark.parametrize(
    ("payload", "stored"),
    [("x" * 10, False), ("x" * 11, True), ("é" * 5, False), ("é" * 6, True), ("", False)],
)
def test_only_payloads_above_the_threshold_in_utf8_bytes_leave(move: Move, payload: str, stored: bool) -> None:
    store, message = CountingStore(), text(payload)
    move[0](message, store)
    assert bool(store.kept) is stored


def test_a_payload_above_the_maximum_is_refused(move: Move) -> None:
    with pytest.raises(ValueError, match=r"101 bytes.*at most 100"):
        move[0](text("x" * 101), CountingStore())


def test_the_defaults() -> None:
    assert LargePayloadStorageOptions() == LargePayloadStorageOptions(262144, 10485760, True)
