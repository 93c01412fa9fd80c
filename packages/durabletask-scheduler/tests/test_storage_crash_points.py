"""A scheduler that is killed between any two statements of a turn's commit has done all of it or nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from itertools import count
from pathlib import Path

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from durabletask_scheduler import Scheduler
from durabletask_scheduler.storage.maintenance import check
from google.protobuf.wrappers_pb2 import StringValue

MOST_STATEMENTS = 40

# Completes one turn with one action of every kind, and kills itself before the statement of that number.
CHILD = textwrap.dedent(
    """
    import os, signal, sqlite3, sys
    from durabletask_proto import orchestrator_service_pb2 as pb
    from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub

    path, fatal = sys.argv[1], int(sys.argv[2])
    armed = False
    executed = 0

    class Connection(sqlite3.Connection):
        def execute(self, statement, *parameters):
            strike(statement)
            return super().execute(statement, *parameters)

        def executemany(self, statement, rows):
            strike(statement)
            return super().executemany(statement, rows)

    def strike(statement):
        global executed
        if armed and not statement.lstrip().upper().startswith("SELECT"):
            if executed == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            executed += 1

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, **{**kwargs, "factory": Connection})

    from durabletask_scheduler import Scheduler

    with Scheduler(path) as scheduler:
        stub = TaskHubSidecarServiceStub(scheduler.channel())
        items = iter(stub.GetWorkItems(pb.GetWorkItemsRequest()))
        for name in ("other", "a"):
            stub.StartInstance(pb.CreateInstanceRequest(instanceId=name, name="order"))
            item = next(items)
            stub.CompleteOrchestratorTask(
                pb.OrchestratorResponse(instanceId=name, completionToken=item.completionToken)
            )
        stub.RaiseEvent(pb.RaiseEventRequest(instanceId="a", name="go"))
        item = next(items)
        timer = pb.CreateTimerAction()
        timer.fireAt.FromSeconds(4_000_000_000)
        actions = [
            pb.OrchestratorAction(id=1, scheduleTask=pb.ScheduleTaskAction(name="charge")),
            pb.OrchestratorAction(id=2, createTimer=timer),
            pb.OrchestratorAction(
                id=3, createSubOrchestration=pb.CreateSubOrchestrationAction(instanceId="child", name="order")
            ),
            pb.OrchestratorAction(
                id=4,
                sendEvent=pb.SendEventAction(instance=pb.OrchestrationInstance(instanceId="other"), name="hello"),
            ),
        ]
        armed = True
        stub.CompleteOrchestratorTask(
            pb.OrchestratorResponse(instanceId="a", completionToken=item.completionToken, actions=actions)
        )
        armed = False
        print("acknowledged", flush=True)
    """
)


def crash(path: Path, statement: int) -> tuple[bool, bool]:
    """Whether the scheduler was killed, and whether it had acknowledged the turn before."""
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(statement)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode != 0, "acknowledged" in result.stdout


def history(stub: TaskHubSidecarServiceStub, instance_id: str) -> list[pb.HistoryEvent]:
    request = pb.StreamInstanceHistoryRequest(instanceId=instance_id)
    return [event for chunk in stub.StreamInstanceHistory(request) for event in chunk.events]


def what_is_there(path: Path) -> str:
    """All or nothing of the turn, after a restart; then everything is brought to its end."""
    with Scheduler(path) as scheduler:
        stub = TaskHubSidecarServiceStub(scheduler.channel())
        child = stub.GetInstance(pb.GetInstanceRequest(instanceId="child")).exists
        kinds = [event.WhichOneof("eventType") for event in history(stub, "a")]
        done = kinds[2:] == [
            "orchestratorStarted",
            "eventRaised",
            "taskScheduled",
            "timerCreated",
            "subOrchestrationInstanceCreated",
            "eventSent",
        ]
        if not done:
            assert kinds == ["orchestratorStarted", "executionStarted"]
        assert child is done
        finish(stub, ["a", "other", *(["child"] if done else [])])
        assert sum(event.eventRaised.name == "hello" for event in history(stub, "other")) == done
        return "all" if done else "nothing"


def finish(stub: TaskHubSidecarServiceStub, instance_ids: list[str]) -> None:
    """Whatever was under way goes on: activities are executed, every instance completes."""
    completion = pb.CompleteOrchestrationAction(orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED)
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    stub.RaiseEvent(pb.RaiseEventRequest(instanceId="a", name="end"))
    stub.RaiseEvent(pb.RaiseEventRequest(instanceId="other", name="end"))
    completed: set[str] = set()
    for item in stream:
        instance_id = item.orchestratorRequest.instanceId
        if item.HasField("activityRequest"):
            response = pb.ActivityResponse(
                instanceId="a", taskId=1, result=StringValue(value="1"), completionToken=item.completionToken
            )
            stub.CompleteActivityTask(response)
        elif instance_id:
            actions = [pb.OrchestratorAction(id=9, completeOrchestration=completion)]
            stub.CompleteOrchestratorTask(
                pb.OrchestratorResponse(instanceId=instance_id, completionToken=item.completionToken, actions=actions)
            )
            completed.add(instance_id)
        if completed == set(instance_ids):
            break
    stream.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_crash_between_any_two_statements_of_a_turn_s_commit_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Lesson 58: history, tasks, messages and status never disagree, and nothing acknowledged is lost."""
    found = []
    for statement in count():
        path = tmp_path / f"{statement}.db"
        killed, acknowledged = crash(path, statement)
        found.append(what_is_there(path))
        assert check(path) == []
        assert acknowledged is (found[-1] == "all" and not killed)
        if not killed:
            break
        assert statement < MOST_STATEMENTS
    # BEGIN, a statement for each kind of row, COMMIT.
    assert len(found) > 7
    assert found == ["nothing"] * (len(found) - 1) + ["all"]
