"""Between our worker and our scheduler, many work items and many answers share a call."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import grpc
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.worker import TaskHubGrpcWorker

if TYPE_CHECKING:
    from conftest import Hub

WAIT = 60
WIDTH = 300


class Counting(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Counts the calls of a worker by name."""

    def __init__(self) -> None:
        self.calls: collections.Counter[str] = collections.Counter()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.calls[details.method.rpartition("/")[2]] += 1
        return continuation(details, request)

    intercept_unary_stream = intercept_unary_unary


def one(_: task.ActivityContext, number: int) -> int:
    return number


def fan_out(ctx: task.OrchestrationContext, width: int) -> Any:
    return (yield task.when_all([ctx.call_activity(one, input=number) for number in range(width)]))


def test_a_fan_out_takes_fewer_calls_than_activities(hub: Hub) -> None:
    """Over a network and in process alike; the results are those of one call each."""
    counting = Counting()

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(fan_out)
        worker.add_activity(one)

    connection = hub.connection
    if "channel" in connection:
        channel = grpc.intercept_channel(hub.scheduler.channel(), counting)
        worker = TaskHubGrpcWorker(channel=channel)
    else:
        worker = TaskHubGrpcWorker(host_address=str(connection["host_address"]), interceptors=[counting])
    with worker:
        setup(worker)
        worker.start()
        client = hub.client()
        instance_id = client.schedule_new_orchestration(fan_out, input=WIDTH)
        state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED
    assert state.get_output() == list(range(WIDTH))
    assert counting.calls["CompleteWorkItems"] >= 1
    assert counting.calls["CompleteActivityTask"] + counting.calls["CompleteWorkItems"] < WIDTH / 2
    streams = ("GetWorkItemPacks", "GetWorkItems") if hub.over_grpc else ("GetWorkItems", "GetWorkItemPacks")
    assert [counting.calls[name] for name in streams] == [1, 0]
