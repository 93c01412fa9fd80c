"""What this project's own parts cost by themselves: the rules of the hub, the worker's replay with the user's code, the
client.

They are run in turns on one thread and pass their messages to each other. There is no engine, no lease, no queue, no
thread and no storage around them, so whatever a goal leaves beyond their sum is all that a scheduler could be made of.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from durabletask.activities import ActivityOptions, run_activity
from durabletask.client import AsyncTaskHubGrpcClient
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask_proto import copying
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.aio_channel import InProcessAioChannel
from durabletask_scheduler.hub import activities, requests, turns, views
from durabletask_scheduler.hub.model import Commit, Context, Instance, OpenTask
from durabletask_scheduler.waiters import state_response
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from drivers import programs
from drivers.concurrency import bounded
from drivers.floor import AT_ONCE
from drivers.hosts import QUIET

ROUNDS = 5
NOW = 1_700_000_000_000_000_000


class Laboratory:
    """Plays orchestrations with the hub's rules on one side and the worker's replay on the other.

    Attributes:
        seconds: time spent so far, by part.
    """

    def __init__(self) -> None:
        keys, ids = count(1), count(1)
        self.seconds: dict[str, float] = defaultdict(float)
        self._context = Context(now=NOW, new_key=lambda: next(keys), new_id=lambda: f"{next(ids):032x}")
        self._registry = Registry()
        for orchestrator in (programs.single, programs.chain, programs.fan):
            self._registry.add_orchestrator(orchestrator)
        self._registry.add_activity(programs.echo)
        self._run_options, self._activity_options = RunOptions(), ActivityOptions()
        self._since = 0.0

    def play(self, name: str, argument: int) -> pb.GetInstanceResponse:
        """One orchestration from its start to the answer for whoever awaits it."""
        instance_id = self._context.new_id()
        request = pb.CreateInstanceRequest(instanceId=instance_id, name=name)
        request.input.value = str(argument)
        self._since = time.perf_counter()
        instance = next(iter(requests.start(None, request, "default", self._context).created))
        self._lap("hub")
        run = OrchestrationRun(instance_id, self._registry, self._run_options)
        while not run.is_complete:
            for scheduled in self._turn(instance, run).activities:
                self._activity(*scheduled)
        response = state_response(instance, payloads=True)
        self._lap("hub")
        return response

    def _turn(self, instance: Instance, run: OrchestrationRun) -> Commit:
        self._lap("worker")
        turn = turns.begin_turn(instance, self._context)
        item = pb.WorkItem(completionToken=turn.token)
        request = views.turn_request(instance, turn, None, item.orchestratorRequest)
        self._lap("hub")
        result = run.advance(request.newEvents)
        response = pb.OrchestratorResponse(instanceId=instance.instance_id, completionToken=turn.token)
        copying.copy_all(result.actions, response.actions)
        self._lap("worker")
        commit = turns.complete_turn(instance, response, self._context)
        self._lap("hub")
        return commit

    def _activity(self, instance: Instance, task: OpenTask) -> None:
        item = pb.WorkItem(completionToken=self._context.new_id())
        request = activities.activity_request(instance, task, item.activityRequest)
        self._lap("hub")
        response = run_activity(self._registry.activity(request.name, None), request, self._activity_options)
        self._lap("worker")
        activities.complete_activity(instance, task.key, response, self._context)
        self._lap("hub")

    def _lap(self, part: str) -> None:
        """What has passed since the last lap belongs to this part."""
        now = time.perf_counter()
        self.seconds[part] += now - self._since
        self._since = now


class _PromptService:
    """A task hub that answers the client's calls at once: every orchestration has completed."""

    lending = None

    def __init__(self, ended: pb.GetInstanceResponse) -> None:
        self._answers: Mapping[str, Callable[[Any], Message]] = {
            "Hello": lambda _: empty_pb2.Empty(),
            "StartInstance": lambda request: pb.CreateInstanceResponse(instanceId=request.instanceId),
            "WaitForInstanceCompletion": lambda _: ended,
        }

    def call(self, rpc: str, request: Message, metadata: Mapping[str, str], reply: Any) -> Callable[[], None]:
        reply(self._answers[rpc](request), None)
        return _nothing_to_cancel

    def open_stream(self, rpc: str, *_: object) -> Any:
        raise RuntimeError(f"the client is expected to open no stream, but asked for {rpc}")

    open_exchange = open_stream

    def initial_metadata(self, rpc: str) -> tuple[tuple[str, str], ...]:
        return ()


def _nothing_to_cancel() -> None:
    pass


async def _client_seconds(ended: pb.GetInstanceResponse, orchestrations: int) -> float:
    """CPU of an asyncio client that starts and awaits them, as W1a does."""
    channel = InProcessAioChannel(_PromptService(ended))
    async with AsyncTaskHubGrpcClient(channel=channel, logger=QUIET) as client:

        async def start(number: int) -> str:
            return await client.schedule_new_orchestration(programs.single, input=number)

        begun = time.process_time()
        instance_ids = await bounded(AT_ONCE, start, range(orchestrations))
        await bounded(AT_ONCE, client.wait_for_orchestration_completion, instance_ids)
        return time.process_time() - begun


def _client_us(orchestrations: int) -> float:
    ended = Laboratory().play("single", 1)
    return min(asyncio.run(_client_seconds(ended, orchestrations)) for _ in range(ROUNDS)) / orchestrations * 1e6


def _best(operations: int, play: Callable[[Laboratory], object]) -> dict[str, float]:
    """Microseconds of an operation by part, of the fastest of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        laboratory = Laboratory()
        play(laboratory)
        rounds.append(laboratory.seconds)
    fastest = min(rounds, key=lambda seconds: sum(seconds.values()))
    return {part: seconds / operations * 1e6 for part, seconds in fastest.items()}


def microseconds(operations: int) -> dict[str, float]:
    """The parts of an orchestration (W1a), a step (W2) and an activity of a fan-out (W3)."""
    played = {
        "w1a": _best(operations, lambda laboratory: [laboratory.play("single", 1) for _ in range(operations)]),
        "w2": _best(operations, lambda laboratory: laboratory.play("chain", operations)),
        "w3": _best(operations, lambda laboratory: laboratory.play("fan", operations)),
    }
    parts = {f"{part}_{workload}_us": us for workload, by_part in played.items() for part, us in by_part.items()}
    return {**parts, "client_w1a_us": _client_us(operations)}
