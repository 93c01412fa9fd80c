"""Activities: plain functions on threads or in processes, ``async def`` ones on the loop, never on the reader."""

import enum
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask._worker.items import Item, Kind
from durabletask._worker.ledger import Ledger
from durabletask._worker.loop import LoopThread
from durabletask._worker.payloads import Payloads
from durabletask._worker.permits import Permits
from durabletask._worker.processes import ActivityProcessDiedError, ProcessPool
from durabletask._worker.refused import failed_activity
from durabletask._worker.threads import ThreadPool
from durabletask.activities import ActivityOptions, failed_response

Run = Callable[[pb.ActivityRequest], pb.ActivityResponse]
RunAsync = Callable[[pb.ActivityRequest], Awaitable[pb.ActivityResponse]]


class Tracing(Protocol):
    """Runs activities inside of their spans."""

    def run(self, run: Run, request: pb.ActivityRequest, /) -> pb.ActivityResponse: ...
    async def run_async(self, run: RunAsync, request: pb.ActivityRequest, /) -> pb.ActivityResponse: ...


class Place(enum.Enum):
    """Where an activity runs."""

    THREAD = "thread"
    PROCESS = "process"
    LOOP = "loop"


@dataclass(frozen=True)
class ActivityCode:
    """The user's activities. Faults of user code become failures inside the response.

    Args:
        place: Where the activity of a request runs.
        location: How a process finds the activity of a request.
        options: What activities share.
        run: Runs a plain one, or answers that there is none of this name.
        run_async: Runs an ``async def`` one.
        started: Called before an activity runs, on its thread.
        completed: Called after it ran, however it ended.
        tracing: Runs it inside of a span; None without tracing.
    """

    place: Callable[[pb.ActivityRequest], Place]
    location: Callable[[pb.ActivityRequest], str]
    options: ActivityOptions
    run: Run
    run_async: RunAsync
    started: Callable[[pb.ActivityRequest], None]
    completed: Callable[[pb.ActivityRequest], None]
    tracing: Tracing | None = None


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
        payloads: Restores inputs, stores results.
        logger: Where failing hooks are reported.
    """

    def __init__(
        self,
        code: ActivityCode,
        limit: int,
        places: Places,
        ledger: Ledger,
        payloads: Payloads,
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
        self._starts: dict[Place, Callable[[Item], None]] = {
            Place.THREAD: self._thread_permits.submit,
            Place.PROCESS: self._process_permits.submit,
            Place.LOOP: self._start_on_loop,
        }

    def handle(self, work_item: pb.WorkItem) -> None:
        """Take the activity; it starts when a permit and a thread are free."""
        request = work_item.activityRequest
        subject = (
            f"activity '{request.name}' (task {request.taskId} of instance "
            f"'{request.orchestrationInstance.instanceId}')"
        )
        item = Item(Kind.ACTIVITY, work_item, subject)
        self._ledger.begun(item)
        self._permits.submit(item)

    def abandon_waiting(self, reason: str) -> None:
        """Give back every activity that has not been started."""
        for permits in (self._permits, self._thread_permits, self._process_permits):
            for item in permits.take_waiting():
                self._ledger.abandon(item, reason)

    def _start(self, item: Item) -> None:
        self._starts[self._code.place(item.message.activityRequest)](item)

    def _start_on_loop(self, item: Item) -> None:
        self._places.loop.submit(partial(self._run_async, item))

    def _start_on_thread(self, item: Item) -> None:
        self._places.threads.submit(partial(self._run, item, self._code.run, self._thread_permits))

    def _start_in_process(self, item: Item) -> None:
        self._places.process_threads.submit(partial(self._run, item, self._run_in_process, self._process_permits))

    def _run_in_process(self, request: pb.ActivityRequest) -> pb.ActivityResponse:
        try:
            return self._places.processes.run(self._code.location(request), request)
        except ActivityProcessDiedError as error:
            return failed_response(request, error, self._code.options)

    def _run(self, item: Item, run: Run, permits: Permits[Item]) -> None:
        try:
            if self._ledger.is_open(item):
                self._ledger.complete(item, self._respond(item, run))
        finally:
            permits.release()
            self._permits.release()

    def _respond(self, item: Item, run: Run) -> pb.ActivityResponse:
        try:
            request = self._payloads.restore(item.message.activityRequest)
            self._hook(self._code.started, request)
            try:
                tracing = self._code.tracing
                response = run(request) if tracing is None else tracing.run(run, request)
            finally:
                self._hook(self._code.completed, request)
            response.completionToken = item.token
            self._payloads.store(response, response.instanceId)
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
        try:
            request = await self._payloads.restore_async(item.message.activityRequest)
            self._hook(self._code.started, request)
            try:
                tracing, run = self._code.tracing, self._code.run_async
                response = await (run(request) if tracing is None else tracing.run_async(run, request))
            finally:
                self._hook(self._code.completed, request)
            response.completionToken = item.token
            await self._payloads.store_async(response, response.instanceId)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return self._failed(item, error)
        return response

    def _failed(self, item: Item, error: BaseException) -> pb.ActivityResponse:
        self._logger.error("%s failed outside of its code", item.subject, exc_info=error)
        request = item.message.activityRequest
        instance_id = request.orchestrationInstance.instanceId
        return failed_activity(error, instance_id=instance_id, task_id=request.taskId, token=item.token)

    def _hook(self, hook: Callable[[pb.ActivityRequest], None], request: pb.ActivityRequest) -> None:
        try:
            hook(request)
        except Exception:
            self._logger.exception("A hook around activity '%s' failed", request.name)
