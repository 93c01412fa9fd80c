"""Orchestrator turns: one at a time, each on the thread that takes its work item; see ``transport.lane``."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from durabletask_proto import copying, warm
from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask._worker.items import ORCHESTRATION, Item
from durabletask._worker.ledger import Ledger
from durabletask._worker.payloads import Payloads
from durabletask._worker.refused import PayloadTooLargeError, failed_turn
from durabletask._worker.warm import WarmRuns
from durabletask._worker.watchdog import TurnWatchdog


class Result(Protocol):
    """What one turn produced."""

    @property
    def actions(self) -> list[pb.OrchestratorAction]: ...
    @property
    def custom_status(self) -> str | None: ...
    @property
    def observations(self) -> Sequence[Any]: ...


class Run(Protocol):
    """One generation of an orchestration instance, as the replay engine offers it."""

    @property
    def name(self) -> str: ...
    @property
    def is_complete(self) -> bool: ...
    def replay(self, past_events: Iterable[pb.HistoryEvent]) -> None: ...
    def advance(self, new_events: Iterable[pb.HistoryEvent]) -> Any: ...
    def confirm(self) -> None: ...
    def close(self) -> BaseException | None: ...


@dataclass(frozen=True)
class TurnCode:
    """The user's orchestrators, and how their turns reach them.

    Args:
        open_run: Makes a run for an instance id.
        rejections: Exceptions of ``advance`` that mean: another worker's version.
        report: Logs what a turn observed.
        download_history: The past events of a request that requires history streaming.
        trace: Makes spans of a turn, and returns what the answer carries for later turns; None without tracing.
    """

    open_run: Callable[[str], Run]
    rejections: tuple[type[Exception], ...]
    report: Callable[[str, Any], None]
    download_history: Callable[[pb.OrchestratorRequest], list[pb.HistoryEvent]]
    trace: Callable[[pb.OrchestratorRequest, Any, Any], pb.OrchestrationTraceContext | None] | None = None


class Turns:
    """Handles ``orchestratorRequest``.

    Args:
        code: The user's orchestrators.
        runs: Warm runs.
        ledger: Where answers go.
        payloads: Restores inputs, stores results; None without a payload store.
        watchdog: Warns about turns that block.
        logger: Where faults of the worker itself are reported.
    """

    def __init__(
        self,
        code: TurnCode,
        runs: WarmRuns[Run],
        ledger: Ledger,
        payloads: Payloads | None,
        watchdog: TurnWatchdog,
        logger: logging.Logger,
    ) -> None:
        self._code = code
        self._runs = runs
        self._ledger = ledger
        self._payloads = payloads
        self._watchdog = watchdog
        self._logger = logger
        # Made once: it goes with every turn.
        self._when_lost = self._lost
        self.keep_warm = False

    def handle(self, work_item: pb.WorkItem) -> None:
        """Run the turn and send its answer."""
        item = Item(ORCHESTRATION, work_item, self._when_lost)
        self._ledger.begun(item)
        try:
            response = self._respond(work_item)
        except self._code.rejections as rejection:
            self._ledger.abandon(item, str(rejection))
        except BaseException:
            # Faults of user code become actions inside the run, so this is ours; a later try may do better.
            self._logger.exception("%s failed in the worker itself", item.subject)
            self._ledger.abandon(item, "the worker failed, see above")
        else:
            self._ledger.complete(item, response)

    def _lost(self, item: Item) -> None:
        self._runs.drop(item.message.orchestratorRequest.instanceId, item.token)

    def _respond(self, work_item: pb.WorkItem) -> pb.OrchestratorResponse:
        request = work_item.orchestratorRequest
        if self._payloads is not None:
            request = self._payloads.restore(request)
        # Read once: each reading makes a text of its own, and a run that is kept keeps what it was given.
        instance_id = request.instanceId
        properties = request.properties
        if warm.BASE in properties:
            run = self._runs.take(instance_id, properties[warm.BASE].string_value)
            if run is None:
                return pb.OrchestratorResponse(
                    instanceId=instance_id, completionToken=work_item.completionToken, requiresHistory=True
                )
            run.confirm()
            return self._advance(run, instance_id, request, work_item)
        self._runs.drop(instance_id)
        try:
            past = self._downloaded(request) if request.requiresHistoryStreaming else request.pastEvents
        except PayloadTooLargeError as error:
            # No later try of this worker would do better.
            return failed_turn(error, instance_id=instance_id, token=work_item.completionToken)
        return self._advance(self._code.open_run(instance_id), instance_id, request, work_item, past)

    def _downloaded(self, request: pb.OrchestratorRequest) -> list[pb.HistoryEvent]:
        payloads, events = self._payloads, self._code.download_history(request)
        return events if payloads is None else [payloads.restore(event) for event in events]

    def _advance(
        self,
        run: Run,
        instance_id: str,
        request: pb.OrchestratorRequest,
        work_item: pb.WorkItem,
        past: Iterable[pb.HistoryEvent] = (),
    ) -> pb.OrchestratorResponse:
        kept, token = False, work_item.completionToken
        self._watchdog.enter(instance_id, run)
        try:
            if past:
                run.replay(past)
            result: Result = run.advance(request.newEvents)
            if result.observations:
                self._code.report(instance_id, result)
            traced = None if self._code.trace is None else self._code.trace(request, run, result)
            response = _response(request, instance_id, result, token)
            if traced is not None:
                response.orchestrationTraceContext.CopyFrom(traced)
            if self._payloads is not None:
                try:
                    self._payloads.store(response, instance_id)
                except ValueError as error:
                    return failed_turn(error, instance_id=instance_id, token=token)
            # A run without a name has seen no start: it only answered a rewind.
            if self.keep_warm and token and run.name and not run.is_complete:
                self._runs.keep(instance_id, token, run)
                kept = True
            return response
        finally:
            self._watchdog.leave()
            if not kept:
                self._runs.dispose(run)


def _response(request: pb.OrchestratorRequest, instance_id: str, result: Result, token: str) -> pb.OrchestratorResponse:
    response = pb.OrchestratorResponse(instanceId=instance_id, completionToken=token)
    copying.copy_all(result.actions, response.actions)
    if result.custom_status is not None:
        response.customStatus.value = result.custom_status
    if request.HasField("orchestrationTraceContext"):
        response.orchestrationTraceContext.CopyFrom(request.orchestrationTraceContext)
    return response
