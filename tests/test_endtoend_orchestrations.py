"""Whole orchestrations through client, scheduler and worker, in process and over gRPC."""

from __future__ import annotations

import dataclasses
import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from durabletask import task
from durabletask.client import NewOrchestration, OrchestrationQuery, OrchestrationStatus
from durabletask.worker import TaskHubGrpcWorker

if TYPE_CHECKING:
    from conftest import Hub

WAIT = 30


def run(hub: Hub, orchestrator: Any, *activities: Any, input: Any = None, **options: Any) -> Any:
    """Register, start, wait; the final state."""

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(orchestrator)
        for activity in activities:
            worker.add_activity(activity)

    hub.worker(setup)
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator, input=input, **options)
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None
    return state


def add_one(_: task.ActivityContext, number: int) -> int:
    return number + 1


def test_a_chain_of_activities_passes_results_on(hub: Hub) -> None:
    def chain(ctx: task.OrchestrationContext, length: int) -> Any:
        value = 0
        for _ in range(length):
            value = yield ctx.call_activity(add_one, input=value)
        return value

    state = run(hub, chain, add_one, input=25)
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert state.get_output(int) == 25


def test_a_fan_out_returns_results_in_input_order(hub: Hub) -> None:
    def fan_out(ctx: task.OrchestrationContext, width: int) -> Any:
        return (yield task.when_all([ctx.call_activity(add_one, input=i) for i in range(width)]))

    assert run(hub, fan_out, add_one, input=50).get_output() == list(range(1, 51))


def test_async_orchestrators_and_activities_run(hub: Hub) -> None:
    async def double(_: task.ActivityContext, number: int) -> int:
        return number * 2

    async def orchestrator(ctx: task.OrchestrationContext, number: int) -> int:
        first = await ctx.call_activity(double, input=number)
        second = await task.when_all([ctx.call_activity(double, input=first), ctx.call_activity(double, input=1)])
        return sum(second)

    assert run(hub, orchestrator, double, input=5).get_output(int) == 22


@dataclasses.dataclass
class Order:
    item: str
    quantity: int


def test_dataclasses_travel_as_inputs_and_results(hub: Hub) -> None:
    def double_up(_: task.ActivityContext, order: Order) -> Order:
        return Order(order.item, order.quantity * 2)

    def orchestrator(ctx: task.OrchestrationContext, order: Order) -> Any:
        doubled: Order = yield ctx.call_activity(double_up, input=order)
        assert isinstance(order, Order) and isinstance(doubled, Order)
        return doubled

    state = run(hub, orchestrator, double_up, input=Order("tea", 2))
    assert state.get_output(Order) == Order("tea", 4), state.failure_details


@pytest.mark.parametrize("value", [0, "", [], {}, False, None], ids=repr)
def test_falsy_values_survive_every_hop(hub: Hub, value: Any) -> None:
    """lesson 8"""

    def echo(_: task.ActivityContext, given: Any) -> Any:
        return given

    def orchestrator(ctx: task.OrchestrationContext, given: Any) -> Any:
        ctx.set_custom_status(given)
        return (yield ctx.call_activity(echo, input=given))

    state = run(hub, orchestrator, echo, input=value)
    expected = None if value is None else json.dumps(value)
    assert (state.serialized_input, state.serialized_output, state.serialized_custom_status) == (expected,) * 3


def test_an_activity_failure_reaches_the_orchestration_with_its_details(hub: Hub) -> None:
    def fail(_: task.ActivityContext, __: Any) -> None:
        raise ValueError("no tea left")

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_activity(fail)

    state = run(hub, orchestrator, fail)
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details.error_type == "durabletask.task.TaskFailedError"
    assert state.failure_details.message.endswith("Activity task #1 failed: no tea left")
    assert state.failure_details.stack_trace is not None
    assert state.failure_details.inner_failure.error_type == "builtins.ValueError"


def test_retries_stop_at_the_first_success_and_reuse_the_task_id(hub: Hub) -> None:
    attempts: list[int] = []

    def flaky(ctx: task.ActivityContext, _: Any) -> int:
        attempts.append(ctx.task_id)
        if len(attempts) < 3:
            raise RuntimeError("not yet")
        return len(attempts)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        policy = task.RetryPolicy(first_retry_interval=timedelta(milliseconds=20), max_number_of_attempts=5)
        return (yield ctx.call_activity(flaky, retry_policy=policy))

    assert run(hub, orchestrator, flaky).get_output(int) == 3
    assert attempts == [1, 1, 1]


