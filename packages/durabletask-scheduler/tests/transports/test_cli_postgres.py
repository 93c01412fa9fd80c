"""The command line over PostgreSQL, as processes: one serves, the others stand by."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_scheduler import Scheduler
from durabletask_scheduler.storage import StorageUnusable
from durabletask_scheduler.storage.opening import split
from programs import STANDING_BY, Program, ProgramError

psycopg = pytest.importorskip("psycopg", reason='needs psycopg: pip install "psycopg[binary]"')
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

READY = re.compile(r"ready on http://127\.0\.0\.1:(?P<port>\d+), .*data in (?P<data>.*) \(synchronous=(?P<level>\w+)\)")
WAIT = 30
ATTEMPTS = 10
_END_SESSION_WITH_LOCK = """
SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE %s
"""


@pytest.fixture
def url(postgres_database: Any) -> str:
    return f"{postgres_database.url}?schema={postgres_database.schema}"


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str) -> Program:
            name, *_ = arguments
            return stack.enter_context(
                Program(name, [sys.executable, "-m", "durabletask_scheduler", *arguments], cwd=tmp_path)
            )

        yield begin


@pytest.fixture
def serve(command: Callable[..., Program], url: str) -> Callable[..., Program]:
    return lambda *arguments: command("serve", "--db", url, "--port", "0", *arguments)


def ready(program: Program) -> dict[str, str]:
    found = READY.search(program.wait_for("ready on", WAIT))
    assert found
    return found.groupdict()


@contextlib.contextmanager
def stub(port: str) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield pb_grpc.TaskHubSidecarServiceStub(channel)


def start(port: str, instance_id: str) -> None:
    with stub(port) as calls:
        calls.StartInstance(pb.CreateInstanceRequest(instanceId=instance_id, name="order"), timeout=WAIT)


def exists(port: str, instance_id: str) -> bool:
    with stub(port) as calls:
        return bool(calls.GetInstance(pb.GetInstanceRequest(instanceId=instance_id), timeout=WAIT).exists)


def test_the_ready_line_says_where_the_data_are_and_keeps_the_password(
    serve: Callable[..., Program], url: str, postgres_database: Any
) -> None:
    ready_line = ready(serve("--synchronous", "normal"))
    password = url.partition("@")[0].rpartition(":")[2]
    assert ready_line["level"] == "NORMAL"
    assert ready_line["data"].startswith("postgresql://") and postgres_database.schema in ready_line["data"]
    assert password not in ready_line["data"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_standby_takes_over_with_everything_that_was_acknowledged(serve: Callable[..., Program], number: int) -> None:
    active = serve()
    port = ready(active)["port"]
    standby = serve()
    standby.wait_for(STANDING_BY, WAIT)
    for one in range(10):
        start(port, f"order-{one}")
    active.end(number)
    standby.wait_for("taking over", WAIT)
    port = ready(standby)["port"]
    assert all(exists(port, f"order-{one}") for one in range(10))
    start(port, "order-10")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_standby_ends_when_told_to(serve: Callable[..., Program], number: int) -> None:
    ready(serve())
    standby = serve()
    standby.wait_for(STANDING_BY, WAIT)
    assert standby.end(number) == 0
    assert "error" not in standby.output.lower()


def test_a_scheduler_that_was_taken_the_store_from_ends(serve: Callable[..., Program], url: str) -> None:
    """Its session is ended while a standby waits for it, as after a partition of the network; it says why it ends."""
    active = serve()
    ready(active)
    standby = serve()
    standby.wait_for(STANDING_BY, WAIT)
    with psycopg.connect(url.partition("?")[0], autocommit=True) as operator:
        for _ in range(ATTEMPTS):
            operator.execute(_END_SESSION_WITH_LOCK, [f"%:{active.pid}"])
            # The owner may be the first that takes the lock again: it asks every few seconds, a standby more often.
            with contextlib.suppress(ProgramError):
                standby.wait_for("taking over", 2)
                break
    ready(standby)
    assert active.wait(WAIT) == 1
    assert "another scheduler" in active.wait_for("The engine stopped", WAIT)


@pytest.mark.parametrize("name", ["backup", "vacuum", "locks"])
def test_tools_for_files_say_that_a_database_has_its_own(command: Callable[..., Program], url: str, name: str) -> None:
    program = command(name, url, *(["copy.db"] if name == "backup" else []))
    assert program.wait(WAIT) == 2
    assert "pg_dump" in program.wait_for("expected a SQLite file", WAIT)


def test_a_store_is_checked_while_it_is_in_use(
    command: Callable[..., Program], serve: Callable[..., Program], url: str
) -> None:
    start(ready(serve())["port"], "order-1")
    program = command("check", url)
    assert program.wait(WAIT) == 0
    assert program.output.endswith("is sound") and url.partition("@")[0] not in program.output


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://u:p@h/d", ("postgresql://u:p@h/d", "durabletask")),
        ("postgresql://h/d?schema=orders", ("postgresql://h/d", "orders")),
        (
            "postgresql://h/d?sslmode=require&schema=a%20b&options=-c%20x%3D1",
            ("postgresql://h/d?sslmode=require&options=-c%20x%3D1", "a b"),
        ),
        ("postgresql://u:p@[::1/x?schema=s", ("postgresql://u:p@[::1/x", "s")),
    ],
)
def test_the_schema_is_taken_out_of_the_address(address: str, expected: tuple[str, str]) -> None:
    assert split(address) == expected


def test_task_hubs_are_listed_and_added(command: Callable[..., Program], url: str) -> None:
    program = command("hubs", url, "--add", "orders")
    assert program.wait(WAIT) == 0
    assert program.output == "orders"


def test_an_embedded_scheduler_does_not_wait_unless_asked_to(url: str) -> None:
    with Scheduler(url), pytest.raises(StorageUnusable, match="in use by another scheduler"):
        Scheduler(url).start()


def test_stopping_ends_the_wait_of_an_embedded_standby(url: str) -> None:
    standby = Scheduler(url, standby_seconds=None)
    outcome: list[str] = []

    def wait() -> None:
        try:
            standby.start()
        except StorageUnusable as error:
            outcome.append(str(error))

    with Scheduler(url):
        waiting = threading.Thread(target=wait)
        waiting.start()
        while waiting.is_alive():
            standby.stop()
            waiting.join(0.1)
    assert len(outcome) == 1 and "the wait was ended" in outcome[0]


def test_an_embedded_standby_takes_over(url: str) -> None:
    first, second = Scheduler(url), Scheduler(url, standby_seconds=WAIT)
    first.start()
    waiting = threading.Thread(target=second.start)
    waiting.start()
    first.stop()
    waiting.join(WAIT)
    with second.channel() as channel:
        assert not pb_grpc.TaskHubSidecarServiceStub(channel).GetInstance(pb.GetInstanceRequest(instanceId="no")).exists
    second.stop()
