"""The four scenarios of the versioning samples: fleets of workers are replaced while orders are in flight."""

from __future__ import annotations

import importlib.util
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.testing import Environment, create_test_backend
from durabletask.worker import TaskHubGrpcWorker

SAMPLES = Path(__file__).parents[1] / "samples" / "versioning-scenarios"
ORDERS = 20
FLEET = 3
OLD_WAY = [["reserved", "charged"]]
NEW_WAY = [["reserved", "checked", "charged"]]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), SAMPLES / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


commands = load("client.py")


Setup = Callable[[TaskHubGrpcWorker], None]


class Scenario:
    """One scenario in an environment: its two fleets, its orders, and how these ended."""

    def __init__(self, number: int, env: Environment) -> None:
        self.env = env
        self.old: Setup = load(f"scenario{number}/old_worker.py").setup
        self.new: Setup = load(f"scenario{number}/new_worker.py").setup

    def start(self, version: str | None, count: int = ORDERS) -> list[str]:
        ids: list[str] = commands.start(self.env.client, count, version)
        return ids

    def approve(self, ids: list[str]) -> None:
        for instance_id in ids:
            self.env.client.raise_orchestration_event(instance_id, "approved")

    def ways(self, ids: list[str]) -> list[Any]:
        """The distinct ways in which these orders ended: what was done, or the type of the error."""
        ways: list[Any] = []
        for instance_id in ids:
            state = self.env.wait(instance_id)
            failure = state.failure_details
            way = [each.split()[0] for each in state.get_output()] if failure is None else failure.error_type
            if way not in ways:
                ways.append(way)
        return ways


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Iterator[Scenario]:
    with Environment() as env:
        yield Scenario(request.param, env)


@pytest.mark.parametrize("scenario", [1], indirect=True)
def test_scenario_1_orders_without_a_version_go_on_when_versions_are_introduced(scenario: Scenario) -> None:
    """NONE: whatever the version of an order, any worker runs it, during and after the roll."""
    env = scenario.env
    fleet = env.deploy(scenario.old, workers=FLEET)
    unversioned = scenario.start(None)
    env.settle()
    scenario.approve(unversioned[:5])
    assert env.wait(unversioned[0]).get_output() == ["reserved item 0", "shipped item 0 (no version)"]
    fleet.roll(scenario.new)
    versioned = scenario.start("1.0.0")
    unknown = scenario.start("7.0.0", count=1)
    scenario.approve([*unversioned[5:], *versioned, *unknown])
    assert scenario.ways([*unversioned, *versioned, *unknown]) == [["reserved", "shipped"]]
    for instance_id in (unversioned[5], versioned[5], unknown[0]):
        # The sub-orchestration is started by a new worker, so it has the default version, whatever its parent's.
        assert env.wait(instance_id).get_output()[1].endswith("(1.0.0)")


@pytest.mark.parametrize("scenario", [2], indirect=True)
def test_scenario_2_old_orders_fail_at_their_next_turn_on_the_new_workers(scenario: Scenario) -> None:
    """STRICT and FAIL, one fleet after the other."""
    env = scenario.env
    with env.deploy(scenario.old, workers=FLEET):
        finished = scenario.start("1.0.0", count=5)
        env.settle()
        scenario.approve(finished)
        assert scenario.ways(finished) == OLD_WAY
        in_flight = scenario.start("1.0.0")
        env.settle()
    with env.deploy(scenario.new, workers=FLEET):
        new = scenario.start("2.0.0")
        env.settle()
        assert len(env.in_flight(version="1.0.0")) == ORDERS, "an order that waits is not touched"
        scenario.approve([*in_flight, *new])
        assert scenario.ways(in_flight) == ["VersionMismatch"]
        assert scenario.ways(new) == NEW_WAY
        unversioned = scenario.start(None, count=1)
        assert scenario.ways(unversioned) == ["VersionMismatch"]
    failure = env.wait(in_flight[0]).failure_details
    assert failure is not None
    assert "'1.0.0' does not match the worker version '2.0.0'" in failure.message


