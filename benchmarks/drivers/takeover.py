"""W10s: two of our schedulers on one PostgreSQL database; the active one gets SIGKILL, the other one goes on."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from durabletask.client import TaskHubGrpcClient

from drivers import meter, programs
from drivers.hosts import QUIET, Deployment, Ends, new_worker, serve_command
from drivers.ports import free_port
from drivers.protocol import Figures, Request, Skip
from drivers.starts import check

SECONDS = 60.0
PAUSE = 0.01
T = TypeVar("T")
STANDING_BY = "standing by"
"""What a scheduler logs when another one owns its database."""


@dataclass(frozen=True)
class Pair:
    """The ports of two schedulers, and how to start one on a port."""

    deployment: Deployment
    request: Request
    ports: tuple[int, int]

    @property
    def target(self) -> str:
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @contextmanager
    def scheduler(self, port: int) -> Iterator[subprocess.Popen[str]]:
        """A scheduler's process; it gets SIGKILL at the end of the block."""
        command = [*serve_command(self.deployment, self.request.folder, port), "--log-level", "info"]
        with (
            self._log(port).open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8") as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def wait_until_standing_by(self, port: int) -> None:
        deadline = time.perf_counter() + SECONDS
        while STANDING_BY not in (said := self._log(port).read_text("utf-8")):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"the second scheduler does not stand by: {said[-300:]}")
            time.sleep(PAUSE)

    def _log(self, port: int) -> Path:
        return self.request.folder / f"{port}.log"


def takeovers(deployment: Deployment, request: Request) -> Figures:
    """Seconds from SIGKILL of the active scheduler until a new orchestration has completed on the other one."""
    if "://" not in deployment.database:
        raise Skip("one scheduler at a time owns its file")
    if deployment.scheduler != "process":
        raise Skip("needs schedulers in processes of their own")
    pair = Pair(deployment, request, (free_port(), free_port()))
    with ExitStack() as stack:
        active = stack.enter_context(pair.scheduler(pair.ports[0]))
        _wait_until_ready(active)
        options: dict[str, Any] = {"host_address": pair.target}
        client = TaskHubGrpcClient(**options, logger=QUIET)
        stack.callback(client.close)
        worker = new_worker(Ends(lambda: dict(options), lambda: dict(options)))
        worker.start()
        stack.callback(worker.stop)
        taken, accepted = [], []
        for number in range(request.parameters["times"]):
            _complete_one(client)
            port = pair.ports[(number + 1) % 2]
            standby = stack.enter_context(pair.scheduler(port))
            pair.wait_until_standing_by(port)
            begun = time.perf_counter()
            active.kill()
            active.wait()
            accepted.append(_complete_one(client) - begun)
            taken.append(time.perf_counter() - begun)
            active = standby
    median = {"accepts_s": meter.percentile(accepted, 50), "takeover_s": meter.percentile(taken, 50)}
    return {**median, "takeover_most_s": max(taken)}


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not re.search(r"ready on http://", line):
        raise RuntimeError(f"the scheduler did not start: {line!r}")


def _complete_one(client: TaskHubGrpcClient) -> float:
    """Start an orchestration and await it, calling again while nobody answers; returns when its start was answered."""
    instance_id = _answered(lambda: client.schedule_new_orchestration(programs.single, input=1))
    accepted = time.perf_counter()
    check([_answered(lambda: client.wait_for_orchestration_completion(instance_id, timeout=SECONDS))])
    return accepted


def _answered(call: Callable[[], T]) -> T:
    deadline = time.perf_counter() + SECONDS
    while True:
        try:
            return call()
        except grpc.RpcError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(PAUSE)
