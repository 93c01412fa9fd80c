"""Security on the command line, as processes: tokens are made, served over TLS, and used by an operator."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.security import Security
from google.protobuf.empty_pb2 import Empty

WAIT = 20
READY = re.compile(r"durabletask-scheduler: ready on https://127\.0\.0\.1:(\d+), task hubs: orders, .*\n")
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("DURABLETASK_SCHEDULER_")}


def command(*arguments, **environment):
    """The exit code, standard output and standard error."""
    words = [sys.executable, "-m", "durabletask_scheduler", *arguments]
    done = subprocess.run(words, env={**PLAIN, **environment}, capture_output=True, text=True, timeout=WAIT)
    return done.returncode, done.stdout, done.stderr


def create(*roles, hub="orders"):
    words = [word for role in roles for word in ("--role", role)]
    code, output, errors = command("token", "create", "--name", "-".join(roles), "--task-hub", hub, *words)
    assert code == 0 and "cannot be shown again" in errors
    return output.splitlines()


@pytest.fixture
def scheduler(tmp_path, server_files):
    """A scheduler in a process of its own, by options or environment; the port is returned."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments, **environment):
            words = ["serve", "--port", "0", "--db", str(tmp_path / "db"), "--task-hub", "orders", *arguments]
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "durabletask_scheduler", *words],
                    env={**PLAIN, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            stack.callback(process.kill)
            match = READY.fullmatch(process.stdout.readline())
            assert match
            return match.group(1)

        yield begin


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


def test_tokens_that_were_created_are_served_over_tls(scheduler, connect, refusal, server_files, tmp_path):
    (worker, worker_line), (operator, operator_line) = create("worker"), create("operator", "reader")
    assert operator_line.startswith("operator-reader operator,reader orders sha256:") and operator not in operator_line
    (tmp_path / "tokens").write_text(f"{worker_line}\n{operator_line}\n")
    certificate, key = server_files
    port = scheduler(
        "--tls-cert",
        certificate,
        DURABLETASK_SCHEDULER_TLS_KEY=key,
        DURABLETASK_SCHEDULER_TOKEN_FILE=str(tmp_path / "tokens"),
    )
    stub = connect(port)
    stub.StartInstance(pb.CreateInstanceRequest(instanceId="a", name="n"), metadata=bearer(operator), timeout=WAIT)
    item = next(stub.GetWorkItems(pb.GetWorkItemsRequest(), metadata=bearer(worker), timeout=WAIT))
    assert item.orchestratorRequest.instanceId == "a"
    assert refusal(stub.Hello, Empty())[0] is grpc.StatusCode.UNAUTHENTICATED


def test_an_operator_unlocks_over_tls_with_a_token_of_the_environment(scheduler, server_files, authority, tmp_path):
    token, line = create("operator")
    (tmp_path / "tokens").write_text(line)
    certificate, key = server_files
    port = scheduler("--tls-cert", certificate, "--tls-key", key, "--token-file", str(tmp_path / "tokens"))
    unlock = ["unlock", "@stock@a", "--reason", "r", "--address", f"localhost:{port}", "--tls-ca", str(authority.path)]
    assert "there is no entity '@stock@a'" in command(*unlock, DURABLETASK_SCHEDULER_TOKEN=token)[2]
    assert "wants valid credentials" in command(*unlock)[2]
    elsewhere = ["unlock", "@stock@a", "--reason", "r", "--address", "example.org:8080"]
    code, _, errors = command(*elsewhere, DURABLETASK_SCHEDULER_TOKEN=token)
    assert code == 1 and "would travel to example.org in clear text" in errors and token not in errors


def test_a_token_for_this_machine_does_not_go_through_the_proxy_of_the_environment(serve, tmp_path):
    token, line = create("operator")
    (tmp_path / "tokens").write_text(line)
    port = serve(Security(token_file=str(tmp_path / "tokens")))
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        environment = {"http_proxy": f"http://127.0.0.1:{proxy.getsockname()[1]}", "DURABLETASK_SCHEDULER_TOKEN": token}
        words = ["unlock", "@stock@a", "--reason", "r", "--address", f"127.0.0.1:{port}"]
        assert "there is no entity '@stock@a'" in command(*words, **environment)[2]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["serve", "--host", "0.0.0.0"], 1, "there is no authentication: give --token-file"),
        (["serve", "--host", "0.0.0.0", "--token-file", "t"], 1, "in clear text: give --tls-cert and --tls-key"),
        (["serve", "--tls-cert", "c"], 1, "--tls-cert was given, but TLS needs both --tls-cert and --tls-key"),
        (["serve", "--tls-client-ca", "c"], 1, "--tls-client-ca was given, but TLS needs both"),
        (["serve", "--tls-cert", "none.pem", "--tls-key", "none.key"], 1, "cannot read the TLS certificate none.pem"),
        (["serve", "--token-file", "none"], 1, "cannot read the token file none: No such file"),
        (["serve", "--oidc-issuer", "https://i"], 1, "need --oidc-issuer and --oidc-audience"),
        (["serve", "--oidc-clock-skew", "-1"], 2, "expected seconds from 0 to 600, found '-1'"),
        (["token", "create", "--name", "a", "--role", "boss", "--task-hub", "h"], 2, "invalid choice: 'boss'"),
        (["token", "create", "--name", "a b", "--role", "reader", "--task-hub", "h"], 1, "without spaces"),
    ],
)
def test_what_cannot_work_is_one_clear_line(tmp_path, arguments, code, expected):
    database = ["--db", str(tmp_path / "db"), "--port", "0"] if arguments[0] == "serve" else []
    found, output, errors = command(*arguments, *database)
    assert (found, output) == (code, "")
    assert expected in errors and "Traceback" not in errors


def test_what_is_not_used_is_not_imported():
    heavy = ("jwt", "cryptography", "urllib.request", "durabletask_scheduler.security.keys")
    program = f"import sys, durabletask_scheduler.scheduler; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout == "[]\n"
    program = "import sys, durabletask_scheduler.cli; print([m for m in ('grpc', 'ssl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout == "[]\n"
