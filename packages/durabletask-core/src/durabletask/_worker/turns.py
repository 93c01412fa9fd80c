"""Orchestrator turns: each runs on the thread that reads its work item."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from google.protobuf.wrappers_pb2 import StringValue

from durabletask._worker.items import Item, Kind
from durabletask._worker.ledger import Ledger
from durabletask._worker.payloads import Payloads
from durabletask._worker.refused import failed_turn
from durabletask._worker.warm import WarmRuns
from durabletask._worker.watchdog import TurnWatchdog


class Result(Protocol):
    """What one turn produced."""

    @property
    def actions(self) -> list[pb.OrchestratorAction]: ...
    @property
    def custom_status(self) -> str | None: ...


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
        payloads: Restores inputs, stores results.
        watchdog: Warns about turns that block.
        logger: Where faults of the worker itself are reported.
    """

    def __init__(
        self,
        code: TurnCode,
        runs: WarmRuns[Run],
        ledger: Ledger,
        payloads: Payloads,
        watchdog: TurnWatchdog,
        logger: logging.Logger,
    ) -> None:
        self._code = code
        self._runs = runs
        self._ledger = ledger
        self._payloads = payloads
        self._watchdog = watchdog
        self._logger = logger
        self.keep_warm = False

    def handle(self, work_item: pb.WorkItem) -> None:
        """Run the turn and send its answer."""
        instance_id = work_item.orchestratorRequest.instanceId
        token = work_item.completionToken
        item = Item(
            Kind.ORCHESTRATION,
            work_item,
            f"a turn of orchestration instance '{instance_id}'",
            lost=lambda: self._runs.drop(instance_id, token),
        )
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

    def _respond(self, work_item: pb.WorkItem) -> pb.OrchestratorResponse:
        request = self._payloads.restore(work_item.orchestratorRequest)
        if warm.BASE in request.properties:
            base = request.properties[warm.BASE].string_value
            run = self._runs.take(request.instanceId, base)
            if run is None:
                return pb.OrchestratorResponse(
                    instanceId=request.instanceId, completionToken=work_item.completionToken, requiresHistory=True
                )
            run.confirm()
            return self._advance(run, request, work_item)
        self._runs.drop(request.instanceId)
        past = self._code.download_history(request) if request.requiresHistoryStreaming else request.pastEvents
        return self._advance(self._code.open_run(request.instanceId), request, work_item, past)

    def _advance(
        self,
        run: Run,
        request: pb.OrchestratorRequest,
        work_item: pb.WorkItem,
        past: Iterable[pb.HistoryEvent] = (),
    ) -> pb.OrchestratorResponse:
        kept = False
        self._watchdog.enter(request.instanceId, run)
        try:
            if past:
                run.replay(past)
            result: Result = run.advance(request.newEvents)
            self._code.report(request.instanceId, result)
            traced = None if self._code.trace is None else self._code.trace(request, run, result)
            response = _response(request, result, work_item.completionToken)
            if traced is not None:
                response.orchestrationTraceContext.CopyFrom(traced)
            try:
                self._payloads.store(response, request.instanceId)
            except ValueError as error:
                return failed_turn(error, instance_id=request.instanceId, token=work_item.completionToken)
            # A run without a name has seen no start: it only answered a rewind.
            if self.keep_warm and work_item.completionToken and run.name and not run.is_complete:
                self._runs.keep(request.instanceId, work_item.completionToken, run)
                kept = True
            return response
        finally:
            self._watchdog.leave()
            if not kept:
                self._runs.dispose(run)


def _response(request: pb.OrchestratorRequest, result: Result, token: str) -> pb.OrchestratorResponse:
    response = pb.OrchestratorResponse(
        instanceId=request.instanceId,
        actions=result.actions,
        completionToken=token,
        customStatus=None if result.custom_status is None else StringValue(value=result.custom_status),
    )
    if request.HasField("orchestrationTraceContext"):
        response.orchestrationTraceContext.CopyFrom(request.orchestrationTraceContext)
    return response
