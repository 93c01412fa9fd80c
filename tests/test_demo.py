"""The demo and a crash in the middle of work, with real processes."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import demo
import pytest
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from programs import Program, ProgramError, free_port, start_scheduler

pytestmark = pytest.mark.processes
SCRIPTS = Path(__file__).parents[1] / "scripts"
INSTANCES = 8
SECONDS = 60


def test_the_demo_runs_the_three_versions_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Program(
        "demo", [sys.executable, str(SCRIPTS / "demo.py"), "Ada"], environment={"TMPDIR": str(tmp_path)}
    ) as run:
        code = run.wait(110)
    assert code == 0, run.output
    assert '{"version": "1.0.0", "results": ["Hello, Ada!"]}' in run.output
    assert "Key takeaway: All versions ran using the same worker code!" in run.output
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_told_to_end_takes_its_processes_with_it(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "demo.py")]
    with Program("demo", command, environment={"TMPDIR": str(tmp_path)}) as run:
        address = re.search(r"127\.0\.0\.1:(\d+)", run.wait_for("Scheduler on", SECONDS))
        assert address is not None
        run.stop()
        assert run.wait(SECONDS) == 143, run.output
    assert free_port(int(address[1])) == int(address[1])
    assert list(tmp_path.iterdir()) == []


def test_the_demo_says_what_differs() -> None:
    with pytest.raises(ProgramError, match=r"the results differ: expected .*Goodbye, World!"):
        demo.check('  Result: {"version": "1.0.0", "results": ["Hello, World!"]}', "World")


WORKER = textwrap.dedent(
    """
    import os, threading
    from durabletask.worker import TaskHubGrpcWorker

    log = os.environ["ACTIVITY_LOG"]

    def record(ctx, text):
        line = text + "\\n"
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        return text

    def announce(ctx, number):
        print(f"instance {number} is held", flush=True)

    def gated(ctx, number):
        before = yield ctx.call_activity(record, input=f"before {number}")
        # It is dispatched after the result above is durable, and may be under way when the scheduler dies.
        yield ctx.call_activity(announce, input=number)
        gate = yield ctx.wait_for_external_event("gate")
        after = yield ctx.call_activity(record, input=f"after {number}")
        return [before, gate, after]

    worker = TaskHubGrpcWorker(host_address=os.environ["ENDPOINT"])
    worker.add_orchestrator(gated)
    worker.add_activity(record)
    worker.add_activity(announce)
    worker.start()
    print("worker started", flush=True)
    threading.Event().wait()
    """
)


@pytest.fixture
def worker_command(tmp_path: Path) -> list[str]:
    script = tmp_path / "gated_worker.py"
    script.write_text(WORKER, encoding="utf-8")
    return [sys.executable, str(script)]


@pytest.fixture
def endpoint() -> Iterator[tuple[int, str]]:
    port = free_port()
    yield port, f"http://127.0.0.1:{port}"


def test_a_scheduler_killed_in_the_middle_loses_nothing(
    tmp_path: Path, worker_command: list[str], endpoint: tuple[int, str]
) -> None:
    """Results that the first scheduler took are not computed again by the second one on the same file and port."""
    port, address = endpoint
    database, activity_log = tmp_path / "hub.db", tmp_path / "activities.log"
    environment = {"ENDPOINT": address, "ACTIVITY_LOG": str(activity_log)}
    first = start_scheduler(database, port)
    with first, Program("worker", worker_command, environment=environment) as worker:
        worker.wait_for("worker started", SECONDS)
        with TaskHubGrpcClient(host_address=address) as client:
            ids = [client.schedule_new_orchestration("gated", input=number) for number in range(INSTANCES)]
            for number in range(INSTANCES):
                worker.wait_for(f"instance {number} is held", SECONDS)
        first.kill()
        with start_scheduler(database, port), TaskHubGrpcClient(host_address=address) as client:
            for instance_id in ids:
                client.raise_orchestration_event(instance_id, "gate", data="open")
            for number, instance_id in enumerate(ids):
                state = client.wait_for_orchestration_completion(instance_id, timeout=SECONDS)
                assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED, worker.output
                assert json.loads(state.serialized_output or "") == [f"before {number}", "open", f"after {number}"]
    recorded = Counter(activity_log.read_text(encoding="utf-8").splitlines())
    assert {line: count for line, count in recorded.items() if line.startswith("before")} == {
        f"before {number}": 1 for number in range(INSTANCES)
    }
    assert {line for line in recorded if line.startswith("after")} == {f"after {n}" for n in range(INSTANCES)}