def test_timers_fire_in_the_order_of_their_times(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        slow = ctx.create_timer(timedelta(milliseconds=200))
        quick = ctx.create_timer(timedelta(milliseconds=50))
        winner = yield task.when_any([slow, quick])
        yield slow
        return "quick" if winner == quick else "slow"

    assert run(hub, orchestrator).get_output() == "quick"


def test_events_are_delivered_in_order_and_names_ignore_case(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        received = []
        for _ in range(5):
            received.append((yield ctx.wait_for_external_event("Approval")))
        return received

    hub.worker(lambda w: w.add_orchestrator(orchestrator))
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator)
    for number in range(5):
        client.raise_orchestration_event(instance_id, "APPROVAL" if number % 2 else "approval", data=number)
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.get_output() == [0, 1, 2, 3, 4]


def test_sub_orchestrations_return_results_and_failures(hub: Hub) -> None:
    def child(ctx: task.OrchestrationContext, number: int) -> Any:
        if number < 0:
            raise ValueError("negative")
        return {"parent": ctx.parent_instance_id, "square": number * number}

    def parent(ctx: task.OrchestrationContext, _: Any) -> Any:
        good = yield ctx.call_sub_orchestrator(child, input=4)
        try:
            yield ctx.call_sub_orchestrator(child, input=-1)
        except task.TaskFailedError as error:
            return [good["square"], good["parent"] == ctx.instance_id, str(error)]

    hub.worker(lambda w: (w.add_orchestrator(parent), w.add_orchestrator(child)))
    client = hub.client()
    state = client.wait_for_orchestration_completion(client.schedule_new_orchestration(parent), timeout=WAIT)
    assert state is not None
    square, knows_parent, message = state.get_output()
    assert (square, knows_parent) == (16, True)
    assert message.startswith("Sub-orchestration task #2 failed:") and message.endswith("negative")


def test_continue_as_new_keeps_events_and_starts_afresh(hub: Hub) -> None:
    """lesson 16; an eternal orchestration with a child of the same id in each generation."""

    def child(ctx: task.OrchestrationContext, number: int) -> int:
        return number * 10

    def eternal(ctx: task.OrchestrationContext, total: int) -> Any:
        number = yield ctx.wait_for_external_event("number")
        total += yield ctx.call_sub_orchestrator(child, input=number)
        if number == 5:
            return total
        ctx.continue_as_new(total, save_events=True)

    hub.worker(lambda w: (w.add_orchestrator(eternal), w.add_orchestrator(child)))
    client = hub.client()
    instance_id = client.schedule_new_orchestration(eternal, input=0)
    for number in range(1, 6):
        client.raise_orchestration_event(instance_id, "number", data=number)
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.get_output() == 150
    assert state.serialized_input == "100"


def test_suspend_holds_events_until_resume(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.wait_for_external_event("go"))

    hub.worker(lambda w: w.add_orchestrator(orchestrator))
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator)
    client.wait_for_orchestration_start(instance_id, timeout=WAIT)
    client.suspend_orchestration(instance_id)
    client.raise_orchestration_event(instance_id, "go", data="now")
    with pytest.raises(TimeoutError):
        client.wait_for_orchestration_completion(instance_id, timeout=0.5)
    suspended = client.get_orchestration_state(instance_id)
    assert suspended is not None and suspended.runtime_status is OrchestrationStatus.SUSPENDED
    client.resume_orchestration(instance_id)
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.get_output() == "now"


