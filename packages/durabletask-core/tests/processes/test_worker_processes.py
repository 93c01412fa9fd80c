"""Activities in processes: what they are given, what they answer, and that a dying process costs only its activity."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import process_activities
import pytest
from durabletask import task
from durabletask.serialization import JsonDataConverter
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb

PATIENCE = 20.0


class Bound(JsonDataConverter):
    """Has what no other process can be given."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.fixture
def serve(task_hub: Any) -> Iterator[Callable[..., Any]]:
    """Starts a worker with all of ``process_activities`` in processes; returns its stream."""
    workers: list[TaskHubGrpcWorker] = []

    def start(processes: int = 1, **options: Any) -> Any:
        concurrency = ConcurrencyOptions(maximum_process_pool_workers=processes)
        worker = TaskHubGrpcWorker(host_address=task_hub.address, concurrency_options=concurrency, **options)
        workers.append(worker)
        for name in ACTIVITIES:
            worker.add_activity(getattr(process_activities, name), process=True)
        worker.add_activity(here)
        worker.start()
        return task_hub.stream()

    yield start
    for worker in workers:
        worker.stop(0)
    assert multiprocessing.active_children() == []


ACTIVITIES = (
    "process_id",
    "length",
    "fail",
    "leave",
    "exit_at_once",
    "kill_itself",
    "wait_for_file",
    "ignore_termination",
)


def here(ctx: task.ActivityContext, _: Any) -> int:
    return os.getpid()


def activity(name: str, token: str, data: Any = None) -> pb.WorkItem:
    request = pb.ActivityRequest(name=name, taskId=7, orchestrationInstance=pb.OrchestrationInstance(instanceId="i"))
    request.input.value = JsonDataConverter().serialize(data) or ""
    return pb.WorkItem(activityRequest=request, completionToken=token)


def answers(task_hub: Any, count: int) -> dict[str, pb.ActivityResponse]:
    """The next ``count`` answers by their tokens."""
    found = [task_hub.answers.get(timeout=PATIENCE) for _ in range(count)]
    assert {rpc for rpc, _ in found} == {"CompleteActivityTask"}
    return {response.completionToken: response for _, response in found}


def result(response: pb.ActivityResponse) -> Any:
    assert not response.HasField("failureDetails"), response.failureDetails
    return JsonDataConverter().deserialize(response.result.value)


def test_an_activity_runs_in_another_process_which_the_next_one_uses_again(task_hub: Any, serve: Any) -> None:
    stream = serve()
    stream.send(activity("process_id", "t1", ["é", None, 1.5]))
    first = result(answers(task_hub, 1)["t1"])
    stream.send(activity("process_id", "t2"))
    second = result(answers(task_hub, 1)["t2"])
    assert first["pid"] == second["pid"] != os.getpid()
    assert (first["given"], first["task"], first["instance"]) == (["é", None, 1.5], 7, "i")


@pytest.mark.parametrize(
    ("name", "data", "error_type", "message"),
    [("fail", "no", "builtins.ValueError", "no"), ("leave", 3, "builtins.SystemExit", "3")],
)
def test_what_it_raises_fails_it(
    task_hub: Any, serve: Any, name: str, data: Any, error_type: str, message: str
) -> None:
    """R16, lesson 37"""
    stream = serve()
    stream.send(activity(name, "t1", data))
    failure = answers(task_hub, 1)["t1"].failureDetails
    assert (failure.errorType, failure.errorMessage) == (error_type, message)
    assert "process_activities.py" in failure.stackTrace.value


