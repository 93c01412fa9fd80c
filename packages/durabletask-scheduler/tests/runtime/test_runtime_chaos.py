"""Nothing is lost and nothing hangs while stores fail, workers vanish and the process restarts."""

from __future__ import annotations

import random
import threading

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb

INSTANCES = 12
STEPS = 4


class Worker:
    """Runs STEPS activities in a row for every instance; forgets, gives back or repeats some answers.

    An orchestrator is replayed from what it is sent: completed tasks in the past and among the new
    events. A warm turn continues from the count that was kept under its base.
    """

    def __init__(self, runtime, do, seed):
        self.random = random.Random(seed)
        self.runtime = runtime
        self.do = do
        self.sink = runtime.worker(capabilities=[1001])
        self.kept = {}
        self.results = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        for item in iter(self.sink.next_or_none, None):
            kind = item.WhichOneof("request")
            if kind in ("orchestratorRequest", "activityRequest") and self.random.random() < 0.9:
                getattr(self, kind)(item)

    def orchestratorRequest(self, item):
        request = item.orchestratorRequest
        base = request.properties["durabletask.warm-base"].string_value
        if self.random.random() < 0.03:
            abandon = pb.AbandonOrchestrationTaskRequest(completionToken=item.completionToken)
            self.runtime.begin("AbandonTaskOrchestratorWorkItem", abandon)
            return
        if base and (base not in self.kept or self.random.random() < 0.1):
            self.runtime.answer(item, requiresHistory=True)
            return
        done = self.kept.pop(base) if base else 0
        events = [*request.pastEvents, *request.newEvents]
        ids = [event.taskCompleted.taskScheduledId for event in events if event.HasField("taskCompleted")]
        assert ids == list(range(done + 1, done + 1 + len(ids))), "an event was lost or came twice"
        done += len(ids)
        self.kept[item.completionToken] = done
        following = self.do.activity(done + 1) if done < STEPS else self.do.complete(STEPS + 1, str(done))
        for _ in range(2 if self.random.random() < 0.1 else 1):
            self.runtime.answer(item, following)

    def activityRequest(self, item):
        for _ in range(2 if self.random.random() < 0.1 else 1):
            self.runtime.result(item)

    def stop(self):
        self.sink.cancel()
        self.sink.close()
        self.thread.join(10)


@pytest.mark.parametrize("seed", range(3))
def test_every_instance_completes_once_whatever_happens(runtime, do, seed):
    """Lessons 46, 47, 58, 60."""
    chance = random.Random(seed)
    names = [f"a{number}" for number in range(INSTANCES)]
    for name in names:
        runtime.start(name)
    for _ in range(8):
        workers = [Worker(runtime, do, chance.random()) for _ in range(2)]
        for _ in range(3):
            runtime.storage.fail_next_writes(chance.randrange(3))
            runtime.pause(0.05)
        for worker in workers:
            worker.stop()
        if chance.random() < 0.5:
            runtime.restart()
    last = Worker(runtime, do, seed)
    last.random.random = lambda: 0.5  # from here on it does its duty
    try:
        for name in names:
            state = runtime.wait(name).result(20).orchestrationState
            assert (state.orchestrationStatus, state.output.value) == (pb.ORCHESTRATION_STATUS_COMPLETED, str(STEPS))
    finally:
        last.stop()
    history = runtime.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="a0")).rest()
    kinds = [event.WhichOneof("eventType") for chunk in history for event in chunk.events]
    assert kinds.count("taskScheduled") == kinds.count("taskCompleted") == STEPS
    assert kinds.count("executionCompleted") == 1
