"""Our client and worker on the in-memory server of the official Python SDK.

Where that server ends a workload otherwise than ours, it does so for the official SDK too: the reason is named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interop_expected import EXPECTED, IN_HUBS_OF_THEIR_OWN
from programs import Program, free_port

PYTHON = Path(__file__).parent / "foreign" / "python"

# Not tried there: the server has one task hub, and these hang on it or end by chance.
NOT_THERE = IN_HUBS_OF_THEIR_OWN | {
    "async_client",  # twenty waits at once take up all of its threads
    "fan_out_of_two_on_an_idle_hub",  # it keeps an instance waiting for about 100 ms
    "id_reuse",  # a scheduled start may begin at once there, and a policy without TERMINATED is accepted
    "purge_recursively",  # it terminates no children
    "terminate_recursively",
    "terminate_without_children",
}
ITS_OWN_WAYS = {
    "activity_retries_reuse_the_task_id": "its ExecutionCompleted has no id",
    "child_with_a_given_id": "it does not tell a child its parent",
    "child_with_the_default_id": "it does not tell a child its parent",
    "continue_as_new_keeps_the_custom_status": "it clears the custom status, and stores OrchestratorCompleted",
    "failing_child": "it replaces the type of a child's failure",
    "history_layout": "it stores OrchestratorCompleted",
    "purge_one": "it answers OK to the purge of a live instance",
    "requests_for_an_ended_instance": "it changes the time of the last update of what has ended",
    "restart": "it drops the tags",
    "restart_of_the_living": "it refuses to restart a live instance under a new id, too",
    "scheduled_start": "it begins before the time",
    "suspend_and_resume": "it delivers every resume, also one without a suspend",
    "tags": "it drops the tags of activities",
    "terminate": "it stores OrchestratorCompleted",
    "wait_for_a_missing_instance": "it answers that there is none, in place of a deadline that passes",
}


@pytest.fixture(scope="module")
def server(foreign_python: Path) -> Iterator[str]:
    port = free_port()
    with Program("official server", [str(foreign_python), str(PYTHON / "server.py"), str(port)]) as program:
        program.wait_for("^ready$", 30)
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def outcomes(server: str, outcomes_of: Callable[..., Any]) -> Any:
    workloads = sorted(EXPECTED.keys() - NOT_THERE)
    return outcomes_of(sys.executable, PYTHON / "catalogue.py", server, "with-worker", "1", *workloads)


def known_difference(workload: str) -> list[pytest.MarkDecorator]:
    reason = ITS_OWN_WAYS.get(workload)
    return [pytest.mark.xfail(reason=reason, strict=True)] if reason else []


@pytest.mark.parametrize(
    "workload",
    [pytest.param(name, marks=known_difference(name)) for name in sorted(EXPECTED.keys() - NOT_THERE)],
)
def test_a_workload_of_our_sdk_ends_on_the_official_server_as_on_ours(workload: str, outcomes: Any) -> None:
    assert outcomes.of(workload) == EXPECTED[workload]


def test_every_difference_named_is_one_that_is_tried() -> None:
    assert ITS_OWN_WAYS.keys() <= EXPECTED.keys() - NOT_THERE
