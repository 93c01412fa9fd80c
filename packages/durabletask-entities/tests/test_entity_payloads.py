"""Entities whose state goes to a payload store."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from durabletask import entities, task
from durabletask.client import OrchestrationStatus
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.testing import Environment
from durabletask.worker import TaskHubGrpcWorker

TEXT = entities.EntityInstanceId("text", "a")


class MemoryStore(PayloadStore):
    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    @property
    def options(self) -> LargePayloadStorageOptions:
        return LargePayloadStorageOptions(threshold_bytes=1_000, max_stored_payload_bytes=20_000)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token = f"memory:{len(self.data)}"
        self.data[token] = data
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        return self.data[token]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith("memory:")


def text(ctx: entities.EntityContext, length: int) -> int:
    if ctx.operation == "write":
        ctx.set_state("x" * length)
    return len(ctx.get_state(str, ""))


def write(ctx: task.OrchestrationContext, length: int) -> Generator[Any, Any, int]:
    return (yield ctx.call_entity(TEXT, "write", input=length))


def read(ctx: task.OrchestrationContext, _: Any) -> Generator[Any, Any, int]:
    return (yield ctx.call_entity(TEXT, "read"))


def test_a_state_above_the_stores_maximum_fails_the_operation_and_leaves_the_state_as_it_was() -> None:
    with Environment() as env:
        worker = TaskHubGrpcWorker(channel=env.channel(), payload_store=MemoryStore())
        worker.add_entity(text)
        worker.add_orchestrator(write)
        worker.add_orchestrator(read)
        worker.start()
        try:
            assert env.run(write, input=5_000).get_output() == 5_000
            refused = env.run(write, input=30_000)
            assert env.run(read).get_output() == 5_000
        finally:
            worker.stop(0)

    assert refused.runtime_status is OrchestrationStatus.FAILED
    assert refused.failure_details is not None
    assert "accepts at most 20000" in refused.failure_details.message
