"""Schedules through client, scheduler and worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from durabletask import task
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationQuery, OrchestrationState, TaskHubGrpcClient
from durabletask.scheduled import (
    AsyncScheduledTaskClient,
    ScheduleClientValidationError,
    ScheduleCreationOptions,
    ScheduledTaskClient,
    ScheduleNotFoundError,
    ScheduleQuery,
    ScheduleStatus,
    ScheduleUpdateOptions,
)
from durabletask.worker import TaskHubGrpcWorker, VersioningOptions
from durabletask_scheduler import Scheduler

WAIT = 20
HOUR = timedelta(hours=1)


def report(ctx: task.OrchestrationContext, number: int) -> list[Any]:
    return [number, ctx.version]


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with ExitStack() as stack:
        scheduler = stack.enter_context(Scheduler())
        worker = stack.enter_context(TaskHubGrpcWorker(channel=scheduler.channel()))
        worker.configure_scheduled_tasks()
        worker.add_orchestrator(report)
        worker.use_versioning(VersioningOptions(default_version="2.0.0"))
        worker.start()
        yield scheduler


@pytest.fixture
def client(scheduler: Scheduler) -> Iterator[TaskHubGrpcClient]:
    with TaskHubGrpcClient(channel=scheduler.channel()) as client:
        yield client


def wait_for_reports(client: TaskHubGrpcClient, count: int) -> list[OrchestrationState]:
    """Runs come by time alone, so ask until there are enough, and wait for each."""
    deadline = time.monotonic() + WAIT
    while True:
        found = client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix="often-"))
        if len(found) >= count:
            break
        assert time.monotonic() < deadline, f"{len(found)} of {count} runs"
        time.sleep(0.02)
    states = [client.wait_for_orchestration_completion(state.instance_id, timeout=WAIT) for state in found]
    return [state for state in states if state is not None]


def test_a_schedule_starts_orchestrations_again_and_again(client: TaskHubGrpcClient) -> None:
    """R6, lesson 13"""
    schedules = ScheduledTaskClient(client, operation_timeout=WAIT)
    options = ScheduleCreationOptions("often", "report", timedelta(seconds=1), 7, start_immediately_if_late=True)
    schedule = schedules.create_schedule(options)
    states = wait_for_reports(client, 2)
    assert all(state.get_output() == [7, "2.0.0"] for state in states)
    description = schedule.describe()
    assert (description.schedule_id, description.status) == ("often", ScheduleStatus.ACTIVE)
    assert description.next_run_at is not None
    starts = {description.next_run_at - timedelta(seconds=n) for n in range(60)}
    aligned = {f"often-{start.isoformat()}" for start in starts} & {state.instance_id for state in states}
    assert len(aligned) >= len(states) - 1, "all but the first, immediate one"
    schedule.delete()
    with pytest.raises(ScheduleNotFoundError):
        schedule.describe()


def test_a_client_manages_schedules(client: TaskHubGrpcClient) -> None:
    schedules = ScheduledTaskClient(client, operation_timeout=WAIT)
    began = datetime.now(timezone.utc) - timedelta(minutes=1)
    daily = schedules.create_schedule(ScheduleCreationOptions("daily", "report", 24 * HOUR))
    schedules.create_schedule(ScheduleCreationOptions("hourly", "report", HOUR))
    daily.update(ScheduleUpdateOptions(interval=12 * HOUR))
    daily.pause()
    assert (daily.describe().interval, daily.describe().status) == (12 * HOUR, ScheduleStatus.PAUSED)
    queries = [
        (None, {"daily", "hourly"}),
        (ScheduleQuery(status=ScheduleStatus.PAUSED, created_from=began), {"daily"}),
        (ScheduleQuery(schedule_id_prefix="h", page_size=1), {"hourly"}),
        (ScheduleQuery(created_to=began), set()),
    ]
    for query, expected in queries:
        assert {found.schedule_id for found in schedules.list_schedules(query)} == expected
    with pytest.raises(RuntimeError, match=r"Failed to 'pause_schedule' schedule 'daily': .*Invalid state transition"):
        daily.pause()
    daily.resume()
    assert daily.describe().status is ScheduleStatus.ACTIVE
    state = client.wait_for_orchestration_completion(daily.trigger(), timeout=WAIT)
    assert state is not None and state.name == "report"
    created_at = datetime.now(timezone.utc)
    made_up = daily.backfill(created_at - timedelta(days=2), created_at - timedelta(days=1))
    assert len(made_up) == 2
    for instance_id in made_up:
        assert client.wait_for_orchestration_completion(instance_id, timeout=WAIT) is not None
    assert schedules.get_schedule("none") is None
    with pytest.raises(RuntimeError, match="Failed to 'resume_schedule' schedule 'none'"):
        schedules.get_schedule_client("none").resume()


def test_requests_that_make_no_sense_are_refused_before_they_are_sent(client: TaskHubGrpcClient) -> None:
    schedules = ScheduledTaskClient(client)
    with pytest.raises(ScheduleClientValidationError, match="'other'"):
        schedules.get_schedule_client("daily").create(ScheduleCreationOptions("other", "report", HOUR))
    now = datetime.now(timezone.utc)
    with pytest.raises(ValueError, match="start_at cannot be later"):
        schedules.create_schedule(ScheduleCreationOptions("s", "report", HOUR, start_at=now, end_at=now - HOUR))
    for bad in ("", "a@b"):
        with pytest.raises(ValueError):
            schedules.get_schedule_client(bad)
    assert client.get_all_orchestration_states() == []


async def test_an_async_client_manages_schedules(scheduler: Scheduler) -> None:
    async with AsyncTaskHubGrpcClient(channel=scheduler.aio_channel()) as client:
        schedules = AsyncScheduledTaskClient(client, operation_timeout=WAIT)
        schedule = await schedules.create_schedule(ScheduleCreationOptions("daily", "report", 24 * HOUR))
        await schedule.update(ScheduleUpdateOptions(orchestration_input=5))
        await schedule.pause()
        assert (await schedule.describe()).orchestration_input == 5
        await schedule.resume()
        assert [found.schedule_id for found in await schedules.list_schedules()] == [schedule.schedule_id]
        await schedule.delete()
        assert await schedules.get_schedule("daily") is None
