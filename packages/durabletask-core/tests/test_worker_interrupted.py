"""A stop that is interrupted, as by a second Ctrl-C, in processes that get real signals."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

PATIENCE = 10.0

PREAMBLE = """
import signal
import sys
import threading
from durabletask.worker import TaskHubGrpcWorker

# Who runs tests in the background may ignore it, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

def block(ctx, _):
    print("running", flush=True)
    threading.Event().wait()

async def block_async(ctx, _):
    print("running", flush=True)
    threading.Event().wait()

worker = TaskHubGrpcWorker(host_address=sys.argv[1])
worker.add_activity(block)
worker.add_activity(block_async)
worker.add_activity(lambda ctx, _: print("running", flush=True), name="brief")
"""
RUN = "worker.run()"
WITH = """
with worker:
    worker.start()
    threading.Event().wait()
"""
INTERRUPTED_WITH_A_LOCK = """
from durabletask.transport.stream import WorkItemStream

def close(self, *, before=[]):
    if before:
        threading.Event().wait()
    before.append(self)
    raise KeyboardInterrupt

WorkItemStream.close = close
worker.start()
print("running", flush=True)
worker.stop()
"""
CAUGHT = """
try:
    worker.run()
except KeyboardInterrupt:
    ours = [thread for thread in threading.enumerate() if thread.name in ("DurableTaskClock", "DurableTaskWorker")]
    for thread in ours:
        thread.join(10)
    print(sum(thread.is_alive() for thread in ours), "left", flush=True)
    worker.add_activity(block, name="configurable")
    worker.stop()
"""

Started = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(task_hub: Any) -> Iterator[Started]:
    """Starts a process of that ending with a worker of the scripted task hub."""
    processes: list[subprocess.Popen[str]] = []

    def begin(ending: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PREAMBLE + ending, task_hub.address]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def activity(name: str) -> pb.WorkItem:
    request = pb.ActivityRequest(name=name, taskId=1, input=StringValue(value="null"))
    request.orchestrationInstance.instanceId = "one"
    return pb.WorkItem(activityRequest=request, completionToken="t1")


def interrupted_twice(task_hub: Any, process: "subprocess.Popen[str]", name: str) -> None:
    """Interrupt the process while that activity runs or is answered, and again as soon as it stops."""
    stream = task_hub.stream()
    stream.send(activity(name))
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    assert stream.ended.wait(PATIENCE)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("name", ["block", "block_async"])
@pytest.mark.parametrize("ending", [RUN, WITH], ids=["run", "with"])
def test_a_second_interrupt_ends_the_process_although_an_activity_runs(
    task_hub: Any, start: Started, ending: str, name: str
) -> None:
    process = start(ending)
    interrupted_twice(task_hub, process, name)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_second_interrupt_ends_the_process_while_nothing_runs(task_hub: Any, start: Started) -> None:
    task_hub.gate.clear()
    process = start(RUN)
    interrupted_twice(task_hub, process, "brief")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT, errors


def test_an_interrupted_stop_leaves_no_thread_of_the_worker_and_a_worker_that_is_stopped(
    task_hub: Any, start: Started
) -> None:
    process = start(CAUGHT)
    interrupted_twice(task_hub, process, "block")
    output, errors = process.communicate(timeout=2 * PATIENCE)
    assert output == "0 left\n", errors
    assert process.returncode == 0


def test_an_interrupted_stop_ends_the_process_although_what_was_interrupted_holds_a_lock(start: Started) -> None:
    """As when the interrupt comes while gRPC, or the standard library, leaves a condition."""
    _, errors = start(INTERRUPTED_WITH_A_LOCK).communicate(timeout=PATIENCE)
    assert errors.rstrip().endswith("KeyboardInterrupt")
