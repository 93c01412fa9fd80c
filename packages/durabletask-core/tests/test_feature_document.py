"""What the documentation of features promises about orchestrations, in words and code as close to it as can be.

Scheduler, worker and client run in this process, on a clock that stands still. The four ways to deploy a version are
tested with their samples.
"""

import logging
from collections.abc import Generator
from datetime import timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from durabletask import task
from durabletask.client import OrchestrationState, OrchestrationStatus, TaskHubGrpcClient
from durabletask.testing import Environment
from durabletask.worker import TaskHubGrpcWorker, VersionFailureStrategy, VersioningOptions, VersionMatchStrategy

COMPLETED, FAILED = OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED
NONE, STRICT, CURRENT_OR_OLDER = VersionMatchStrategy


def environment(*orchestrators: Any, activities: tuple[Any, ...] = (), **options: Any) -> Environment:
    def setup(worker: TaskHubGrpcWorker) -> None:
        for orchestrator in orchestrators:
            worker.add_orchestrator(orchestrator)
        for activity in activities:
            worker.add_activity(activity)

    return Environment(setup, **options)


def hello(ctx: task.ActivityContext, name: str) -> str:
    return f"Hello {name}!"


def sequence(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, list[str]]:
    greetings = []
    for city in ("Tokyo", "Seattle", "London"):
        greetings.append((yield ctx.call_activity(hello, input=city)))
    return greetings


# ---- Orchestrations ----


def test_orchestrators_are_ordinary_functions_that_take_an_orchestration_context_first() -> None:
    def plain(ctx: task.OrchestrationContext, given: int) -> int:
        return given + 1

    with environment(sequence, plain, activities=(hello,)) as env:
        assert env.run(sequence).get_output() == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
        assert env.run(plain, input=1).get_output() == 2


def test_orchestrations_rebuild_their_local_state_on_a_worker_that_never_saw_them() -> None:
    def collecting(ctx: task.OrchestrationContext, _: Any) -> Any:
        seen = []
        for _ in range(3):
            seen.append((yield ctx.wait_for_external_event("more")))
        return seen

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(collecting)

    with Environment() as env:
        with env.deploy(setup):
            instance_id = env.client.schedule_new_orchestration(collecting)
            env.settle()
        for number in range(3):
            with env.deploy(setup):
                env.client.raise_orchestration_event(instance_id, "more", data=number)
                env.settle()
        assert env.wait(instance_id).get_output() == [0, 1, 2]


# ---- Versions ----


def versioned(ctx: task.OrchestrationContext, _: Any) -> str | None:
    return ctx.version


def test_the_client_gives_its_default_version_unless_otherwise_specified() -> None:
    with environment(versioned) as env, TaskHubGrpcClient(channel=env.channel(), default_version="1.0.0") as client:
        for version, expected in ((None, "1.0.0"), ("2.0.0", "2.0.0")):
            instance_id = client.schedule_new_orchestration(versioned, version=version)
            assert env.wait(instance_id).get_output() == expected
        assert env.run(versioned).get_output() is None


MATCHES: dict[VersionMatchStrategy, set[str | None]] = {
    NONE: {None, "0.9.0", "1.0.0", "1.1.0"},
    STRICT: {"1.0.0"},
    CURRENT_OR_OLDER: {None, "0.9.0", "1.0.0"},
}


@pytest.mark.parametrize("failure_strategy", VersionFailureStrategy)
@pytest.mark.parametrize(("strategy", "version"), list(product(MATCHES, [None, "0.9.0", "1.0.0", "1.1.0"])))
def test_the_table_of_strategies(
    strategy: VersionMatchStrategy, version: str | None, failure_strategy: VersionFailureStrategy
) -> None:
    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(versioned)
        worker.use_versioning(VersioningOptions("1.0.0", "1.0.0", strategy, failure_strategy))

    with Environment(setup) as env:
        instance_id = env.client.schedule_new_orchestration(versioned, version=version)
        if version in MATCHES[strategy]:
            assert env.wait(instance_id).get_output() == version
        elif failure_strategy is VersionFailureStrategy.FAIL:
            details = env.wait(instance_id).failure_details
            assert details is not None and details.error_type == "VersionMismatch"
        else:
            env.settle()
            assert [state.instance_id for state in env.in_flight()] == [instance_id]
            with env.deploy(lambda worker: worker.add_orchestrator(versioned)):  # another worker, at a later time
                assert env.wait(instance_id).get_output() == version