@pytest.mark.parametrize("scenario", [3], indirect=True)
def test_scenario_3_old_orders_end_as_they_began_wherever_they_run(scenario: Scenario) -> None:
    """CURRENT_OR_OLDER and FAIL: orders of 1.0.0 are started all along the roll, orders of 2.0.0 after it."""
    env = scenario.env
    fleet = env.deploy(scenario.old, workers=FLEET)
    old = scenario.start("1.0.0")
    env.settle()
    mixed = env.deploy(scenario.new, workers=FLEET)
    during = scenario.start("1.0.0")
    scenario.approve([*old[:10], *during[:10]])
    fleet.stop()
    new = scenario.start("2.0.0")
    newer = scenario.start("3.0.0", count=3)
    scenario.approve([*old[10:], *during[10:], *new])
    assert scenario.ways([*old, *during]) == OLD_WAY
    assert scenario.ways(new) == NEW_WAY
    assert scenario.ways(newer) == ["VersionMismatch"]
    assert "'3.0.0' is greater than the worker version '2.0.0'" in env.wait(newer[0]).failure_details.message  # type: ignore[union-attr]
    assert len(mixed.workers) == FLEET


def without_filters(setup: Setup) -> Setup:
    """Turns then reach workers of the wrong version too, which hand them back, and activities reach any worker."""

    def changed(worker: TaskHubGrpcWorker) -> None:
        setup(worker)
        worker.use_work_item_filters(None)

    return changed


def with_new_activities(setup: Setup) -> Setup:
    def changed(worker: TaskHubGrpcWorker) -> None:
        setup(worker)
        worker.add_activity(load("scenario4/new_worker.py").check_fraud)

    return changed


@pytest.mark.parametrize("filters", [True, False], ids=["routed", "rejected"])
@pytest.mark.parametrize("scenario", [4], indirect=True)
def test_scenario_4_old_workers_finish_the_old_orders_and_then_go(scenario: Scenario, filters: bool) -> None:
    """STRICT and REJECT: both fleets at once; the old one goes when its version is drained."""
    env = scenario.env
    old_setup = scenario.old if filters else without_filters(with_new_activities(scenario.old))
    new_setup = scenario.new if filters else without_filters(scenario.new)
    old_fleet = env.deploy(old_setup, workers=FLEET)
    old = scenario.start("1.0.0")
    env.settle()
    env.deploy(new_setup, workers=FLEET)
    new = scenario.start("2.0.0")
    scenario.approve([*old[:10], *new])
    assert scenario.ways([*old[:10], *new]) == [*OLD_WAY, *NEW_WAY]
    # One of the old workers is not needed any more, the others still are.
    old_fleet.workers[0].stop()
    assert len(env.in_flight(version="1.0.0")) == 10
    assert env.in_flight(version="2.0.0") == []
    scenario.approve(old[10:])
    commands.wait_drained(env.client, "1.0.0", timeout=10)
    old_fleet.stop()
    assert scenario.ways(old) == OLD_WAY
    late = scenario.start("2.0.0")
    scenario.approve(late)
    assert scenario.ways(late) == NEW_WAY
    assert env.in_flight() == []


@pytest.mark.parametrize("filters", [True, False], ids=["routed", "rejected"])
@pytest.mark.parametrize("scenario", [4], indirect=True)
def test_scenario_4_nothing_fails_when_the_old_workers_went_too_early(scenario: Scenario, filters: bool) -> None:
    """The new workers hand orders in flight back, whose history their own code would not fit."""
    env = scenario.env
    with env.deploy(scenario.old):
        old = scenario.start("1.0.0", count=3)
        env.settle()
    env.deploy(scenario.new if filters else without_filters(scenario.new), workers=FLEET)
    scenario.approve(old)
    env.advance(timedelta(minutes=5))
    assert [each.runtime_status for each in env.in_flight(version="1.0.0")] == [OrchestrationStatus.RUNNING] * 3
    env.deploy(scenario.old)
    assert scenario.ways(old) == OLD_WAY


