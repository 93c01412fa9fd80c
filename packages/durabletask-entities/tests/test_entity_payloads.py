"""Entities whose state goes to a payload store."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from durabletask import entities, task
from durabletask.client import OrchestrationStatus
from durabletask.testing import Environment
from durabletask.worker import TaskHubGrpcWorker
from memory_store import MemoryStore

TEXT = entities.EntityInstanceId("text", "a")


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
        worker = TaskHubGrpcWorker(channel=env.channel(), payload_store=MemoryStore(1_000, 20_000))
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
