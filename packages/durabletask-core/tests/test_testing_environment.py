"""The environment: a scheduler, workers and a client in one process, on a clock that the test moves."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.testing import Environment
from durabletask.worker import TaskHubGrpcWorker, VersioningOptions, VersionMatchStrategy

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
REAL_SECONDS = 5.0


def setup_of(*orchestrators: Callable, activities: tuple[Callable, ...] = ()) -> Callable[[TaskHubGrpcWorker], None]:
    def setup(worker: TaskHubGrpcWorker) -> None:
        for orchestrator in orchestrators:
            worker.add_orchestrator(orchestrator)
        for activity in activities:
            worker.add_activity(activity)

    return setup


def sleep_long(ctx: task.OrchestrationContext, days: int):
    yield ctx.create_timer(timedelta(days=days))
    return ctx.current_utc_datetime.isoformat(timespec="seconds")


def daily(ctx: task.OrchestrationContext, days: int):
    for day in range(days):
        ctx.set_custom_status(day)
        yield ctx.create_timer(DAY)


def approval(ctx: task.OrchestrationContext, _):
    approved = ctx.wait_for_external_event("approved")
    expired = ctx.create_timer(30 * DAY)
    first = yield task.when_any([approved, expired])
    return "approved" if first is approved else "expired"


def test_waiting_jumps_over_a_timer_of_a_month():
    with Environment(setup_of(sleep_long), start=START) as env:
        state = env.run(sleep_long, input=30, timeout=REAL_SECONDS)
        assert state.get_output() == "2026-01-31T00:00:00"
        assert timedelta(days=30) <= env.now - START < timedelta(days=30, seconds=1)


def test_the_same_test_sees_the_same_times_again():
    def times() -> list[datetime]:
        with Environment(setup_of(sleep_long), start=START) as env:
            state = env.run(sleep_long, input=7, instance_id="seven")
            return [event.timestamp for event in env.client.get_orchestration_history("seven")] + [state.created_at]

    assert times() == times()


def test_the_time_stands_still_while_nobody_waits():
    with Environment(setup_of(sleep_long), start=START) as env:
        env.client.schedule_new_orchestration(sleep_long, input=1)
        env.settle()
        assert env.now == START
        assert [each.runtime_status for each in env.in_flight()] == [OrchestrationStatus.RUNNING]


def test_without_skipping_only_advance_moves_the_time():
    with Environment(setup_of(sleep_long), start=START, skip_time=False) as env:
        instance_id = env.client.schedule_new_orchestration(sleep_long, input=1, instance_id="one")
        with pytest.raises(TimeoutError, match=r"'one' did not end within 0\.2 real seconds: it is RUNNING"):
            env.wait(instance_id, timeout=0.2)
        assert env.now == START
        env.advance(DAY)
        assert env.wait(instance_id).runtime_status is OrchestrationStatus.COMPLETED


def test_advancing_fires_what_is_due_on_the_way_at_its_own_moment():
    with Environment(setup_of(daily), start=START) as env:
        instance_id = env.client.schedule_new_orchestration(daily, input=365)
        env.advance(100 * DAY)
        assert env.client.get_orchestration_state(instance_id).get_custom_status() == 100
        for _ in range(264):
            env.advance(DAY)
        assert env.client.get_orchestration_state(instance_id).get_custom_status() == 364
        env.advance(DAY)
        assert env.in_flight() == []
        fired = [e.timestamp for e in env.client.get_orchestration_history(instance_id) if "Fired" in type(e).__name__]
        assert len(fired) == 365
        assert all(timedelta(0) < later - at - DAY < timedelta(seconds=1) for at, later in pairwise(fired))


def test_a_timer_that_is_not_yet_due_does_not_fire():
    with Environment(setup_of(sleep_long), start=START) as env:
        env.client.schedule_new_orchestration(sleep_long, input=1)
        env.advance(DAY - timedelta(seconds=2))
        assert len(env.in_flight()) == 1
        env.advance(timedelta(seconds=2))
        assert env.in_flight() == []


def test_an_event_comes_before_a_timer_that_nobody_waited_for():
    with Environment(setup_of(approval)) as env:
        ids = [env.client.schedule_new_orchestration(approval) for _ in range(2)]
        env.settle()
        env.client.raise_orchestration_event(ids[0], "approved")
        assert [env.wait(instance_id).get_output() for instance_id in ids] == ["approved", "expired"]


def test_a_scheduled_start_is_skipped_to():
    with Environment(setup_of(sleep_long), start=START) as env:
        instance_id = env.client.schedule_new_orchestration(sleep_long, input=0, start_at=START + 10 * DAY)
        env.settle()
        assert env.client.get_orchestration_state(instance_id).runtime_status is OrchestrationStatus.PENDING
        env.wait(instance_id)
        assert env.now >= START + 10 * DAY


def test_retries_do_not_wait_for_their_pause():
    tries = []

    def fail_twice(ctx, _):
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    def retrying(ctx, _):
        policy = task.RetryPolicy(first_retry_interval=timedelta(hours=1), max_number_of_attempts=5)
        return (yield ctx.call_activity(fail_twice, retry_policy=policy))

    with Environment(setup_of(retrying, activities=(fail_twice,)), start=START) as env:
        assert env.run(retrying).get_output() == 3
        assert env.now - START >= timedelta(hours=2)


def test_the_time_waits_for_a_running_activity():
    released = threading.Event()
    running = threading.Event()

    def hang(ctx, _):
        running.set()
        assert released.wait(REAL_SECONDS)

    def race(ctx, _):
        hanging = ctx.call_activity(hang)
        first = yield task.when_any([hanging, ctx.create_timer(DAY)])
        return "activity" if first is hanging else "timer"

    with Environment(setup_of(race, activities=(hang,)), start=START) as env:
        instance_id = env.client.schedule_new_orchestration(race)
        assert running.wait(REAL_SECONDS)
        with pytest.raises(TimeoutError, match="0 orchestrator turns and 1 activities"):
            env.advance(DAY, timeout=0.1)
        assert env.now == START
        env.advance(DAY, while_activities_run=True)
        assert env.wait(instance_id).get_output() == "timer"
        released.set()
        env.settle()


def test_an_activity_can_take_its_time():
    def two_hours(ctx, _):
        env.advance(timedelta(hours=2), while_activities_run=True)
        return "done"

    def measure(ctx, _):
        begun = ctx.current_utc_datetime
        yield ctx.call_activity(two_hours)
        return (ctx.current_utc_datetime - begun) // timedelta(hours=1)

    with Environment(setup_of(measure, activities=(two_hours,))) as env:
        instance_id = env.client.schedule_new_orchestration(measure)
        env.advance(DAY)
        assert env.wait(instance_id).get_output() == 2


def test_time_moves_forward_only():
    with Environment() as env, pytest.raises(ValueError, match="forward only"):
        env.advance(-DAY)


def test_an_async_client_moves_the_time_too():
    async def run(env: Environment) -> str:
        async with env.async_client() as client:
            instance_id = await client.schedule_new_orchestration(sleep_long, input=30)
            state = await client.wait_for_orchestration_completion(instance_id, timeout=REAL_SECONDS)
            return state.get_output()

    with Environment(setup_of(sleep_long), start=START) as env:
        assert asyncio.run(run(env)) == "2026-01-31T00:00:00"


def versioned(ctx: task.OrchestrationContext, _):
    yield ctx.wait_for_external_event("go")
    return ctx.version


def test_instances_outlive_deployments():
    def at(version: str) -> Callable[[TaskHubGrpcWorker], None]:
        def setup(worker: TaskHubGrpcWorker) -> None:
            worker.add_orchestrator(versioned)
            worker.use_versioning(
                VersioningOptions(version=version, match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER)
            )

        return setup

    with Environment(default_version="1.0.0") as env:
        with env.deploy(at("1.0.0"), workers=2) as first:
            old = [env.client.schedule_new_orchestration(versioned) for _ in range(20)]
            env.settle()
            assert len(env.in_flight(name="versioned", version="1.0.0")) == 20
            first.roll(at("2.0.0"))
            assert len(first.workers) == 2
            new = env.client.schedule_new_orchestration(versioned, version="2.0.0")
            for instance_id in (*old, new):
                env.client.raise_orchestration_event(instance_id, "go")
            assert {env.wait(instance_id).get_output() for instance_id in old} == {"1.0.0"}
            assert env.wait(new).get_output() == "2.0.0"
        assert first.workers == ()
        assert env.in_flight() == []


def test_rejected_work_is_offered_again_without_real_pauses():
    def strict(version: str) -> Callable[[TaskHubGrpcWorker], None]:
        def setup(worker: TaskHubGrpcWorker) -> None:
            worker.add_orchestrator(versioned)
            worker.use_versioning(VersioningOptions(version=version, match_strategy=VersionMatchStrategy.STRICT))

        return setup

    with Environment(start=START) as env:
        env.deploy(strict("2.0.0"))
        instance_id = env.client.schedule_new_orchestration(versioned, version="1.0.0")
        env.advance(timedelta(minutes=10))
        assert env.client.get_orchestration_state(instance_id).runtime_status is OrchestrationStatus.PENDING
        env.deploy(strict("1.0.0"))
        env.client.raise_orchestration_event(instance_id, "go")
        assert env.wait(instance_id, timeout=REAL_SECONDS).get_output() == "1.0.0"


def test_a_deployment_has_a_worker():
    with Environment() as env, pytest.raises(ValueError, match="at least one worker"):
        env.deploy(setup_of(sleep_long), workers=0)


def test_a_setup_that_fails_leaves_no_worker_behind():
    def broken(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(None)

    before = threading.active_count()
    with pytest.raises(ValueError):
        Environment(broken)
    assert threading.active_count() <= before
