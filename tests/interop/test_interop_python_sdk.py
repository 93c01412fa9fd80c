"""One catalogue of workloads on our scheduler over gRPC: the official Python SDK, ours, and both mixed.

The programs are written for the official SDK. That ours runs them as they are, with the same outcomes, is what
"existing code runs unchanged" means.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from interop_expected import EXPECTED, IN_HUBS_OF_THEIR_OWN, WITH_MEMORY_IN_THE_WORKER
from programs import Program

PYTHON = Path(__file__).parent / "foreign" / "python"
AT_ONCE = "8"


@dataclass(frozen=True)
class Cast:
    """Whose client, and whose workers beside it; without any, the client's program has its own worker."""

    client: str
    workers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.client}-client-{'-and-'.join(self.workers) or 'own'}-worker"

    @property
    def workloads(self) -> set[str]:
        """Those that need several workers bring them along; two workers have two memories."""
        if not self.workers:
            return set(EXPECTED)
        return EXPECTED.keys() - IN_HUBS_OF_THEIR_OWN - (WITH_MEMORY_IN_THE_WORKER if len(self.workers) > 1 else set())


CASTS = [
    Cast("official"),
    Cast("our"),
    Cast("official", ("our",)),
    Cast("our", ("official",)),
    # Any turn of an orchestration may go to either SDK, which replays what the other one has written.
    Cast("our", ("official", "our")),
]


@pytest.fixture(scope="module")
def interpreters(foreign_python: Path) -> dict[str, str]:
    return {"official": str(foreign_python), "our": sys.executable}


@pytest.fixture(scope="module")
def outcomes_by_cast(
    new_scheduler: Callable[[], Any], interpreters: dict[str, str], outcomes_of: Callable[..., Any]
) -> Callable[[Cast], Any]:
    """Run the catalogue with a cast, on a scheduler of its own; every cast once."""

    def run(cast: Cast) -> Any:
        with ExitStack() as stack:
            address = stack.enter_context(new_scheduler()).address
            for sdk in cast.workers:
                command = [interpreters[sdk], str(PYTHON / "worker.py"), address]
                stack.enter_context(Program(f"{sdk} worker", command)).wait_for("^ready$", 30)
            mode = "client-only" if cast.workers else "with-worker"
            workloads = ["which_sdk", *sorted(cast.workloads)]
            return outcomes_of(interpreters[cast.client], PYTHON / "catalogue.py", address, mode, AT_ONCE, *workloads)

    return functools.cache(run)


@pytest.mark.parametrize(
    ("cast", "workload"),
    [pytest.param(cast, name, id=f"{cast}-{name}") for cast in CASTS for name in sorted(cast.workloads)],
)
def test_a_workload_ends_as_it_should(cast: Cast, workload: str, outcomes_by_cast: Callable[[Cast], Any]) -> None:
    assert outcomes_by_cast(cast).of(workload) == EXPECTED[workload]


@pytest.mark.parametrize("cast", CASTS[:2], ids=str)
def test_a_program_runs_the_sdk_it_is_said_to_run_and_all_workloads(
    cast: Cast, outcomes_by_cast: Callable[[Cast], Any]
) -> None:
    outcomes = outcomes_by_cast(cast)
    assert outcomes.of("which_sdk") == {"official": ["durabletask"], "our": ["durabletask-core"]}[cast.client]
    assert outcomes.names == {*EXPECTED, "which_sdk"}


@pytest.mark.parametrize(("killed", "survivor"), [("official", "our"), ("our", "official")])
def test_an_activity_of_a_killed_worker_is_run_by_a_worker_of_the_other_sdk(
    killed: str, survivor: str, scheduler: Any, interpreters: dict[str, str]
) -> None:
    """lesson 46"""

    def worker(sdk: str, environment: dict[str, str]) -> Program:
        command = [interpreters[sdk], str(PYTHON / "worker.py"), scheduler.address]
        return Program(f"{sdk} worker", command, environment=environment)

    client = [interpreters["official"], str(PYTHON / "catalogue.py"), scheduler.address, "client-only", "1"]
    with (
        worker(killed, {"INTEROP_HOLD": "1"}) as first,
        Program("client", [*client, "activity_that_may_be_held"]) as it,
    ):
        first.wait_for("^held$", 30)
        first.kill()
        with worker(survivor, {}):
            assert it.wait(60) == 0
    assert json.loads(it.output)["outcome"] == ["COMPLETED", "let go"]
