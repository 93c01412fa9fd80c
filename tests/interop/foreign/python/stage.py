"""What the workloads of this folder share: their registry, the way to a scheduler, and how outcomes are told.

A workload is a function from a stage to its outcome, which must fit into JSON. ``perform`` prints one line for each
workload: ``{"workload": name, "outcome": ...}``, or ``"error"`` with a traceback in place of the outcome.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from durabletask.client import OrchestrationState, TaskHubGrpcClient
from durabletask.history import HistoryEvent
from durabletask.worker import TaskHubGrpcWorker

WAIT = 40
QUIET = logging.getLogger("quiet")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


class Stage:
    """A scheduler's address and a client of its default task hub, and clients and workers of other task hubs."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = self.hub_client("default")

    def _connection(self, hub: str) -> dict[str, Any]:
        return {"host_address": self.address, "metadata": [("taskhub", hub)], "logger": QUIET}

    def hub_client(self, hub: str, **options: Any) -> TaskHubGrpcClient:
        return TaskHubGrpcClient(**self._connection(hub), **options)

    @contextmanager
    def hub_worker(self, hub: str, *functions: Callable[..., Any], **options: Any) -> Iterator[TaskHubGrpcWorker]:
        """A worker of another task hub, not started, with these functions."""
        worker = TaskHubGrpcWorker(**self._connection(hub), **options)
        for function in functions:
            register(worker, function)
        try:
            yield worker
        finally:
            worker.stop()

    def run(self, orchestrator: Callable[..., Any] | str, **options: Any) -> OrchestrationState:
        """Start an orchestration and wait for its end."""
        return self.ended(self.client.schedule_new_orchestration(orchestrator, **options))

    def ended(self, instance_id: str) -> OrchestrationState:
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None, f"{instance_id} does not exist"
        return state

    def started(self, orchestrator: Callable[..., Any] | str, **options: Any) -> str:
        """Start an orchestration and wait for its first turn; its id."""
        instance_id = self.client.schedule_new_orchestration(orchestrator, **options)
        self.client.wait_for_orchestration_start(instance_id, timeout=WAIT)
        return instance_id

    def status(self, instance_id: str) -> str:
        state = self.client.get_orchestration_state(instance_id)
        return str(state.runtime_status) if state else "missing"

    def reached(self, instance_id: str, *statuses: str) -> str:
        """Wait for one of the statuses, for which no call waits; the status."""
        return until(lambda: self.status(instance_id), lambda status: status in statuses)

    def kinds(self, instance_id: str) -> list[str]:
        return [kind_of(event) for event in self.client.get_orchestration_history(instance_id)]


def register(worker: TaskHubGrpcWorker, function: Callable[..., Any]) -> None:
    """Register as an activity or an orchestrator, as its first parameter says."""
    first = next(iter(function.__annotations__.values()), "")
    (worker.add_activity if "ActivityContext" in str(first) else worker.add_orchestrator)(function)


def kind_of(event: HistoryEvent) -> str:
    """The kind of a history event, with its id if it has one."""
    kind = type(event).__name__.removesuffix("Event")
    return f"{kind}#{event.event_id}" if event.event_id >= 0 else kind


def until(look: Callable[[], Any], is_enough: Callable[[Any], bool]) -> Any:
    """Look again and again for what no call waits for, as long as a wait may last; what was seen last."""
    deadline = time.monotonic() + WAIT
    while not is_enough(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


def code_of(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """How a call ended: OK or the name of gRPC's status code."""
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def end(state: OrchestrationState) -> list[Any]:
    """Status and output; the failure's type and message in place of the output where there is one."""
    if state.failure_details is not None:
        return [str(state.runtime_status), state.failure_details.error_type, state.failure_details.message]
    return [str(state.runtime_status), state.get_output()]


def new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


Workload = Callable[[Stage], Any]


def perform(stage: Stage, workloads: Iterable[Workload], at_once: int) -> None:
    """Run the workloads, so many at once."""
    with ThreadPoolExecutor(at_once) as pool:
        for workload in workloads:
            pool.submit(_perform, stage, workload)


_printing = threading.Lock()


def _perform(stage: Stage, workload: Workload) -> None:
    started = time.monotonic()
    try:
        line = {"workload": workload.__name__, "outcome": workload(stage)}
    except Exception:
        line = {"workload": workload.__name__, "error": traceback.format_exc()}
    line["seconds"] = round(time.monotonic() - started, 3)
    with _printing:
        print(json.dumps(line), flush=True)