def test_children_use_the_default_version_of_the_worker_unless_otherwise_specified() -> None:
    def parent(ctx: task.OrchestrationContext, _: Any) -> Any:
        default = yield ctx.call_sub_orchestrator(versioned)
        explicit = yield ctx.call_sub_orchestrator(versioned, version="3.0.0")
        return [ctx.version, default, explicit]

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(parent)
        worker.add_orchestrator(versioned)
        worker.use_versioning(VersioningOptions(default_version="2.0.0"))

    with Environment(setup) as env:
        instance_id = env.client.schedule_new_orchestration(parent, version="1.0.0")
        assert env.wait(instance_id).get_output() == ["1.0.0", "2.0.0", "3.0.0"]


# ---- Activities, timers, sub-orchestrations, events ----


def test_an_activity_may_be_executed_more_than_once_and_counts_once() -> None:
    runs: list[int] = []

    def twice(ctx: task.ActivityContext, _: Any) -> int:
        runs.append(ctx.task_id)
        if len(runs) == 1:
            first.stop(0)  # the worker goes away in the middle of it
        return len(runs)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_activity(twice))

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(orchestrator)
        worker.add_activity(twice)

    with Environment() as env:
        first = env.deploy(setup)
        instance_id = env.client.schedule_new_orchestration(orchestrator)
        with env.deploy(setup):
            assert env.wait(instance_id).get_output() == 2
    assert runs == [1, 1]


@pytest.mark.parametrize(
    "duration",
    [timedelta(milliseconds=5), timedelta(seconds=90), timedelta(days=1), timedelta(days=200)],
    ids=str,
)
def test_durable_timers_can_be_of_any_duration_and_fire_though_nothing_is_in_memory(duration: timedelta) -> None:
    def sleeper(ctx: task.OrchestrationContext, _: Any) -> Any:
        before = ctx.current_utc_datetime
        yield ctx.create_timer(duration)
        return (ctx.current_utc_datetime - before).total_seconds()

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(sleeper)

    with Environment(skip_time=False) as env:
        with env.deploy(setup):
            instance_id = env.client.schedule_new_orchestration(sleeper)
            env.settle()
        env.advance(duration / 2)
        assert env.in_flight()
        with env.deploy(setup):
            env.advance(duration / 2)
            slept = env.wait(instance_id).get_output()
    assert duration.total_seconds() <= slept < duration.total_seconds() + 1


def test_sub_orchestrations_break_up_a_large_one() -> None:
    def parent(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield task.when_all([ctx.call_sub_orchestrator(sequence) for _ in range(3)]))

    with environment(parent, sequence, activities=(hello,)) as env:
        assert env.run(parent).get_output() == [["Hello Tokyo!", "Hello Seattle!", "Hello London!"]] * 3


def test_an_orchestration_waits_for_a_user_to_approve_an_order() -> None:
    def purchase(ctx: task.OrchestrationContext, _: Any) -> Any:
        approval = ctx.wait_for_external_event("approval_received")
        timeout = ctx.create_timer(timedelta(hours=24))
        if (yield task.when_any([approval, timeout])) == timeout:
            return "Cancelled"
        return f"Approved by {approval.get_result()}"

    with environment(purchase) as env:
        instance_id = env.client.schedule_new_orchestration(purchase)
        env.settle()
        env.client.raise_orchestration_event(instance_id, "approval_received", data="me")
        assert env.wait(instance_id).get_output() == "Approved by me"
        assert env.run(purchase).get_output() == "Cancelled"


def test_continue_as_new_restarts_an_orchestration_from_scratch_with_a_new_input() -> None:
    def counting(ctx: task.OrchestrationContext, count: int) -> Any:
        yield ctx.create_timer(timedelta(minutes=1))
        if count < 4:
            ctx.continue_as_new(count + 1)
            return None
        return count

    with environment(counting) as env:
        state = env.run(counting, input=0)
        history = env.client.get_orchestration_history(state.instance_id)
    assert (state.get_output(), state.get_input()) == (4, 4)
    assert sum(type(event).__name__ == "TimerFiredEvent" for event in history) == 1


# ---- Suspend, resume, terminate ----


def three_events(ctx: task.OrchestrationContext, _: Any) -> Any:
    seen = []
    for _ in range(3):
        seen.append((yield ctx.wait_for_external_event("go")))
        ctx.set_custom_status(seen)
    return seen


def state_of(env: Environment, instance_id: str) -> OrchestrationState:
    state = env.client.get_orchestration_state(instance_id)
    assert state is not None
    return state


def test_a_suspended_orchestration_stops_and_buffers_events_until_it_is_resumed() -> None:
    with environment(three_events) as env:
        instance_id = env.client.schedule_new_orchestration(three_events)
        env.client.raise_orchestration_event(instance_id, "go", data=1)
        env.settle()
        env.client.suspend_orchestration(instance_id)
        for number in (2, 3):
            env.client.raise_orchestration_event(instance_id, "go", data=number)
        env.settle()
        suspended = state_of(env, instance_id)
        assert (suspended.runtime_status, suspended.get_custom_status()) == (OrchestrationStatus.SUSPENDED, [1])
        env.client.resume_orchestration(instance_id)
        assert env.wait(instance_id).get_output() == [1, 2, 3]


