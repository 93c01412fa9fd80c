"""One run of a worker, from start to stop: everything that lives in between."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto import warm

from durabletask._worker.activities import Activities, ActivityCode, Places
from durabletask._worker.batches import BatchCode, Batches, RunBatch
from durabletask._worker.items import ACTIVITY, ENTITY, KINDS, ORCHESTRATION, Item
from durabletask._worker.ledger import Ledger
from durabletask._worker.loop import LoopThread
from durabletask._worker.options import ConcurrencyOptions
from durabletask._worker.payloads import Payloads
from durabletask._worker.processes import ProcessPool
from durabletask._worker.refused import history_too_large
from durabletask._worker.threads import ThreadPool
from durabletask._worker.turns import Run, TurnCode, Turns
from durabletask._worker.warm import WarmRuns
from durabletask._worker.watchdog import TurnWatchdog
from durabletask.payload import PayloadStore
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.completions import Delivery, Outbox, Refusal, RetryDelays, is_too_large
from durabletask.transport.connection import CALL_DEADLINE, Connection
from durabletask.transport.frames import AnswerFrames
from durabletask.transport.lane import Lane
from durabletask.transport.outages import OutageLog
from durabletask.transport.stream import Abilities, StreamOptions, WorkItemStream

if TYPE_CHECKING:
    from durabletask._tracing.workers import WorkerTracing

_ABANDON_GRACE = 2.0
_LAST_ITEMS_SECONDS = 1.0
"""For how long a worker that stops reads what was on its way to it."""

_STOPPING = "the worker is stopping"


@dataclass(frozen=True)
class Server:
    """Where the worker connects, and how it holds on.

    Args:
        address: The host as the user named it, for logs.
        open_channel: Opens a channel of our own; True asks for a connection of its own, because the channel
            replaces one that may be broken.
        channel: The user's channel, used instead and never closed.
        stream: Deadlines and thresholds of the work-item stream.
        delays: Back-off between tries of a completion.
    """

    address: str
    open_channel: Callable[[bool], grpc.Channel]
    channel: grpc.Channel | None
    stream: StreamOptions
    delays: RetryDelays


@dataclass(frozen=True)
class Intake:
    """What the worker asks for.

    Args:
        concurrency: Limits for each kind of work item.
        capabilities: Protocol numbers to advertise, without that of warm runs.
        filters: Work items to take; None takes all.
    """

    concurrency: ConcurrencyOptions
    capabilities: frozenset[int]
    filters: pb.WorkItemFilters | None


@dataclass(frozen=True)
class UserCode:
    """How user code is reached.

    Args:
        open_run: Makes a run for an instance id.
        rejections: Exceptions of a turn that mean: leave it to another worker.
        report: Logs what a turn observed.
        activities: The user's activities.
        run_batch: Runs a work item of a feature's.
        batch_kinds: Names in ``WorkItem.request`` that ``run_batch`` knows; none without the add-on.
        payload_store: The user's payload store, or None.
        turn_warning: Seconds after which a turn that blocks is reported.
        tracing: Makes spans of what runs; None without OpenTelemetry.
    """

    open_run: Callable[[str], Run]
    rejections: tuple[type[Exception], ...]
    report: Callable[[str, Any], None]
    activities: ActivityCode
    run_batch: RunBatch
    batch_kinds: frozenset[str]
    payload_store: PayloadStore | None
    turn_warning: float
    tracing: "WorkerTracing | None" = None


class Session:
    """A started worker. It cannot be started twice; a worker makes a new one for every start.

    Args:
        server: Where to connect.
        intake: What to ask for.
        code: What to run.
        logger: Where all of it reports.
    """

    def __init__(self, server: Server, intake: Intake, code: UserCode, logger: logging.Logger) -> None:
        limits = intake.concurrency
        self._intake = intake
        self._logger = logger
        self._clock = AlarmClock(logger)
        lane = Lane()
        self._connection = Connection(server.open_channel, server.channel, self._clock, lane)
        self._outbox = Outbox(self._connection.call, self._clock, logger, server.delays)
        self._ledger = Ledger(self._outbox, logger)
        self._runs: WarmRuns[Run] = WarmRuns(limits.maximum_cached_orchestrations, self._dispose)
        self._threads = ThreadPool(limits.maximum_thread_pool_workers, "DurableTask", logger, lane)
        self._batch_threads = ThreadPool(limits.maximum_thread_pool_workers, "DurableTaskEntity", logger, lane)
        self._process_threads = ThreadPool(limits.maximum_process_pool_workers, "DurableTaskProcess", logger, lane)
        self._processes = ProcessPool(limits.maximum_process_pool_workers, code.activities.options, logger)
        self._loop = LoopThread("DurableTaskLoop", logger)
        self._payloads = None if code.payload_store is None else Payloads(code.payload_store)
        self._turns = self._new_turns(code)
        self._activities = self._new_activities(code)
        self._batches = self._new_batches(code)
        by_kind = {ORCHESTRATION: self._turns.handle, ACTIVITY: self._activities.handle, ENTITY: self._batches.handle}
        self._handlers = {request: by_kind[kind] for request, kind in KINDS.items()}
        self._late: list[Item] = []
        outages = OutageLog(logger, server.address, server.stream.resiliency.reconnect_backoff_cap_seconds)
        self._stream = WorkItemStream(self._connection, self, server.stream, self._clock, outages, lane)
        self._reader = threading.Thread(target=self._stream.run, name="DurableTaskWorker", daemon=True)

    def _new_turns(self, code: UserCode) -> Turns:
        trace = None if code.tracing is None else code.tracing.turn
        return Turns(
            TurnCode(code.open_run, code.rejections, code.report, self._download_history, trace),
            self._runs,
            self._ledger,
            self._payloads,
            TurnWatchdog(self._clock, code.turn_warning, self._logger),
            self._logger,
        )

    def _new_activities(self, code: UserCode) -> Activities:
        tracing = code.tracing
        return Activities(
            replace(code.activities, tracing=None if tracing is None else tracing.activities),
            self._intake.concurrency.maximum_concurrent_activity_work_items,
            Places(self._threads, self._loop, self._processes, self._process_threads),
            self._ledger,
            self._payloads,
            self._logger,
        )

    def _new_batches(self, code: UserCode) -> Batches:
        trace = None if code.tracing is None else code.tracing.batch
        return Batches(
            BatchCode(code.run_batch, code.batch_kinds, trace),
            self._intake.concurrency.maximum_concurrent_entity_work_items,
            self._batch_threads,
            self._loop,
            self._ledger,
            self._payloads,
            self._logger,
        )

    def start(self) -> None:
        """Start the threads and return."""
        self._clock.start()
        self._reader.start()

    def stop(self, timeout: float) -> None:
        """Take nothing new, let what runs finish within ``timeout`` seconds, give back the rest.

        Whoever is interrupted in it, as by Ctrl-C, waits for nothing any more: what runs is left to itself, and what
        is not answered to the scheduler, which notices that the stream has ended.
        """
        try:
            self._wind_up(time.monotonic() + timeout)
            self._release()
            self._processes.close()
        except BaseException:
            # Not on this thread: what was interrupted may hold a lock, of ours or of gRPC's, that nobody releases now.
            threading.Thread(target=self._let_go, name="DurableTaskEnd", daemon=True).start()
            raise

    def _let_go(self) -> None:
        # First what alone would keep the interpreter up: the processes, and the thread of the clock.
        self._processes.kill()
        self._clock.stop()
        self._stream.close()
        self._stream.cut()
        self._release()

    def _wind_up(self, deadline: float) -> None:
        self._stream.close()
        self._outbox.ride(None)
        self._join_reader(min(deadline, time.monotonic() + _LAST_ITEMS_SECONDS))
        self._stream.cut()
        self._join_reader(deadline)
        # Not earlier: what is given back while the stream is open is handed out again after a pause only.
        self._abandon_waiting()
        self._ledger.drain(deadline, _ABANDON_GRACE)

    def _release(self) -> None:
        """End the threads and close the connection, without waiting; once more does no harm."""
        self._outbox.close()
        self._threads.close()
        self._process_threads.close()
        self._batch_threads.close()
        self._loop.close()
        self._clock.stop()
        self._connection.close()

    def _join_reader(self, deadline: float) -> None:
        if threading.current_thread() is not self._reader:
            self._reader.join(max(0.0, deadline - time.monotonic()))

    def _abandon_waiting(self) -> None:
        self._activities.abandon_waiting(_STOPPING)
        self._batches.abandon_waiting(_STOPPING)
        for item in self._late:
            self._ledger.abandon(item, _STOPPING)

    def request(self, abilities: Abilities) -> pb.GetWorkItemsRequest:
        """The request to open a stream with."""
        lending = self._connection.lending
        self._outbox.hand_over(None if lending is None else partial(self._connection.hand_over, lending))
        self._turns.keep_warm = abilities.warm_runs and self._runs.enabled
        self._batches.keep_warm = self._turns.keep_warm and self._batches.can_keep_warm
        limits = self._intake.concurrency
        request = pb.GetWorkItemsRequest(
            maxConcurrentOrchestrationWorkItems=limits.maximum_concurrent_orchestration_work_items,
            maxConcurrentActivityWorkItems=limits.maximum_concurrent_activity_work_items,
            maxConcurrentEntityWorkItems=self._batches.limit,
            workItemFilters=self._intake.filters,
        )
        capabilities = set(self._intake.capabilities)
        if self._turns.keep_warm:
            capabilities.add(warm.CAPABILITY)
        if self._batches.keep_warm:
            capabilities.add(warm.ENTITY_CAPABILITY)
        # An open enum: numbers that the generated code does not know travel like any other.
        request.capabilities.extend(sorted(capabilities))  # type: ignore[arg-type]
        return request

    def opening(self, frames: AnswerFrames[Delivery]) -> None:
        """Answers can leave by this stream until it ends."""
        self._outbox.ride(frames)

    def settled(self, frame: additions_pb.SchedulerFrame) -> None:
        """The scheduler says how it took some of the answers on the stream."""
        self._outbox.settle(frame)

    def received(self, work_item: pb.WorkItem) -> None:
        """Hand a work item to the handler of its kind."""
        handler = self._handlers.get(work_item.WhichOneof("request") or "")
        if handler is None:
            self._logger.warning(
                "Ignored a work item of a kind that this version does not know; update durabletask-core if the task "
                "hub is newer than it"
            )
            return
        handler(work_item)

    def received_late(self, work_item: pb.WorkItem) -> None:
        """Keep it, to be given back once the scheduler knows that this worker takes nothing more."""
        kind = KINDS.get(work_item.WhichOneof("request") or "")
        if kind is not None:
            item = Item(kind, work_item)
            self._ledger.begun(item)
            self._late.append(item)

    def disconnected(self) -> None:
        """The stream ended, and with it the server's memory of what is warm here."""
        self._outbox.ride(None)
        self._runs.clear()
        self._batches.forget_states()

    def _dispose(self, run: Run) -> None:
        error = run.close()
        if error is not None:
            self._logger.debug("Closing a suspended run of orchestrator '%s' raised", run.name, exc_info=error)

    def _download_history(self, request: pb.OrchestratorRequest) -> list[pb.HistoryEvent]:
        chunks = self._connection.stub.StreamInstanceHistory(
            pb.StreamInstanceHistoryRequest(
                instanceId=request.instanceId, executionId=request.executionId, forWorkItemProcessing=True
            ),
            timeout=CALL_DEADLINE,
        )
        try:
            return [event for chunk in chunks for event in chunk.events]
        except grpc.RpcError as error:
            refusal = Refusal.of(error)
            if not is_too_large(refusal):
                raise
            raise history_too_large(refusal) from error
