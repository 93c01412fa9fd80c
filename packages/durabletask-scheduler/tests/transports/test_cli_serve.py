"""The command line, as processes: ready line, signals, one clear line for every failure."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from importlib.metadata import version

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

READY = re.compile(
    r"durabletask-scheduler: ready on http://(?P<host>\S+):(?P<port>\d+), task hubs: (?P<hubs>.*), "
    r"data in (?P<data>.*) \(synchronous=(?P<synchronous>\w+)\)\n"
)
WAIT = 20


def spawn(*arguments, cwd, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "durabletask_scheduler", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, cwd, **environment):
    """The exit code, standard output and standard error of a command that ends by itself."""
    process = spawn(*arguments, cwd=cwd, **environment)
    output, errors = process.communicate(timeout=WAIT)
    return process.returncode, output, errors


@pytest.fixture
def serve(tmp_path):
    """Start schedulers; each comes with the parts of its ready line."""
    processes = []

    def begin(*arguments, **environment):
        process = spawn("serve", "--port", "0", *arguments, cwd=tmp_path, **environment)
        processes.append(process)
        line = process.stdout.readline()
        match = READY.fullmatch(line)
        assert match, line or process.stderr.read()
        return process, match.groupdict()

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def call(port):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    return channel, pb_grpc.TaskHubSidecarServiceStub(channel)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_when_it_is_ready_and_ends_on_a_signal(serve, tmp_path, number):
    process, ready = serve()
    assert (ready["hubs"], ready["synchronous"]) == ("default", "FULL")
    assert ready["data"] == str(tmp_path / "durabletask.db")
    channel, stub = call(ready["port"])
    with channel:
        stub.Hello(Empty(), timeout=WAIT)
    process.send_signal(number)
    output, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors


def test_serve_ends_promptly_with_workers_and_waiters_connected(serve):
    process, ready = serve()
    channel, stub = call(ready["port"])
    with channel:
        stub.StartInstance(pb.CreateInstanceRequest(instanceId="a", name="n"), timeout=WAIT)
        stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=WAIT)
        stream.initial_metadata()
        waiter = stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest(instanceId="a"))
        stub.Hello(Empty(), timeout=WAIT)  # calls arrive in order: the waiter is there
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=WAIT)
        assert process.returncode == 0
        assert waiter.code() is grpc.StatusCode.UNAVAILABLE
        with contextlib.suppress(grpc.RpcError):
            collections.deque(stream, maxlen=0)
        assert stream.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)


def test_what_was_started_is_there_after_a_restart(serve, tmp_path):
    for again in (False, True):
        process, ready = serve("--db", "other.db")
        channel, stub = call(ready["port"])
        with channel:
            if not again:
                stub.StartInstance(pb.CreateInstanceRequest(instanceId="kept", name="n"), timeout=WAIT)
            assert stub.GetInstance(pb.GetInstanceRequest(instanceId="kept"), timeout=WAIT).exists
        process.kill() if not again else process.terminate()
        process.wait(timeout=WAIT)
    assert (tmp_path / "other.db").exists()


def test_the_environment_gives_defaults_and_options_win(serve):
    _, ready = serve(
        "--synchronous",
        "OFF",
        "--task-hub",
        "x",
        "--task-hub",
        "y",
        DURABLETASK_SCHEDULER_TASK_HUBS="p,q",
        DURABLETASK_SCHEDULER_SYNCHRONOUS="normal",
        DURABLETASK_SCHEDULER_DB=":memory:",
    )
    assert (ready["hubs"], ready["synchronous"], ready["data"]) == ("x, y", "OFF", "memory")
    _, ready = serve(
        DURABLETASK_SCHEDULER_TASK_HUBS="p, q",
        DURABLETASK_SCHEDULER_SYNCHRONOUS="normal",
        DURABLETASK_SCHEDULER_HOST="localhost",
    )
    assert (ready["host"], ready["hubs"], ready["synchronous"]) == ("localhost", "p, q", "NORMAL")


def test_the_size_of_a_request_and_the_length_of_a_history_can_be_bounded(serve):
    _, ready = serve("--max-message-size", "1M", DURABLETASK_SCHEDULER_MAX_HISTORY_EVENTS="3")
    channel, stub = call(ready["port"])
    with channel:
        large = pb.CreateInstanceRequest(instanceId="a", name="n", input=StringValue(value="x" * 2**20))
        with pytest.raises(grpc.RpcError) as caught:
            stub.StartInstance(large, timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        items = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=WAIT)
        stub.StartInstance(pb.CreateInstanceRequest(instanceId="a", name="n"), timeout=WAIT)
        item = next(iter(items))
        actions = [pb.OrchestratorAction(id=n, scheduleTask=pb.ScheduleTaskAction(name="x")) for n in (1, 2)]
        answer = pb.OrchestratorResponse(instanceId="a", completionToken=item.completionToken, actions=actions)
        stub.CompleteOrchestratorTask(answer, timeout=WAIT)
        state = stub.GetInstance(pb.GetInstanceRequest(instanceId="a"), timeout=WAIT).orchestrationState
        assert state.failureDetails.errorType == "HistoryTooLong"


def test_logs_can_be_lines_of_json(serve):
    process, _ = serve("--log-format", "json", "--host", "0.0.0.0", "--allow-unauthenticated")
    process.terminate()
    lines = [json.loads(line) for line in process.communicate(timeout=WAIT)[1].splitlines()]
    assert {"time", "level", "logger", "message"} == set(lines[0])
    assert [(line["level"], "no authentication" in line["message"]) for line in lines[:1]] == [("WARNING", True)]


def test_a_host_that_others_can_reach_is_allowed_on_request_with_a_warning(serve):
    process, _ = serve("--host", "0.0.0.0", "--allow-unauthenticated")
    process.terminate()
    assert "no authentication" in process.communicate(timeout=WAIT)[1]


@pytest.mark.parametrize(("level", "warns"), [("warning", True), ("error", False)])
def test_logs_begin_at_the_level_that_was_asked_for(serve, level, warns):
    process, _ = serve("--host", "0.0.0.0", "--allow-unauthenticated", "--log-level", level)
    process.terminate()
    assert ("no authentication" in process.communicate(timeout=WAIT)[1]) is warns


def test_a_second_scheduler_on_one_file_is_refused(serve, tmp_path):
    serve()
    code, output, errors = run("serve", "--port", "0", cwd=tmp_path)
    assert (code, output) == (1, "")
    assert re.fullmatch(r"durabletask-scheduler: error: .*in use by another scheduler.*\n", errors)


def test_a_port_in_use_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output, errors = run("serve", "--port", str(port), cwd=tmp_path)
    assert (code, output) == (1, "")
    assert re.search(
        rf"^durabletask-scheduler: error: cannot listen on 127\.0\.0\.1:{port}: Address already", errors, re.M
    )
    assert "Traceback" not in errors


def not_a_database(path):
    path.write_text("these are not the bytes of a database, whatever its name says\n" * 20)


def of_another_application(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA application_id = 7")
    connection.close()


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda path: path.mkdir(), "is a directory"),
        (not_a_database, "is not a SQLite file"),
        (of_another_application, "another application"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(tmp_path, prepare, expected):
    prepare(tmp_path / "given")
    code, output, errors = run("serve", "--port", "0", "--db", "given", cwd=tmp_path)
    assert (code, output) == (1, "")
    assert re.fullmatch(rf"durabletask-scheduler: error: .*{expected}.*\n", errors)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    code, _, errors = run("serve", "--port", "0", "--db", "no/such/file.db", cwd=tmp_path)
    assert code == 1
    assert re.fullmatch(r"durabletask-scheduler: error: .*does not exist.*\n", errors)


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, "COMMAND"),
        (["serve", "--port", "eighty"], {}, "expected a port from 0 to 65535, found 'eighty'"),
        (["serve"], {"DURABLETASK_SCHEDULER_PORT": "70000"}, "expected a port from 0 to 65535, found '70000'"),
        (["serve", "--synchronous", "maybe"], {}, "expected one of full, normal, off, found 'maybe'"),
        (["serve", "--log-level", "loud"], {}, "expected one of debug, info, warning, error, found 'loud'"),
        (["serve", "--task-hub", " "], {}, "expected the name of a task hub"),
        (["serve", "--max-message-size", "4G"], {}, "such as 67108864, 512K or 64M, found '4G'"),
        (["serve", "--max-message-size", "4096M"], {}, "expected bytes below 2 GiB"),
        (["serve", "--max-history-events", "0"], {}, "expected a number from 1 to"),
        (["serve", "--log-format", "xml"], {}, "expected one of text, json, found 'xml'"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(tmp_path, arguments, environment, expected):
    code, _, errors = run(*arguments, cwd=tmp_path, **environment)
    assert code == 2
    assert expected in errors


def test_an_operator_can_back_up_check_shrink_and_add_hubs(serve, tmp_path):
    process, ready = serve("--task-hub", "one")
    file = ready["data"]
    assert run("backup", file, "copy.db", cwd=tmp_path)[0] == 0
    code, _, errors = run("backup", file, "copy.db", cwd=tmp_path)
    assert (code, "exists" in errors) == (1, True)
    assert run("check", file, cwd=tmp_path) == (0, f"{file} is sound\n", "")
    assert "in use by another scheduler" in run("vacuum", file, cwd=tmp_path)[2]
    process.terminate()
    process.wait(timeout=WAIT)
    assert run("vacuum", file, cwd=tmp_path)[0] == 0
    assert run("hubs", "copy.db", "--add", "two", cwd=tmp_path) == (0, "one\ntwo\n", "")
    assert run("hubs", "missing.db", cwd=tmp_path)[0] == 1


def test_an_operator_can_see_who_locks_what_and_take_it_by_force(serve, tmp_path):
    _, ready = serve("--db", str(tmp_path / "locks.db"))
    address = f"127.0.0.1:{ready['port']}"
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.TaskHubSidecarServiceStub(channel)
        stub.StartInstance(pb.CreateInstanceRequest(instanceId="order-7", name="order"))
        item = next(iter(stub.GetWorkItems(pb.GetWorkItemsRequest())))
        asked = pb.EntityLockRequestedEvent(criticalSectionId="s", lockSet=["@stock@a"])
        action = pb.OrchestratorAction(id=1, sendEntityMessage=pb.SendEntityMessageAction(entityLockRequested=asked))
        answer = pb.OrchestratorResponse(instanceId="order-7", completionToken=item.completionToken, actions=[action])
        stub.CompleteOrchestratorTask(answer)
        code, out, _ = run("locks", "locks.db", cwd=tmp_path)
        assert code == 0 and re.match(r"default: @stock@a is locked by order-7 since \S+; waiting: 0\n", out)
        unlock = ("unlock", "@stock@a", "--reason", "it hangs", "--address", address)
        assert run(*unlock, cwd=tmp_path)[:2] == (0, "@stock@a is unlocked\n")
        code, out, error = run(*unlock, cwd=tmp_path)
        assert (code, out) == (1, "") and "there is no entity '@stock@a'" in error
    assert run("locks", "locks.db", cwd=tmp_path)[:2] == (0, "")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("serve", "--synchronous {full,normal,off} full: a power loss loses nothing"),
        ("serve", "--log-level {debug,info,warning,error} "),
        ("serve", "--log-format {text,json} "),
        ("serve", "--cores {one,all} "),
        ("unlock", "--address HOST:PORT the running scheduler (default: 127.0.0.1:8080)"),
    ],
)
def test_help_lists_the_values_and_defaults_of_options(tmp_path, command, expected):
    code, out, error = run(command, "--help", cwd=tmp_path, COLUMNS="200")
    assert (code, error) == (0, "")
    assert expected in " ".join(out.split())


def test_the_version_is_that_of_the_package(tmp_path):
    assert run("--version", cwd=tmp_path) == (0, f"durabletask-scheduler {version('durabletask-scheduler')}\n", "")