@pytest.mark.parametrize(
    ("name", "data", "how"),
    [("exit_at_once", 9, "ended with code 9"), ("kill_itself", int(signal.SIGKILL), "killed by signal 9")],
)
def test_a_process_that_dies_fails_its_activity_only_and_is_replaced(
    task_hub: Any, serve: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, data: Any, how: str
) -> None:
    """Lessons 37 and 42: os._exit(), and SIGKILL as of the system when memory is short."""
    stream = serve(2, logger=logging.getLogger("worker-of-test"))
    neighbour = [str(tmp_path / "running"), str(tmp_path / "go")]
    stream.send(activity("wait_for_file", "neighbour", neighbour), activity(name, "dies", data))
    failure = answers(task_hub, 1)["dies"].failureDetails
    assert failure.errorType == "durabletask.worker.ActivityProcessDiedError"
    assert name in failure.errorMessage and how in failure.errorMessage
    assert not failure.isNonRetriable
    assert any(how in record.getMessage() for record in caplog.records if record.levelname == "ERROR")

    stream.send(activity("process_id", "next"))
    replaced = result(answers(task_hub, 1)["next"])["pid"]
    (tmp_path / "go").touch()
    assert result(answers(task_hub, 1)["neighbour"]) not in (replaced, os.getpid())


def test_a_process_that_dies_while_idle_costs_nothing(task_hub: Any, serve: Any) -> None:
    """Lesson 42"""
    stream = serve()
    stream.send(activity("process_id", "t1"))
    first = result(answers(task_hub, 1)["t1"])["pid"]
    (child,) = multiprocessing.active_children()
    child.kill()
    child.join(PATIENCE)
    stream.send(activity("process_id", "t2"))
    assert result(answers(task_hub, 1)["t2"])["pid"] != first


def test_no_more_processes_than_the_limit_and_other_activities_do_not_wait(
    task_hub: Any, serve: Any, tmp_path: Path
) -> None:
    """R5, lesson 38: what computes in processes holds up nothing else."""
    stream = serve(1)
    paths = [str(tmp_path / "running"), str(tmp_path / "go")]
    stream.send(activity("wait_for_file", "t1", paths), activity("process_id", "t2"), activity("here", "t3"))
    assert result(answers(task_hub, 1)["t3"]) == os.getpid()
    wait_until((tmp_path / "running").exists)
    assert len(multiprocessing.active_children()) == 1
    (tmp_path / "go").touch()
    both = answers(task_hub, 2)
    assert result(both["t1"]) == result(both["t2"])["pid"]


def test_converter_and_properties_provider_of_the_worker_hold_in_processes(task_hub: Any, serve: Any) -> None:
    converter, provider = process_activities.Doubling(), process_activities.Properties()
    stream = serve(data_converter=converter, exception_properties_provider=provider)
    stream.send(activity("length", "t1", "four"))
    assert result(answers(task_hub, 1)["t1"]) == 8
    stream.send(activity("fail", "t2", "four"))
    assert answers(task_hub, 1)["t2"].failureDetails.properties["length"].number_value == 4


def test_a_converter_that_no_process_can_be_given_is_refused_at_the_start(task_hub: Any) -> None:
    worker = TaskHubGrpcWorker(host_address=task_hub.address, data_converter=Bound())
    worker.add_activity(process_activities.fail, process=True)
    with pytest.raises(TypeError, match="data_converter"):
        worker.start()
    plain = TaskHubGrpcWorker(host_address=task_hub.address, data_converter=Bound())
    plain.add_activity(process_activities.fail)
    plain.start()
    plain.stop(0)


