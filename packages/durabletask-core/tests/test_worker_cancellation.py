"""Cancellations of ``async def`` activities: their own fail them, the worker's end does not."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from durabletask import task
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb


class SlowStore(PayloadStore):
    """Lets others run before it stores."""

    options = LargePayloadStorageOptions(threshold_bytes=2)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        return "memory:1"

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        await asyncio.sleep(0)
        return self.upload(data)

    def download(self, token: str) -> bytes:
        raise KeyError(token)

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith("memory:")


@pytest.fixture
def serve(task_hub: Any) -> Iterator[Callable[..., TaskHubGrpcWorker]]:
    """Starts a worker that has one activity, and delivers that activity."""
    workers: list[TaskHubGrpcWorker] = []

    def start(function: Callable[..., Any], **options: Any) -> TaskHubGrpcWorker:
        worker = TaskHubGrpcWorker(host_address=task_hub.address, **options)
        workers.append(worker)
        worker.add_activity(function, name="a")
        worker.start()
        request = pb.ActivityRequest(name="a", taskId=1)
        task_hub.stream().send(pb.WorkItem(activityRequest=request, completionToken="t"))
        return worker

    yield start
    for worker in workers:
        worker.stop(0)


def cancel_this() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()


async def cancels_itself(ctx: task.ActivityContext, _: Any) -> None:
    cancel_this()
    await asyncio.sleep(0)


async def awaits_what_is_cancelled(ctx: task.ActivityContext, _: Any) -> None:
    other = asyncio.ensure_future(asyncio.Event().wait())
    other.cancel()
    await other


async def raises_it(ctx: task.ActivityContext, _: Any) -> None:
    raise asyncio.CancelledError("on purpose")


async def ends_cancelled(ctx: task.ActivityContext, _: Any) -> str:
    cancel_this()
    return "a text"


@pytest.mark.parametrize("function", [cancels_itself, awaits_what_is_cancelled, raises_it])
def test_a_cancellation_of_its_own_fails_an_activity(task_hub: Any, serve: Any, function: Any) -> None:
    """Lesson 9"""
    serve(function)
    rpc, response = task_hub.answer()
    assert (rpc, response.completionToken) == ("CompleteActivityTask", "t")
    assert response.failureDetails.errorType == "asyncio.exceptions.CancelledError"
    assert not response.failureDetails.isNonRetriable


def test_one_that_comes_only_while_the_result_is_stored_fails_it_too(task_hub: Any, serve: Any) -> None:
    serve(ends_cancelled, payload_store=SlowStore())
    rpc, response = task_hub.answer()
    assert (rpc, response.completionToken) == ("CompleteActivityTask", "t")
    assert response.failureDetails.errorType == "asyncio.exceptions.CancelledError"


def test_what_the_end_of_the_worker_cancels_is_given_back(task_hub: Any, serve: Any) -> None:
    """R28"""
    begun, cancelled = threading.Event(), threading.Event()

    async def endless(ctx: task.ActivityContext, _: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    worker = serve(endless)
    assert begun.wait(10)
    worker.stop(0)
    assert cancelled.wait(10)
    assert task_hub.answer()[0] == "AbandonTaskActivityWorkItem"
    assert task_hub.answers.empty()