class Load:
    """A thread that starts and approves orders until it is told to stop."""

    def __init__(self, client: TaskHubGrpcClient, version: str) -> None:
        self.version = version
        self._client = client
        self._started: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._enough.is_set():
            (instance_id,) = commands.start(self._client, 1, self.version)
            self._client.raise_orchestration_event(instance_id, "approved")
            self._started.put(instance_id)

    def let_complete(self, version: str, count: int) -> None:
        """Return once so many more orders of this version have completed."""
        while count:
            instance_id = self._started.get(timeout=30)
            state = self._client.wait_for_orchestration_completion(instance_id, timeout=30)
            assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED, state
            count -= state.version == version

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()


def test_scenario_4_over_grpc_while_orders_keep_coming() -> None:
    """Lesson R8: nothing fails and nothing hangs, in real time and with real connections."""
    backend = create_test_backend(port=0)
    address = f"localhost:{backend.port}"

    def fleet(setup: Setup) -> list[TaskHubGrpcWorker]:
        workers = [TaskHubGrpcWorker(host_address=address) for _ in range(2)]
        for worker in workers:
            setup(worker)
            worker.start()
        return workers

    with TaskHubGrpcClient(host_address=address) as client:
        old_fleet = fleet(load("scenario4/old_worker.py").setup)
        orders = Load(client, "1.0.0")
        try:
            orders.let_complete("1.0.0", 20)
            new_fleet = fleet(load("scenario4/new_worker.py").setup)
            orders.version = "2.0.0"
            orders.let_complete("2.0.0", 20)
            commands.wait_drained(client, "1.0.0", timeout=30)
            for worker in old_fleet:
                worker.stop()
            orders.let_complete("2.0.0", 20)
        finally:
            orders.stop()
        commands.wait_drained(client, "2.0.0", timeout=30)
        ended = {(version, status) for version, status, _ in commands.results(client)}
        assert ended == {("1.0.0", "COMPLETED"), ("2.0.0", "COMPLETED")}
        for worker in new_fleet:
            worker.stop()
    backend.stop()


class Scripts:
    """The scripts of the samples, run as a reader runs them."""

    def __init__(self, endpoint: str) -> None:
        self._environment = {**os.environ, "ENDPOINT": endpoint, "TASKHUB": "default"}
        self._workers: list[subprocess.Popen[bytes]] = []

    def worker(self, path: str) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen([sys.executable, str(SAMPLES / path)], env=self._environment)
        self._workers.append(worker)
        return worker

    def client(self, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, str(SAMPLES / "client.py"), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return ran.stdout

    @staticmethod
    def stop(worker: subprocess.Popen[bytes]) -> int:
        worker.send_signal(signal.SIGTERM)
        return worker.wait(30)

    def close(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait(30)


@pytest.mark.processes
def test_the_scripts_do_what_the_readme_shows() -> None:
    backend = create_test_backend(port=0)
    address = f"localhost:{backend.port}"
    scripts = Scripts(f"http://{address}")
    try:
        with TaskHubGrpcClient(host_address=address) as client:
            old = scripts.worker("scenario4/old_worker.py")
            assert scripts.client("start", "5", "--version", "1.0.0") == "started 5 orders\n"
            for order in commands.in_flight(client):
                client.wait_for_orchestration_start(order.instance_id, timeout=30)
            new = scripts.worker("scenario4/new_worker.py")
            scripts.client("start", "3", "--version", "2.0.0")
            assert scripts.client("in-flight") == "{'1.0.0': 5, '2.0.0': 3}\n"
            assert scripts.client("approve") == "approved 8 orders\n"
            assert "its workers can be shut down" in scripts.client("wait-drained", "1.0.0")
            assert scripts.stop(old) == 0
            scripts.client("wait-drained", "2.0.0")
            results = scripts.client("results")
            assert '   1 x 1.0.0      COMPLETED  ["reserved item 4", "charged item 4"]' in results
            assert scripts.stop(new) == 0
    finally:
        scripts.close()
        backend.stop()