async def later(ctx: task.ActivityContext, _: Any) -> None:
    """An activity of the event loop."""


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [
        (lambda ctx, _: None, "lambda", "top level of a module"),
        (partial(process_activities.fail), "partial", "top level of a module"),
        (later, "later", "async def"),
        (process_activities.Tools().method, "method", "top level of a module"),
    ],
)
def test_a_function_that_no_process_can_run_is_refused(function: Any, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskHubGrpcWorker().add_activity(function, name=name, process=True)


def test_methods_that_need_no_object_run_in_processes(task_hub: Any) -> None:
    worker = TaskHubGrpcWorker(host_address=task_hub.address)
    worker.add_activity(process_activities.Tools.of_class, process=True)
    worker.add_activity(process_activities.Tools.static, process=True)
    worker.start()
    try:
        task_hub.stream().send(activity("of_class", "t1", "!"), activity("static", "t2", "?"))
        found = answers(task_hub, 2)
        assert (result(found["t1"]), result(found["t2"])) == ("Tools!", "?")
    finally:
        worker.stop(0)


def test_stopping_waits_for_a_process_and_then_ends_it(task_hub: Any, tmp_path: Path) -> None:
    """R28, lesson 40: an activity that ignores SIGTERM does not outlive the worker."""
    worker = TaskHubGrpcWorker(host_address=task_hub.address)
    worker.activity(process=True)(process_activities.ignore_termination)
    worker.add_activity(process_activities.wait_for_file, process=True)
    worker.start()
    stream = task_hub.stream()
    go, stubborn = tmp_path / "go", tmp_path / "stubborn"
    stream.send(activity("wait_for_file", "t1", [str(tmp_path / "running"), str(go)]))
    stream.send(activity("ignore_termination", "t2", str(stubborn)))
    wait_until(lambda: stubborn.exists() and (tmp_path / "running").exists())
    stopping = threading.Thread(target=worker.stop, args=(1.0,))
    stopping.start()
    go.touch()
    assert task_hub.answer()[1].completionToken == "t1"
    rpc, abandoned = task_hub.answer()
    assert (rpc, abandoned.completionToken) == ("AbandonTaskActivityWorkItem", "t2")
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    wait_until(lambda: multiprocessing.active_children() == [])


KILLED_WORKER = """
import sys
import threading
import process_activities
from durabletask.worker import TaskHubGrpcWorker
if __name__ == "__main__":
    worker = TaskHubGrpcWorker(host_address=sys.argv[1])
    worker.add_activity(process_activities.ignore_termination, process=True)
    worker.start()
    threading.Event().wait()
"""


def test_a_killed_worker_takes_its_processes_with_it(task_hub: Any, tmp_path: Path) -> None:
    """Lesson 37: what a dead worker was running is run by another one, not by both."""
    script = tmp_path / "worker_main.py"
    script.write_text(KILLED_WORKER)
    environment = {**os.environ, "PYTHONPATH": _search_path()}
    with subprocess.Popen([sys.executable, str(script), task_hub.address], env=environment) as worker:
        task_hub.stream().send(activity("ignore_termination", "t1", str(tmp_path / "pid")))
        wait_until((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        assert is_running(pid)
        worker.kill()
    wait_until(lambda: not is_running(pid))


INTERRUPTED_WORKER = """
import signal
import sys
import process_activities
from durabletask.worker import TaskHubGrpcWorker
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = TaskHubGrpcWorker(host_address=sys.argv[1])
    worker.add_activity(process_activities.ignore_termination, process=True)
    worker.run()
"""


def test_a_second_interrupt_ends_the_worker_and_its_processes(task_hub: Any, tmp_path: Path) -> None:
    """At its end the interpreter waits for processes that ignore SIGTERM."""
    script = tmp_path / "worker_main.py"
    script.write_text(INTERRUPTED_WORKER)
    environment = {**os.environ, "PYTHONPATH": _search_path()}
    with subprocess.Popen([sys.executable, str(script), task_hub.address], env=environment) as worker:
        stream = task_hub.stream()
        stream.send(activity("ignore_termination", "t1", str(tmp_path / "pid")))
        wait_until((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        try:
            worker.send_signal(signal.SIGINT)
            assert stream.ended.wait(PATIENCE)
            worker.send_signal(signal.SIGINT)
            assert worker.wait(PATIENCE) == -signal.SIGINT
        finally:
            worker.kill()
    wait_until(lambda: not is_running(pid))


def _search_path() -> str:
    return os.pathsep.join([os.path.dirname(process_activities.__file__), *sys.path])


def is_running(pid: int) -> bool:
    """Whether a process runs, of whomever it is the child; one that only waits to be collected does not."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(status) and not status.startswith("Z")


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll, because files and processes of others have no event to wait for."""
    pause = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")
