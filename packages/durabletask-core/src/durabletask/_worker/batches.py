"""Work items that a feature runs: entity batches, on threads of their own."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm

from durabletask._worker.items import ENTITY, Item, entity_id_of
from durabletask._worker.ledger import Ledger
from durabletask._worker.loop import LoopThread
from durabletask._worker.payloads import Payloads
from durabletask._worker.permits import Permits
from durabletask._worker.refused import failed_batch
from durabletask._worker.threads import ThreadPool
from durabletask._worker.warm_states import WarmStates
from durabletask.features import WorkItemHost

_MOST_KEPT = 64 * 1024 * 1024
_BRIEF_SECONDS = 0.001
_MOST_PACES = 1_000
_MISSING = "the package 'durabletask-entities' is not installed"

RunBatch = Callable[[pb.WorkItem, WorkItemHost], pb.EntityBatchResult]
"""Runs one batch; the shell adds the completion token. An exception gives the batch back."""


@dataclass(frozen=True)
class BatchCode:
    """The user's entities.

    Args:
        run: Runs a batch.
        kinds: Names in ``WorkItem.request`` that ``run`` knows; none without the add-on.
        trace: Makes spans of a batch that has run; None without tracing.
    """

    run: RunBatch
    kinds: frozenset[str]
    trace: Callable[[pb.WorkItem, pb.EntityBatchResult], object] | None = None


class Batches:
    """Handles ``entityRequest`` and ``entityRequestV2``.

    Args:
        code: The user's entities.
        limit: Greatest number that run at once.
        threads: Where they run.
        loop: Where their ``async def`` code runs.
        ledger: Where answers go.
        payloads: Restores inputs and state, stores results and state; None without a payload store.
        logger: Where a missing add-on and faults of the add-on are reported.
    """

    def __init__(
        self,
        code: BatchCode,
        limit: int,
        threads: ThreadPool,
        loop: LoopThread,
        ledger: Ledger,
        payloads: Payloads | None,
        logger: logging.Logger,
    ) -> None:
        self._code = code
        self._threads = threads
        self._host = WorkItemHost(logger, loop.run)
        self._ledger = ledger
        self._payloads = payloads
        self._logger = logger
        # What has a permit has a thread at once, so that all that waits can be given back at once.
        self._limit = min(limit, threads.size)
        self._permits: Permits[Item] = Permits(self._limit, self._start)
        self._reported = False
        self._states = WarmStates(_MOST_KEPT)
        self._paces = Paces()
        self.keep_warm = False

    @property
    def limit(self) -> int:
        """How many batches to ask for at once: those that can run.

        More would wait here, where other workers cannot take them and operations that arrive meanwhile cannot
        join them.
        """
        return self._limit

    @property
    def can_keep_warm(self) -> bool:
        """Whether batches come in the form that names the batch before."""
        return "entityRequestV2" in self._code.kinds

    def forget_states(self) -> None:
        """Drop all that was kept: the server does not know of it any longer."""
        self._states.clear()

    def handle(self, work_item: pb.WorkItem) -> None:
        """Take the batch; it starts when a permit and a thread are free."""
        item = Item(ENTITY, work_item, self._lost)
        self._ledger.begun(item)
        if work_item.WhichOneof("request") in self._code.kinds:
            self._permits.submit(item)
        else:
            self._refuse(item)

    def abandon_waiting(self, reason: str) -> None:
        """Give back every batch that has not been started."""
        for item in self._permits.take_waiting():
            self._ledger.abandon(item, reason)

    def _lost(self, item: Item) -> None:
        self._states.drop(entity_id_of(item.message), item.token)

    def _refuse(self, item: Item) -> None:
        if not self._reported:
            self._reported = True
            self._logger.error(
                "The task hub delivers entity work items, which this worker cannot run: install the package "
                "'durabletask-entities', or exclude entities with use_work_item_filters()"
            )
        self._ledger.abandon(item, _MISSING)

    def _start(self, item: Item) -> None:
        self._threads.submit(partial(self._run, item), brief=self._paces.is_brief(item.message))

    def _run(self, item: Item) -> None:
        begun = time.monotonic()
        try:
            if self._ledger.is_open(item):
                self._respond(item)
        finally:
            self._paces.note(item.message, time.monotonic() - begun)
            self._permits.release()

    def _respond(self, item: Item) -> None:
        try:
            response = self._response(item)
            response.completionToken = item.token
        except BaseException:
            # Faults of user code become results inside the batch, so this is ours; a later try may do better.
            self._logger.exception("%s failed in the worker itself", item.subject)
            self._ledger.abandon(item, "the worker failed, see above")
        else:
            self._ledger.complete(item, response)

    def _response(self, item: Item) -> pb.EntityBatchResult:
        entity_id = entity_id_of(item.message)
        received = item.message if self._payloads is None else self._payloads.restore(item.message)
        work_item = self._with_state(received)
        if work_item is None:
            return pb.EntityBatchResult(requiresState=True)
        response = self._code.run(work_item, self._host)
        if self._code.trace is not None:
            self._code.trace(work_item, response)
        state = response.entityState.value if response.HasField("entityState") else None
        if self._payloads is not None:
            try:
                self._payloads.store(response, entity_id)
            except ValueError as error:
                # Given back, the batch would run again and end the same way.
                return failed_batch(error, token=item.token)
        if self.keep_warm and state is not None and item.token:
            # Before it is sent: the next batch may come as soon as it is.
            self._states.keep(entity_id, item.token, state)
        return response

    def _with_state(self, work_item: pb.WorkItem) -> pb.WorkItem | None:
        """The work item with the state that the server has left out, or None if that state is not here."""
        request = work_item.entityRequestV2
        if not request.executionId.startswith(warm.ENTITY_BASE):
            self._states.drop(entity_id_of(work_item))
            return work_item
        state = self._states.take(request.instanceId, request.executionId[len(warm.ENTITY_BASE) :])
        if state is None:
            return None
        # A received message may be shared with a server in this process.
        copy = pb.WorkItem(completionToken=work_item.completionToken, entityRequestV2=request)
        copy.entityRequestV2.entityState.value = state
        return copy


class Paces:
    """How long operations take, by the entity's name: code that does I/O must not hold up the scheduler's work."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def is_brief(self, work_item: pb.WorkItem) -> bool:
        """Whether the batch ends soon if its operations take what those of the last one of the same name took."""
        seconds = self._seconds.get(_name(work_item))
        return seconds is not None and seconds * _size(work_item) <= _BRIEF_SECONDS

    def note(self, work_item: pb.WorkItem, seconds: float) -> None:
        """A batch took so long."""
        if len(self._seconds) >= _MOST_PACES:
            self._seconds.clear()
        self._seconds[_name(work_item)] = seconds / max(1, _size(work_item))


def _name(work_item: pb.WorkItem) -> str:
    return entity_id_of(work_item)[1:].partition("@")[0]


def _size(work_item: pb.WorkItem) -> int:
    return len(work_item.entityRequestV2.operationRequests) or len(work_item.entityRequest.operations)