def test_terminate_reaches_grandchildren(hub: Hub) -> None:
    """lesson 51"""

    def leaf(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.wait_for_external_event("never")

    def middle(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_sub_orchestrator(leaf, instance_id="leaf")

    def top(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_sub_orchestrator(middle, instance_id="middle")

    hub.worker(lambda w: [w.add_orchestrator(o) for o in (leaf, middle, top)])
    client = hub.client()
    client.schedule_new_orchestration(top, instance_id="top")
    client.wait_for_orchestration_start("leaf", timeout=WAIT)
    client.terminate_orchestration("top", output="enough")
    for name in ("top", "middle", "leaf"):
        state = client.wait_for_orchestration_completion(name, timeout=WAIT)
        assert state is not None and state.runtime_status is OrchestrationStatus.TERMINATED, name
    assert client.purge_orchestration("top", recursive=True).deleted_instance_count == 3


def test_unknown_orchestrators_and_activities_fail_with_their_name(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_activity("no_such_activity")

    state = run(hub, orchestrator)
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert "no_such_activity" in state.failure_details.message
    client = hub.client()
    unknown = client.wait_for_orchestration_completion(
        client.schedule_new_orchestration("no_such_orchestrator"), timeout=WAIT
    )
    assert unknown is not None and unknown.runtime_status is OrchestrationStatus.FAILED
    assert unknown.failure_details is not None
    assert unknown.failure_details.error_type == "durabletask.worker.OrchestratorNotRegisteredError"
    assert "no_such_orchestrator" in unknown.failure_details.message


def test_an_id_is_refused_while_live_and_reused_when_finished(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, value: Any) -> Any:
        yield ctx.wait_for_external_event("go")
        return value

    hub.worker(lambda w: w.add_orchestrator(orchestrator))
    client = hub.client()
    for round in (1, 2):
        client.schedule_new_orchestration(orchestrator, instance_id="one", input=round)
        with pytest.raises(grpc.RpcError) as refusal:
            client.schedule_new_orchestration(orchestrator, instance_id="one", input=99)
        assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS  # type: ignore[attr-defined]
        client.raise_orchestration_event("one", "go")
        state = client.wait_for_orchestration_completion("one", timeout=WAIT)
        assert state is not None and state.get_output() == round


def test_rewind_runs_only_what_failed(hub: Hub) -> None:
    """lesson 15"""
    calls: list[str] = []
    healthy = threading.Event()

    def good(_: task.ActivityContext, __: Any) -> str:
        calls.append("good")
        return "good"

    def bad(_: task.ActivityContext, __: Any) -> str:
        calls.append("bad")
        if not healthy.is_set():
            raise RuntimeError("down")
        return "better"

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        first = yield ctx.call_activity(good)
        second = yield ctx.call_activity(bad)
        return [first, second]

    state = run(hub, orchestrator, good, bad)
    assert state.runtime_status is OrchestrationStatus.FAILED
    healthy.set()
    client = hub.client()
    client.rewind_orchestration(state.instance_id, reason="fixed")
    again = client.wait_for_orchestration_completion(state.instance_id, timeout=WAIT)
    assert again is not None and again.get_output() == ["good", "better"], again.failure_details
    assert calls == ["good", "bad", "bad"] and again.failure_details is None


def test_queries_filter_and_page(hub: Hub) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return ctx.version

    hub.worker(lambda w: w.add_orchestrator(orchestrator))
    client = hub.client()
    ids = client.schedule_new_orchestrations(
        [NewOrchestration(orchestrator, instance_id=f"q-{i}", version=f"{i % 2}.0") for i in range(7)]
    )
    for instance_id in ids:
        client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert len(client.get_all_orchestration_states(OrchestrationQuery(max_instance_count=2))) == 7
    versioned = client.get_all_orchestration_states(OrchestrationQuery(version="1.0", max_instance_count=2))
    assert sorted(s.instance_id for s in versioned) == ["q-1", "q-3", "q-5"]
    assert {s.version for s in versioned} == {"1.0"}
    first = client.list_instance_ids(page_size=4)
    rest = client.list_instance_ids(page_size=4, continuation_token=first.continuation_token)
    assert len(first.items) == 4 and sorted(first.items + rest.items) == ids


def test_an_instance_survives_a_restart_of_scheduler_and_worker(hub: Hub) -> None:
    runs: list[int] = []

    def count(_: task.ActivityContext, number: int) -> int:
        runs.append(number)
        return number

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        first = yield ctx.call_activity(count, input=1)
        yield ctx.wait_for_external_event("go")
        second = yield ctx.call_activity(count, input=2)
        return [first, second]

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(orchestrator)
        worker.add_activity(count)

    hub.worker(setup)
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator, tags={"team": "blue"}, version="1.2.0")
    reached = threading.Event()
    while not reached.is_set():
        history = client.get_orchestration_history(instance_id)
        if any(type(event).__name__ == "TaskCompletedEvent" for event in history):
            reached.set()
    second = hub.restarted()
    try:
        second.worker(setup)
        client = second.client()
        client.raise_orchestration_event(instance_id, "go")
        state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None and state.get_output() == [1, 2], state.failure_details
        assert (state.version, state.tags) == ("1.2.0", {"team": "blue"})
        assert runs == [1, 2]
    finally:
        second.close()
