"""Activities: plain functions on threads or in processes, ``async def`` ones on the loop, never on the reader."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask._worker.items import ACTIVITY, Item
from durabletask._worker.ledger import Ledger
from durabletask._worker.loop import LoopThread
from durabletask._worker.payloads import Payloads
from durabletask._worker.permits import Permits
from durabletask._worker.processes import ActivityProcessDiedError, ProcessPool, location_of
from durabletask._worker.refused import failed_activity
from durabletask._worker.threads import ThreadPool
from durabletask.activities import ActivityOptions, failed_response, run_activity, run_activity_async
from durabletask.registry import Registration

Run = Callable[[pb.ActivityRequest], pb.ActivityResponse]
RunAsync = Callable[[pb.ActivityRequest], Awaitable[pb.ActivityResponse]]
RunRegistered = Callable[[Registration | None, pb.ActivityRequest, ActivityOptions], pb.ActivityResponse]
RunRegisteredAsync = Callable[
    [Registration | None, pb.ActivityRequest, ActivityOptions], Awaitable[pb.ActivityResponse]
]
Hook = Callable[[pb.ActivityRequest], None]


class Tracing(Protocol):
    """Runs activities inside of their spans."""

    def concerns(self, request: pb.ActivityRequest, /) -> bool: ...
    def run(self, run: Run, request: pb.ActivityRequest, /) -> pb.ActivityResponse: ...
    async def run_async(self, run: RunAsync, request: pb.ActivityRequest, /) -> pb.ActivityResponse: ...


@dataclass(frozen=True)
class ActivityCode:
    """The user's activities. Faults of user code become failures inside the response.

    Args:
        find: The activity of a name and a version, or None.
        options: What activities share.
        started: Called before an activity runs, on its thread; None for nothing.
        completed: Called after it ran, however it ended; None for nothing.
        tracing: Runs it inside of a span; None without tracing.
        run: Runs a plain one on a thread.
        run_async: Runs an ``async def`` one on the loop.
    """

    find: Callable[[str, str | None], Registration | None]
    options: ActivityOptions
    started: Hook | None = None
    completed: Hook | None = None
    tracing: Tracing | None = None
    run: RunRegistered = run_activity
    run_async: RunRegisteredAsync = run_activity_async


@dataclass(frozen=True)
class Places:
    """Where user code runs.

    Args:
        threads: Run plain functions.
        loop: Runs ``async def`` functions.
        processes: Run functions that ask for it.
        process_threads: Wait for the processes, one each.
    """

    threads: ThreadPool
    loop: LoopThread
    processes: ProcessPool
    process_threads: ThreadPool


class Activities:
    """Handles ``activityRequest``.

    Args:
        code: The user's activities.
        limit: Greatest number that run at once, in all places together.
        places: Where they run.
        ledger: Where answers go.
        payloads: Restores inputs, stores results; None without a payload store.
        logger: Where failing hooks are reported.
    """

    def __init__(
        self,
        code: ActivityCode,
        limit: int,
        places: Places,
        ledger: Ledger,
        payloads: Payloads | None,
        logger: logging.Logger,
    ) -> None:
        self._code = code
        self._places = places
        self._ledger = ledger
        self._payloads = payloads
        self._logger = logger
        self._permits: Permits[Item] = Permits(limit, self._start)
        # What has one of these too has a thread or a process at once, so that all that waits can be given back.
        self._thread_permits: Permits[Item] = Permits(places.threads.size, self._start_on_thread)
        self._process_permits: Permits[Item] = Permits(places.processes.size, self._start_in_process)

    def handle(self, work_item: pb.WorkItem) -> None:
        """Take the activity; it starts when a permit and a thread are free."""
        request = work_item.activityRequest
        item = Item(ACTIVITY, work_item, code=self._code.find(request.name, request.version.value or None))
        self._ledger.begun(item)
        self._permits.submit(item)

    def abandon_waiting(self, reason: str) -> None:
        """Give back every activity that has not been started."""
        for permits in (self._permits, self._thread_permits, self._process_permits):
            for item in permits.take_waiting():
                self._ledger.abandon(item, reason)

    def _start(self, item: Item) -> None:
        registration: Registration | None = item.code
        if registration is not None and registration.in_process:
            self._process_permits.submit(item)
        elif registration is not None and registration.is_async:
            self._places.loop.submit(partial(self._run_async, item))
        else:
            self._thread_permits.submit(item)

    def _start_on_thread(self, item: Item) -> None:
        self._places.threads.submit(partial(self._run, item, self._code.run, self._thread_permits))

    def _start_in_process(self, item: Item) -> None:
        self._places.process_threads.submit(partial(self._run, item, self._run_in_process, self._process_permits))

    def _run_in_process(
        self, registration: Registration | None, request: pb.ActivityRequest, options: ActivityOptions
    ) -> pb.ActivityResponse:
        assert registration is not None
        try:
            return self._places.processes.run(location_of(registration), request)
        except ActivityProcessDiedError as error:
            return failed_response(request, error, options)

    def _run(self, item: Item, run: RunRegistered, permits: Permits[Item]) -> None:
        try:
            if self._ledger.is_open(item):
                self._ledger.complete(item, self._respond(item, run))
        finally:
            permits.release()
            self._permits.release()

    def _respond(self, item: Item, run: RunRegistered) -> pb.ActivityResponse:
        code, payloads, request = self._code, self._payloads, item.message.activityRequest
        try:
            if payloads is not None:
                request = payloads.restore(request)
            if code.started is not None:
                self._call_hook(code.started, request)
            try:
                if code.tracing is None or not code.tracing.concerns(request):
                    response = run(item.code, request, code.options)
                else:
                    response = code.tracing.run(lambda traced: run(item.code, traced, code.options), request)
            finally:
                if code.completed is not None:
                    self._call_hook(code.completed, request)
            response.completionToken = item.message.completionToken
            if payloads is not None:
                payloads.store(response, response.instanceId)
        except BaseException as error:
            return self._failed(item, error)
        return response

    async def _run_async(self, item: Item) -> None:
        try:
            if self._ledger.is_open(item):
                self._ledger.complete(item, await self._respond_async(item))
        finally:
            self._permits.release()

    async def _respond_async(self, item: Item) -> pb.ActivityResponse:
        code, payloads, request = self._code, self._payloads, item.message.activityRequest
        try:
            if payloads is not None:
                request = await payloads.restore_async(request)
            if code.started is not None:
                self._call_hook(code.started, request)
            try:
                if code.tracing is None or not code.tracing.concerns(request):
                    response = await self._run_on_loop(item.code, request)
                else:
                    response = await code.tracing.run_async(
                        lambda traced: self._run_on_loop(item.code, traced), request
                    )
            finally:
                if code.completed is not None:
                    self._call_hook(code.completed, request)
            response.completionToken = item.message.completionToken
            if payloads is not None:
                await payloads.store_async(response, response.instanceId)
        except CancelledError as error:
            # One that the code asked for comes at the next wait, which may be behind the code.
            if self._places.loop.is_closed:
                raise
            return self._failed(item, error)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return self._failed(item, error)
        return response

    async def _run_on_loop(self, registration: Registration | None, request: pb.ActivityRequest) -> pb.ActivityResponse:
        code = self._code
        try:
            return await code.run_async(registration, request, code.options)
        except CancelledError as error:
            # What the worker's end cancels has been given back; any other is a fault of the code as others are.
            if self._places.loop.is_closed:
                raise
            return failed_response(request, error, code.options)

    def _failed(self, item: Item, error: BaseException) -> pb.ActivityResponse:
        self._logger.error("%s failed outside of its code", item.subject, exc_info=error)
        request = item.message.activityRequest
        instance_id = request.orchestrationInstance.instanceId
        return failed_activity(error, instance_id=instance_id, task_id=request.taskId, token=item.token)

    def _call_hook(self, hook: Hook, request: pb.ActivityRequest) -> None:
        try:
            hook(request)
        except Exception:
            self._logger.exception("A hook around activity '%s' failed", request.name)
