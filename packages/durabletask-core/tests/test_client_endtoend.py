"""Every management call of both clients against the scheduler, on a clock that stands still."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from durabletask import task
from durabletask.client import NewOrchestration, OrchestrationQuery, OrchestrationStatus
from durabletask.internal.orchestrator_service_pb2 import ORCHESTRATION_STATUS_COMPLETED, OrchestrationIdReusePolicy
from durabletask.testing import Environment
from durabletask.worker import TaskHubGrpcWorker

Call = Callable[..., Any]


def echo(ctx: task.OrchestrationContext, given: Any) -> Any:
    ctx.set_custom_status("running")
    return given


def waiting(ctx: task.OrchestrationContext, _: Any) -> Any:
    return (yield ctx.wait_for_external_event("go"))


def parent(ctx: task.OrchestrationContext, child_id: str) -> Any:
    return (yield ctx.call_sub_orchestrator(waiting, instance_id=child_id))


def setup(worker: TaskHubGrpcWorker) -> None:
    for orchestrator in (echo, waiting, parent):
        worker.add_orchestrator(orchestrator)


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment(setup) as env:
        yield env


@pytest.fixture(params=["threads", "asyncio"])
def call(request: pytest.FixtureRequest, env: Environment) -> Iterator[Call]:
    """``call("get_orchestration_state", "id")``, on a client of either kind."""
    if request.param == "threads":
        yield lambda method, *args, **options: getattr(env.client, method)(*args, **options)
        return

    async def made() -> Any:
        return env.async_client()

    with closing(asyncio.new_event_loop()) as loop:
        client = loop.run_until_complete(made())
        yield lambda method, *args, **options: loop.run_until_complete(getattr(client, method)(*args, **options))
        loop.run_until_complete(client.close())


def refused(code: grpc.StatusCode, act: Callable[[], object]) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        act()
    assert refusal.value.code() is code


def test_a_start_with_everything(env: Environment, call: Call) -> None:
    at = env.now + timedelta(hours=2)
    instance_id = call(
        *("schedule_new_orchestration", echo),
        input={"n": 1},
        instance_id="i",
        start_at=at,
        tags={"team": "blue"},
        version="1.0",
    )
    env.settle()
    pending = call("get_orchestration_state", instance_id)
    assert (pending.runtime_status, pending.scheduled_start_at) == (
        OrchestrationStatus.PENDING,
        at.replace(tzinfo=None),
    )
    state = call("wait_for_orchestration_completion", instance_id, timeout=10)
    assert (state.instance_id, state.name, state.version, state.tags) == ("i", "echo", "1.0", {"team": "blue"})
    assert (state.get_input(), state.get_output(), state.get_custom_status()) == ({"n": 1}, {"n": 1}, "running")
    assert at.replace(tzinfo=None) <= state.completed_at <= state.last_updated_at
    assert state.execution_id and state.parent_instance_id is None
    bare = call("get_orchestration_state", instance_id, fetch_payloads=False)
    assert (bare.serialized_input, bare.serialized_output) == (None, None)
    assert call("get_orchestration_state", "nobody") is None


def test_the_reuse_policy_says_which_instances_may_be_replaced(env: Environment, call: Call) -> None:
    policy = OrchestrationIdReusePolicy(replaceableStatus=[ORCHESTRATION_STATUS_COMPLETED])
    for name in ("ended", "live"):
        call("schedule_new_orchestration", echo if name == "ended" else waiting, input=1, instance_id=name)
    env.settle()
    call("schedule_new_orchestration", echo, input=2, instance_id="ended", reuse_id_policy=policy)
    assert call("wait_for_orchestration_completion", "ended", timeout=10).get_output() == 2
    refused(
        grpc.StatusCode.ALREADY_EXISTS,
        lambda: call("schedule_new_orchestration", echo, instance_id="live", reuse_id_policy=policy),
    )


def test_events_suspension_and_termination(env: Environment, call: Call) -> None:
    call("schedule_new_orchestration", parent, input="child", instance_id="parent")
    assert call("wait_for_orchestration_start", "parent", timeout=10).runtime_status is OrchestrationStatus.RUNNING
    env.settle()
    assert call("get_orchestration_state", "child").parent_instance_id == "parent"
    call("suspend_orchestration", "child", reason="a pause")
    call("raise_orchestration_event", "child", "GO", data=[1])
    env.settle()
    assert call("get_orchestration_state", "child").runtime_status is OrchestrationStatus.SUSPENDED
    call("resume_orchestration", "child", reason="over")
    assert call("wait_for_orchestration_completion", "parent", timeout=10).get_output() == [1]

    for recursive, end in ((False, OrchestrationStatus.RUNNING), (True, OrchestrationStatus.TERMINATED)):
        child = f"child {recursive}"
        instance_id = call("schedule_new_orchestration", parent, input=child)
        env.settle()
        call("terminate_orchestration", instance_id, output="enough", recursive=recursive)
        env.settle()
        ended = call("get_orchestration_state", instance_id)
        assert (ended.runtime_status, ended.get_output()) == (OrchestrationStatus.TERMINATED, "enough")
        assert call("get_orchestration_state", child).runtime_status is end
    for unknown in ("suspend_orchestration", "resume_orchestration", "rewind_orchestration", "restart_orchestration"):
        refused(grpc.StatusCode.NOT_FOUND, partial(call, unknown, "nobody"))


def test_a_restart_in_place_and_as_an_instance_of_its_own(env: Environment, call: Call) -> None:
    call("schedule_new_orchestration", echo, input=7, instance_id="i")
    first = call("wait_for_orchestration_completion", "i", timeout=10)
    assert call("restart_orchestration", "i") == "i"
    again = call("wait_for_orchestration_completion", "i", timeout=10)
    assert (again.get_output(), again.execution_id != first.execution_id) == (7, True)
    other = call("restart_orchestration", "i", restart_with_new_instance_id=True)
    assert other != "i"
    assert call("wait_for_orchestration_completion", other, timeout=10).get_output() == 7
    call("schedule_new_orchestration", waiting, instance_id="live")
    env.settle()
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: call("restart_orchestration", "live"))


def test_queries_by_every_filter_and_in_pages(env: Environment, call: Call) -> None:
    starts = [
        NewOrchestration(echo, i, f"{'ab'[i % 2]}-{i}", version=f"{i % 3}.0", tags={"of": "xy"[i % 2]})
        for i in range(6)
    ]
    assert call("schedule_new_orchestrations", starts) == [start.instance_id for start in starts]
    env.settle()
    later = env.now + timedelta(hours=1)
    env.advance(timedelta(hours=2))
    call("schedule_new_orchestration", waiting, instance_id="late")
    env.settle()

    def found(**filters: Any) -> set[str]:
        query = OrchestrationQuery(max_instance_count=2, **filters)
        return {state.instance_id for state in call("get_all_orchestration_states", query)}

    early = {start.instance_id for start in starts}
    assert found() == early | {"late"}
    assert found(instance_id_prefix="a-") == {"a-0", "a-2", "a-4"}
    assert found(runtime_status=[OrchestrationStatus.COMPLETED]) == early
    assert (found(created_time_to=later), found(created_time_from=later)) == (early, {"late"})
    assert found(name="waiting") == {"late"}
    assert (found(version="1.0"), found(version="")) == ({"b-1", "a-4"}, {"late"})
    assert found(tags={"of": "y"}, version="2.0") == {"b-5"}
    states = call("get_all_orchestration_states", OrchestrationQuery(fetch_inputs_and_outputs=True, name="echo"))
    assert sorted(state.get_output() for state in states) == list(range(6))

    listed: list[str] = []
    token = None
    while True:
        page = call("list_instance_ids", page_size=4, continuation_token=token)
        listed, token = listed + page.items, page.continuation_token
        if token is None:
            break
    assert set(listed) == early
    assert call("list_instance_ids", completed_time_from=later).items == []
    assert call("list_instance_ids", runtime_status=[OrchestrationStatus.FAILED]).items == []


def test_purging_one_by_filter_recursively_and_with_a_timeout(env: Environment, call: Call) -> None:
    for n in range(3):
        call("schedule_new_orchestration", parent, input=f"child {n}", instance_id=f"parent {n}")
        env.settle()
        call("raise_orchestration_event", f"child {n}", "go")
        env.settle()
    call("schedule_new_orchestration", waiting, instance_id="live")
    env.settle()
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: call("purge_orchestration", "live"))
    for n, recursive in enumerate((False, True)):
        call("schedule_new_orchestration", parent, input=f"stopped {n}", instance_id=f"failed {n}")
        env.settle()
        call("terminate_orchestration", f"stopped {n}")
        env.settle()
        purged = call("purge_orchestrations_by", None, None, [OrchestrationStatus.FAILED], recursive)
        assert purged.deleted_instance_count == 1 + recursive
        assert (call("get_orchestration_state", f"stopped {n}") is None) == recursive
    assert call("purge_orchestration", "nobody").deleted_instance_count == 0
    alone = call("purge_orchestration", "parent 0", recursive=False)
    assert (alone.deleted_instance_count, call("get_orchestration_state", "child 0") is None) == (1, False)
    whole = call("purge_orchestration", "parent 1")
    assert (whole.deleted_instance_count, call("get_orchestration_state", "child 1")) == (2, None)
    nothing = call("purge_orchestrations_by", created_time_from=env.now + timedelta(days=1))
    assert nothing.deleted_instance_count == 0
    rest = call(
        *("purge_orchestrations_by", None, env.now + timedelta(days=1), [OrchestrationStatus.COMPLETED]),
        recursive=True,
        timeout=timedelta(minutes=1),
    )
    assert (rest.deleted_instance_count, rest.is_complete) == (3, True)
    assert {state.instance_id for state in call("get_all_orchestration_states")} == {"live", "stopped 0"}


def test_the_history_of_an_instance(env: Environment, call: Call) -> None:
    instance_id = call("schedule_new_orchestration", waiting)
    call("raise_orchestration_event", instance_id, "go", data=1)
    state = call("wait_for_orchestration_completion", instance_id, timeout=10)
    history = call("get_orchestration_history", instance_id)
    kinds = [type(event).__name__.removesuffix("Event") for event in history]
    assert [kind for kind in kinds if kind.startswith(("Execution", "EventRaised"))] == [
        *("ExecutionStarted", "EventRaised", "ExecutionCompleted"),
    ]
    assert call("get_orchestration_history", instance_id, execution_id=state.execution_id) == history
    refused(grpc.StatusCode.NOT_FOUND, lambda: call("get_orchestration_history", "nobody"))
