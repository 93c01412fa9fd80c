"""Entities through client, scheduler and worker, all in one process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from durabletask import entities, task
from durabletask.client import (
    AsyncTaskHubGrpcClient,
    EntityQuery,
    OrchestrationFailedError,
    OrchestrationState,
    OrchestrationStatus,
    TaskHubGrpcClient,
)
from durabletask.entities.calling import call_entity, call_entity_async, call_entity_orchestrator
from durabletask.worker import TaskHubGrpcWorker, VersioningOptions
from durabletask_scheduler import Scheduler

WAIT = 20
Steps = Generator[task.Task[Any], Any, Any]


class Hub:
    """A scheduler with its worker and client; ``close`` ends them and keeps the file."""

    def __init__(self, database: Path) -> None:
        self._stack = ExitStack()
        self.scheduler = self._stack.enter_context(Scheduler(database))
        self.client = self._stack.enter_context(TaskHubGrpcClient(channel=self.scheduler.channel()))

    def serve(self, *orchestrators: Any, with_entities: tuple[Any, ...] = (), **more: Any) -> TaskHubGrpcWorker:
        worker = self._stack.enter_context(TaskHubGrpcWorker(channel=self.scheduler.channel()))
        for orchestrator in orchestrators:
            worker.add_orchestrator(orchestrator)
        for entity in with_entities:
            worker.add_entity(entity)
        for activity in more.get("activities", ()):
            worker.add_activity(activity)
        if "versioning" in more:
            worker.use_versioning(more["versioning"])
        worker.start()
        return worker

    def start(self, orchestrator: Any, input: Any = None) -> str:
        return self.client.schedule_new_orchestration(orchestrator, input=input)

    def wait(self, instance_id: str) -> OrchestrationState:
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None
        return state

    def output(self, orchestrator: Any, input: Any = None) -> Any:
        state = self.wait(self.start(orchestrator, input))
        state.raise_if_failed()
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        return state.get_output()

    def state_of(self, entity_id: entities.EntityInstanceId) -> Any:
        found = self.client.get_entity(entity_id)
        return None if found is None else found.get_typed_state()

    def until(self, condition: Callable[[], bool]) -> None:
        """Signals have no answer to wait for, so ask again until it is so."""
        deadline = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(0.01)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub.db")
    yield hub
    hub.close()


def counter(ctx: entities.EntityContext, input: int) -> Any:
    state = ctx.get_state(int, 0)
    if ctx.operation == "add":
        state += input
        ctx.set_state(state)
    elif ctx.operation == "get":
        return state
    elif ctx.operation == "delete":
        ctx.set_state(None)
    elif ctx.operation == "fail":
        ctx.set_state(-1)
        raise ValueError("boom")
    return None


class Account(entities.DurableEntity):
    def __init__(self) -> None:
        self.set_state(100)

    def change(self, amount: int) -> int:
        self.set_state(self.get_state(int, 0) + amount)
        return self.get_state(int, 0)

    def balance(self) -> int:
        return self.get_state(int, 0)


A, B = (entities.EntityInstanceId("Counter", key) for key in "ab")
LEFT, RIGHT = (entities.EntityInstanceId("Account", key) for key in ("left", "right"))


def test_an_orchestration_signals_and_calls(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        ctx.signal_entity(A, operation_name="add", input=5)
        yield ctx.call_entity(A, operation="add", input=6)
        try:
            yield ctx.call_entity(A, "fail")
        except task.TaskFailedError as error:
            inner = error.details.inner_failure
            return [(yield ctx.call_entity(A, operation="get")), str(error), inner and inner.error_type]

    hub.serve(orchestrator, with_entities=(counter,))
    message = "Operation 'fail' on entity '@counter@a' failed with error: boom"
    assert hub.output(orchestrator) == [11, message, "builtins.ValueError"]
    assert hub.state_of(A) == 11


def test_a_client_signals_reads_lists_and_cleans(hub: Hub) -> None:
    hub.serve(with_entities=(counter, Account))
    assert hub.client.get_entity(A) is None
    for entity_id in (A, B):
        hub.client.signal_entity(entity_id, "add", input=3)
    hub.client.signal_entity(LEFT, "change", input=-1)
    hub.until(lambda: [hub.state_of(e) for e in (A, B, LEFT)] == [3, 3, 99])

    found = hub.client.get_entity(A)
    assert found is not None and (found.id, found.get_state(), found.get_state(int)) == (A, "3", 3)
    assert abs(found.last_modified - datetime.now(timezone.utc)) < timedelta(minutes=1)
    without = hub.client.get_entity(A, include_state=False)
    assert without is not None and without.get_state() is None
    assert {str(e.id) for e in hub.client.get_all_entities()} == {"@counter@a", "@counter@b", "@account@left"}
    query = EntityQuery(instance_id_starts_with="@counter@", page_size=1)
    assert sorted(str(e.id) for e in hub.client.get_all_entities(query)) == ["@counter@a", "@counter@b"]

    hub.client.signal_entity(A, "delete")
    hub.client.signal_entity(LEFT, "delete")
    hub.until(lambda: hub.client.get_entity(A) is None and hub.client.get_entity(LEFT) is None)
    hub.client.clean_entity_storage()
    assert [str(e.id) for e in hub.client.get_all_entities(EntityQuery(include_transient=True))] == ["@counter@b"]


@pytest.mark.parametrize("delay", [timedelta(days=-1), timedelta(milliseconds=300)])
@pytest.mark.parametrize("sender", ["client", "entity", "orchestration"])
def test_a_signal_may_be_delayed(hub: Hub, sender: str, delay: timedelta) -> None:
    """pinned 22"""

    def relay(ctx: entities.EntityContext, moment: str) -> None:
        ctx.signal_entity(A, "add", 1, datetime.fromisoformat(moment))

    def orchestrator(ctx: task.OrchestrationContext, moment: str) -> None:
        ctx.signal_entity(A, "add", 1, signal_time=datetime.fromisoformat(moment))

    hub.serve(orchestrator, with_entities=(counter, relay))
    moment = datetime.now(timezone.utc) + delay
    if sender == "client":
        hub.client.signal_entity(A, "add", 1, signal_time=moment)
    elif sender == "entity":
        hub.client.signal_entity(entities.EntityInstanceId("relay", "r"), "go", moment.isoformat())
    else:
        hub.output(orchestrator, moment.isoformat())
    hub.until(lambda: hub.state_of(A) == 1)
    assert datetime.now(timezone.utc) >= moment


def test_signals_of_one_sender_are_run_once_and_in_order(hub: Hub) -> None:
    """lesson 65"""

    def log(ctx: entities.EntityContext, number: int) -> None:
        ctx.set_state([*ctx.get_state(list, []), number])

    def orchestrator(ctx: task.OrchestrationContext, first: int) -> None:
        for number in range(first, first + 25):
            ctx.signal_entity(entities.EntityInstanceId("log", "k"), "append", number)

    hub.serve(orchestrator, with_entities=(log,))
    for instance_id in [hub.start(orchestrator, first) for first in (0, 100)]:
        hub.wait(instance_id)
    hub.until(lambda: len(hub.state_of(entities.EntityInstanceId("log", "k")) or []) == 50)
    state = hub.state_of(entities.EntityInstanceId("log", "k"))
    assert [n for n in state if n < 100] == list(range(25))
    assert [n for n in state if n >= 100] == list(range(100, 125))


def test_critical_sections_exclude_each_other(hub: Hub) -> None:
    def transfer(ctx: task.OrchestrationContext, amount: int) -> Steps:
        source, target = (LEFT, RIGHT) if amount > 0 else (RIGHT, LEFT)
        with (yield ctx.lock_entities([source, target])):
            before = yield task.when_all([ctx.call_entity(e, "balance") for e in (source, target)])
            yield ctx.call_entity(source, "change", -abs(amount))
            yield ctx.create_timer(timedelta(milliseconds=1))
            yield ctx.call_entity(target, "change", abs(amount))
        return sum(before)

    hub.serve(transfer, with_entities=(Account,))
    amounts = [1, -2, 3, -4, 5, -6, 7, -8]
    states = [hub.wait(instance_id) for instance_id in [hub.start(transfer, amount) for amount in amounts]]
    assert [state.get_output() for state in states] == [200] * len(amounts), "nobody sees a half-done transfer"
    assert (hub.state_of(LEFT), hub.state_of(RIGHT)) == (100 - sum(amounts), 100 + sum(amounts))
    found = hub.client.get_entity(LEFT)
    assert found is not None and found.locked_by == ""


def test_a_lock_is_visible_and_ends_with_its_orchestration(hub: Hub) -> None:
    """pinned 20, lesson 62"""

    def holder(ctx: task.OrchestrationContext, end: str) -> Steps:
        yield ctx.lock_entities([A, B])
        yield ctx.wait_for_external_event("go")
        if end == "raise":
            raise ValueError("v")

    def locker(ctx: task.OrchestrationContext, _: Any) -> Steps:
        with (yield ctx.lock_entities([B, A])):
            return (yield ctx.call_entity(A, "get"))

    hub.serve(holder, locker, with_entities=(counter,))
    hub.client.signal_entity(A, "add", 1)
    hub.until(lambda: hub.state_of(A) == 1)

    def lock_owner() -> str:
        found = hub.client.get_entity(A)
        assert found is not None
        return found.locked_by

    for end in ("return", "raise", "terminate"):
        instance_id = hub.start(holder, end)
        hub.until(lambda: lock_owner() == instance_id)  # noqa: B023 - asked at once
        if end == "terminate":
            hub.client.terminate_orchestration(instance_id)
        else:
            hub.client.raise_orchestration_event(instance_id, "go")
        hub.wait(instance_id)
        assert hub.output(locker) == 1
    hub.until(lambda: lock_owner() == "")


def test_an_entity_starts_orchestrations_of_the_workers_default_version(hub: Hub) -> None:
    """R6, lesson 13"""

    def starter(ctx: entities.EntityContext, version: str | None) -> str:
        return ctx.schedule_new_orchestration("child", ctx.entity_id.key, version=version)

    def child(ctx: task.OrchestrationContext, key: str) -> list[str | None]:
        return [key, ctx.version]

    def orchestrator(ctx: task.OrchestrationContext, version: str | None) -> Steps:
        return (yield ctx.call_entity(entities.EntityInstanceId("starter", "k"), "start", version))

    versioning = VersioningOptions(default_version="1.5")
    hub.serve(orchestrator, child, with_entities=(starter,), versioning=versioning)
    for version, expected in ((None, "1.5"), ("2.0", "2.0")):
        assert hub.wait(hub.output(orchestrator, version)).get_output() == ["k", expected]


def test_entities_signal_entities(hub: Hub) -> None:
    def chain(ctx: entities.EntityContext, left: int) -> None:
        ctx.set_state(left)
        if left:
            ctx.signal_entity(entities.EntityInstanceId("chain", str(left - 1)), "go", left - 1)

    hub.serve(with_entities=(chain,))
    hub.client.signal_entity(entities.EntityInstanceId("chain", "5"), "go", 5)
    ids = [entities.EntityInstanceId("chain", str(n)) for n in range(6)]
    hub.until(lambda: [hub.state_of(i) for i in ids] == [0, 1, 2, 3, 4, 5])


def test_a_signal_to_nobody_fails_its_operation_at_once_and_no_other(hub: Hub) -> None:
    def relay(ctx: entities.EntityContext, target: str) -> None:
        ctx.signal_entity(target, "add", 3)  # type: ignore[arg-type]

    def send(ctx: task.OrchestrationContext, targets: list[str]) -> Steps:
        outcomes = []
        for target in targets:
            try:
                yield ctx.call_entity(entities.EntityInstanceId("relay", "r"), "send", target)
                outcomes.append("sent")
            except task.TaskFailedError as error:
                outcomes.append(str(error))
        return outcomes

    hub.serve(send, with_entities=(counter, relay))
    failed, sent = hub.output(send, ["counter", str(A)])
    assert "An entity id begins with '@'" in failed and sent == "sent"
    hub.until(lambda: hub.state_of(A) == 3)


def test_async_operations_share_the_loop_of_async_activities(hub: Hub) -> None:
    """lesson 43"""
    loops: list[Any] = []

    async def entity(ctx: entities.EntityContext, number: int) -> int:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        ctx.set_state(number)
        return number + 1

    async def activity(ctx: task.ActivityContext, number: int) -> int:
        loops.append(asyncio.get_running_loop())
        return number + 1

    async def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        number = await ctx.call_entity(entities.EntityInstanceId("entity", "k"), "any", 1)
        return await ctx.call_activity(activity, input=number)

    hub.serve(orchestrator, with_entities=(entity,), activities=(activity,))
    assert hub.output(orchestrator) == 3
    assert len(loops) == 2 and loops[0] is loops[1]


def test_operations_of_one_entity_never_overlap_and_others_do_not_wait(hub: Hub) -> None:
    entered, release = threading.Event(), threading.Event()

    def gate(ctx: entities.EntityContext, _: Any) -> None:
        if ctx.entity_id.key == "slow":
            entered.set()
            assert release.wait(WAIT)
        ctx.set_state(ctx.get_state(int, 0) + 1)

    hub.serve(with_entities=(gate,))
    slow, quick = (entities.EntityInstanceId("gate", key) for key in ("slow", "quick"))
    hub.client.signal_entity(slow, "go")
    assert entered.wait(WAIT)
    hub.client.signal_entity(slow, "go")
    hub.client.signal_entity(quick, "go")
    hub.until(lambda: hub.state_of(quick) == 1)
    assert hub.state_of(slow) is None
    release.set()
    hub.until(lambda: hub.state_of(slow) == 2)


def test_state_and_locks_outlive_the_scheduler(tmp_path: Path) -> None:
    def holder(ctx: task.OrchestrationContext, _: Any) -> Steps:
        with (yield ctx.lock_entities([A])):
            yield ctx.call_entity(A, "add", 1)
            ctx.set_custom_status("held")
            yield ctx.wait_for_external_event("go")
            return (yield ctx.call_entity(A, "get"))

    first = Hub(tmp_path / "hub.db")
    first.serve(holder, with_entities=(counter,))
    instance_id = first.start(holder)

    def is_held() -> bool:
        state = first.client.get_orchestration_state(instance_id)
        return state is not None and state.get_custom_status() == "held"

    first.until(is_held)
    first.client.signal_entity(A, "add", 10)
    first.close()

    second = Hub(tmp_path / "hub.db")
    try:
        found = second.client.get_entity(A)
        assert found is not None and (found.locked_by, found.get_state(int)) == (instance_id, 1)
        second.serve(holder, with_entities=(counter,))
        second.client.raise_orchestration_event(instance_id, "go")
        assert second.wait(instance_id).get_output() == 1, "the signal waits for the lock"
        second.until(lambda: second.state_of(A) == 11)
    finally:
        second.close()


class TestClientCalls:
    def test_a_client_calls_an_entity(self, hub: Hub) -> None:
        hub.serve(call_entity_orchestrator, with_entities=(counter,))
        assert call_entity(hub.client, A, "add", 5) is None
        assert call_entity(hub.client, A, "get", return_type=int) == 5
        with pytest.raises(entities.EntityOperationFailedException, match="boom") as error:
            call_entity(hub.client, A, "fail", timeout=WAIT)
        assert error.value.failure_details.errorType == "builtins.ValueError"
        assert (error.value.entity_instance_id, error.value.operation_name) == (A, "fail")

    async def test_an_async_client_calls_an_entity(self, hub: Hub) -> None:
        hub.serve(call_entity_orchestrator, with_entities=(counter,))
        async with AsyncTaskHubGrpcClient(channel=hub.scheduler.aio_channel()) as client:
            await call_entity_async(client, A, "add", 5)
            assert await call_entity_async(client, A, "get", return_type=int) == 5
            with pytest.raises(entities.EntityOperationFailedException, match="boom"):
                await call_entity_async(client, A, "fail")

    def test_a_worker_without_the_orchestrator_says_so(self, hub: Hub) -> None:
        hub.serve(with_entities=(counter,))
        with pytest.raises(OrchestrationFailedError, match="call_entity_orchestrator"):
            call_entity(hub.client, A, "get", timeout=WAIT)