@pytest.mark.parametrize("suspended_first", [False, True], ids=["running", "suspended"])
def test_a_terminated_orchestration_stops_and_discards_buffered_events(suspended_first: bool) -> None:
    with environment(three_events) as env:
        instance_id = env.client.schedule_new_orchestration(three_events)
        env.settle()
        if suspended_first:
            env.client.suspend_orchestration(instance_id)
            env.client.raise_orchestration_event(instance_id, "go", data=1)
        env.client.terminate_orchestration(instance_id, output="enough")
        ended = env.wait(instance_id)
        env.client.raise_orchestration_event(instance_id, "go", data=2)
        env.settle()
        assert (ended.runtime_status, ended.get_output()) == (OrchestrationStatus.TERMINATED, "enough")
        assert ended.get_custom_status() is None
        assert state_of(env, instance_id) == ended


# ---- Retries ----


@pytest.mark.parametrize("of", ["activity", "child"])
def test_a_retry_policy_says_how_often_and_how_soon(of: str) -> None:
    at: list[Any] = []
    policy = task.RetryPolicy(
        first_retry_interval=timedelta(seconds=1),
        max_number_of_attempts=5,
        backoff_coefficient=2,
        max_retry_interval=timedelta(seconds=3),
    )

    def fail(given: Any) -> None:
        at.append(env.now)
        raise ValueError("transient")

    def activity(ctx: task.ActivityContext, given: Any) -> None:
        fail(given)

    def child(ctx: task.OrchestrationContext, given: Any) -> None:
        fail(given)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        if of == "activity":
            yield ctx.call_activity(activity, retry_policy=policy)
        else:
            yield ctx.call_sub_orchestrator(child, retry_policy=policy)

    with environment(orchestrator, child, activities=(activity,)) as env:
        assert env.run(orchestrator).runtime_status is FAILED
    assert [(later - sooner).total_seconds() for sooner, later in pairwise(at)] == pytest.approx([1, 2, 3, 3], abs=0.1)


# ---- Logging ----


def test_a_log_handler_takes_the_debug_output_of_worker_and_client_to_a_file(tmp_path: Path) -> None:
    log_handler = logging.FileHandler(tmp_path / "durable.log", encoding="utf-8")
    log_handler.setLevel(logging.DEBUG)
    formatter = logging.Formatter("%(levelname)s|%(name)s|%(message)s")
    options: Any = {"log_handler": log_handler, "log_formatter": formatter}

    with (
        Environment() as env,
        pytest.warns(DeprecationWarning),
        TaskHubGrpcWorker(channel=env.channel(), **options) as w,
        TaskHubGrpcClient(channel=env.channel(), **options) as c,
    ):
        w.add_orchestrator(sequence)
        w.add_activity(hello)
        w.start()
        instance_id = c.schedule_new_orchestration(sequence)
        state = c.wait_for_orchestration_completion(instance_id, timeout=10)
    log_handler.close()
    assert state is not None and state.runtime_status is COMPLETED
    lines = (tmp_path / "durable.log").read_text(encoding="utf-8").splitlines()
    for source in ("durabletask-worker", "durabletask-client"):
        assert any(line.startswith(f"DEBUG|{source}|") and instance_id in line for line in lines), source


def test_worker_and_client_of_the_scheduler_service_take_the_same_options(tmp_path: Path) -> None:
    clients = pytest.importorskip("durabletask.azuremanaged.client")
    workers = pytest.importorskip("durabletask.azuremanaged.worker")
    log_handler = logging.FileHandler(tmp_path / "durable.log", encoding="utf-8")
    log_handler.setLevel(logging.DEBUG)
    options: Any = {"taskhub": "default", "token_credential": None, "log_handler": log_handler}

    with Environment() as env, pytest.warns(DeprecationWarning):
        common: Any = {"host_address": "http://localhost:8080", "channel": env.channel(), **options}
        with (
            workers.DurableTaskSchedulerWorker(secure_channel=False, **common) as w,
            clients.DurableTaskSchedulerClient(secure_channel=False, **common) as c,
        ):
            w.add_orchestrator(versioned)
            w.start()
            state = c.wait_for_orchestration_completion(c.schedule_new_orchestration(versioned), timeout=10)
    log_handler.close()
    assert state is not None and state.runtime_status is COMPLETED
    written = (tmp_path / "durable.log").read_text(encoding="utf-8")
    assert "durabletask-worker" in written and "durabletask-client" in written
