"""Orchestrations of many kinds whose results are known, the worker that runs them, and the check of what they left.

    python scripts/workload.py HOST:PORT        run a worker

``kill_rounds.py`` and ``soak.py`` put this load on a scheduler. The worker writes a line for every activity that it
begins into the file that LEDGER names, so that work done twice can be counted.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from durabletask import task
from durabletask.client import OrchestrationState, OrchestrationStatus, TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub

WORKER_READY = "worker ready"
TIMER = timedelta(milliseconds=20)
CHILD_STEPS = 2
# Long enough for a kill to find activities at work.
STEP_SECONDS = 0.01
RETRY_SECONDS = 0.05
WAIT_SECONDS = 5
# The default pauses of gRPC, up to two minutes, are for fleets; here a killed scheduler is back in a second.
CHANNEL = GrpcChannelOptions(
    raw_options=[("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
)
TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
QUIET = logging.getLogger("workload")
QUIET.setLevel(logging.WARNING)


class Lost(Exception):
    """Something that was promised did not happen, or happened twice; the message says what."""


# --- what workers run


def step(ctx: task.ActivityContext, call: list[Any]) -> int:
    """Add one. ``call`` is the unique name of the call and a number."""
    name, value = call
    ledger = os.environ.get("LEDGER")
    if ledger:
        descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{name}\n".encode())
        finally:
            os.close(descriptor)
    time.sleep(STEP_SECONDS)
    return int(value) + 1


def chain(ctx: task.OrchestrationContext, steps: int) -> Generator[Any, Any, Any]:
    value = 0
    for number in range(steps):
        value = yield ctx.call_activity(step, input=[f"{ctx.instance_id}/{number}", value])
    return value


def fan_out(ctx: task.OrchestrationContext, width: int) -> Generator[Any, Any, Any]:
    results = yield task.when_all(
        [ctx.call_activity(step, input=[f"{ctx.instance_id}/{number}", number]) for number in range(width)]
    )
    return sum(results)


def timers(ctx: task.OrchestrationContext, count: int) -> Generator[Any, Any, Any]:
    value = 0
    for number in range(count):
        yield ctx.create_timer(TIMER)
        value = yield ctx.call_activity(step, input=[f"{ctx.instance_id}/{number}", value])
    return value


def parent(ctx: task.OrchestrationContext, children: int) -> Generator[Any, Any, Any]:
    results = yield task.when_all(
        [
            ctx.call_sub_orchestrator(chain, input=CHILD_STEPS, instance_id=f"{ctx.instance_id}:{number}")
            for number in range(children)
        ]
    )
    return sum(results)


def collect(ctx: task.OrchestrationContext, numbers: int) -> Generator[Any, Any, Any]:
    """Wait for all numbers. A client that had to ask again may have sent some of them twice."""
    seen: set[int] = set()
    while len(seen) < numbers:
        seen.add((yield ctx.wait_for_external_event("number")))
    return sorted(seen)


def generations(ctx: task.OrchestrationContext, state: list[int]) -> Generator[Any, Any, Any]:
    """``state``: how many generations are left, and the value so far."""
    left, value = state
    value = yield ctx.call_activity(step, input=[f"{ctx.instance_id}/{left}", value])
    if left == 1:
        return value
    ctx.continue_as_new([left - 1, value])
    return None


def gather(ctx: task.OrchestrationContext, state: list[Any]) -> Generator[Any, Any, Any]:
    """One number a generation; those that come meanwhile are carried over. ``state``: how many, and which."""
    wanted, seen = state
    seen = sorted({*seen, (yield ctx.wait_for_external_event("number"))})
    if len(seen) == wanted:
        return seen
    ctx.continue_as_new([wanted, seen], save_events=True)
    return None


@dataclass(frozen=True)
class Kind:
    """A kind of orchestration.

    Attributes:
        orchestrator: its function.
        size: how large it is: steps, width, children.
        input, result: what it gets and returns.
        calls: the activities it calls, by the part of their names after the instance id.
        events: how many numbers a client has to send it.
    """

    orchestrator: Callable[..., Any]
    size: int
    input: Any
    result: Any
    calls: frozenset[str] = frozenset()
    events: int = 0


def _numbered(count: int, first: int = 0) -> frozenset[str]:
    return frozenset(f"/{number}" for number in range(first, first + count))


KINDS = (
    Kind(chain, 5, 5, 5, _numbered(5)),
    Kind(fan_out, 8, 8, 36, _numbered(8)),
    Kind(timers, 3, 3, 3, _numbered(3)),
    Kind(parent, 3, 3, 3 * CHILD_STEPS, frozenset(f":{i}/{j}" for i in range(3) for j in range(CHILD_STEPS))),
    Kind(collect, 3, 3, [0, 1, 2], events=3),
    Kind(generations, 4, [4, 0], 4, _numbered(4, first=1)),
    Kind(gather, 3, [3, []], [0, 1, 2], events=3),
)


def run_worker(address: str) -> None:
    """Run a worker until SIGTERM."""
    worker = TaskHubGrpcWorker(host_address=address, channel_options=CHANNEL)
    worker.add_activity(step)
    for kind in KINDS:
        worker.add_orchestrator(kind.orchestrator)
    print(WORKER_READY, flush=True)
    worker.run()


# --- what clients ask for, and look at afterwards


@dataclass
class Instance:
    """An instance under load; ``retries`` counts how often each event may have arrived once more."""

    instance_id: str
    kind: Kind
    started_at: float = 0.0
    retries: Counter[int] = field(default_factory=Counter)


class Load:
    """A client that starts instances of every kind, however often the scheduler goes away meanwhile.

    Args:
        address: host and port of the scheduler.
        patience: seconds that an instance, with all its retries, may take.
        threads: how many calls are under way at once.
    """

    def __init__(self, address: str, *, patience: float = 60.0, threads: int = 8) -> None:
        self.client = TaskHubGrpcClient(host_address=address, channel_options=CHANNEL, logger=QUIET)
        self._channel = grpc.insecure_channel(address, CHANNEL.to_grpc_options())
        self._stub = TaskHubSidecarServiceStub(self._channel)
        self._patience = patience
        self._pool = ThreadPoolExecutor(threads)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.client.close()
        self._channel.close()

    def start(self, instance: Instance) -> None:
        """Start it and send its events; the id is used once, so asking again starts nothing new.

        Raises:
            Lost: the scheduler did not take it in time.
        """
        instance.started_at = time.monotonic()
        policy = pb.OrchestrationIdReusePolicy()
        self.insist(
            lambda: self.client.schedule_new_orchestration(
                instance.kind.orchestrator,
                input=instance.kind.input,
                instance_id=instance.instance_id,
                reuse_id_policy=policy,
            ),
            done={grpc.StatusCode.ALREADY_EXISTS},
        )
        for number in range(instance.kind.events):
            instance.retries[number] = self.insist(
                lambda number=number: self.client.raise_orchestration_event(  # type: ignore[misc]
                    instance.instance_id, "number", data=number
                )
            )

    def start_all(self, instances: Iterable[Instance]) -> None:
        """The same for many at once."""
        for future in [self._pool.submit(self.start, instance) for instance in instances]:
            future.result()

    def finish(self, instance: Instance) -> float:
        """Wait for its end and check its result; returns the seconds that it took.

        Raises:
            Lost: it did not complete in time, or not with what it should.
        """
        state = self.wait_for(instance.instance_id)
        taken = time.monotonic() - instance.started_at
        if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
            raise Lost(f"{instance.instance_id} should have completed, but is {state}")
        if state.get_output() != instance.kind.result:
            raise Lost(f"{instance.instance_id} returned {state.get_output()}, expected {instance.kind.result}")
        return taken

    def wait_for(self, instance_id: str) -> OrchestrationState | None:
        """How it ended, or None if it does not exist.

        Raises:
            Lost: it did not end in time.
        """
        states: list[OrchestrationState | None] = []
        self.insist(
            lambda: states.append(self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT_SECONDS))
        )
        return states[-1]

    def finish_all(self, instances: Iterable[Instance]) -> list[float]:
        """The same for many at once."""
        return [future.result() for future in [self._pool.submit(self.finish, instance) for instance in instances]]

    def verify(self, instance: Instance) -> None:
        """Check that its history has every result exactly once.

        Raises:
            Lost: a result is missing, or there twice.
        """
        chunks = self._stub.StreamInstanceHistory(pb.StreamInstanceHistoryRequest(instanceId=instance.instance_id))
        events = [event for chunk in chunks for event in chunk.events]
        for asked, answered in _PAIRS:
            wanted = Counter(event.eventId for event in events if event.WhichOneof("eventType") == asked)
            found = Counter(_task_id(event, answered) for event in events if event.WhichOneof("eventType") == answered)
            if wanted != found:
                raise Lost(f"{instance.instance_id}: {asked} {dict(wanted)}, but {answered} {dict(found)}")
        raised = Counter(int(event.eventRaised.input.value) for event in events if event.HasField("eventRaised"))
        for number, count in raised.items():
            if count > 1 + instance.retries[number]:
                raise Lost(f"{instance.instance_id}: event {number} arrived {count} times")

    def insist(self, call: Callable[[], object], done: Iterable[grpc.StatusCode] = ()) -> int:
        """Repeat a call until the scheduler has answered it; returns how often it was repeated."""
        end = time.monotonic() + self._patience
        repeated = 0
        while True:
            try:
                call()
                return repeated
            except (grpc.RpcError, TimeoutError) as error:
                code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.DEADLINE_EXCEEDED
                if code in done:
                    return repeated
                if code not in TRANSIENT:
                    raise
                if time.monotonic() >= end:
                    raise Lost(f"not done within {self._patience:g} seconds: {error}") from error
                repeated += 1
                time.sleep(RETRY_SECONDS)


_PAIRS = (
    ("taskScheduled", "taskCompleted"),
    ("timerCreated", "timerFired"),
    ("subOrchestrationInstanceCreated", "subOrchestrationInstanceCompleted"),
)


def _task_id(event: pb.HistoryEvent, kind: str) -> int:
    details = getattr(event, kind)
    return int(details.timerId if kind == "timerFired" else details.taskScheduledId)


def mixture(prefix: str, count: int, chance: random.Random) -> list[Instance]:
    """So many instances; every kind is there if there are enough."""
    kinds = [KINDS[number % len(KINDS)] for number in range(count)] if count > 1 else [chance.choice(KINDS)]
    chance.shuffle(kinds)
    return [Instance(f"{prefix}-{number}", kind) for number, kind in enumerate(kinds)]


def executions(ledger: Iterable[str], instances: Iterable[Instance]) -> tuple[int, int]:
    """How many activities were called for, and how many were executed once more than that.

    Raises:
        Lost: one was never executed, or one was that nobody called for.
    """
    executed = Counter(line.rstrip("\n") for line in ledger)
    called = {instance.instance_id + call for instance in instances for call in instance.kind.calls}
    if executed.keys() != called:
        raise Lost(f"activities never executed, or never called for: {sorted(executed.keys() ^ called)[:10]}")
    return len(called), sum(executed.values()) - len(called)


if __name__ == "__main__":
    run_worker(sys.argv[1])
