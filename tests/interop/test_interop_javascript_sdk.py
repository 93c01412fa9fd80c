"""The official JavaScript SDK on our scheduler over gRPC: client and worker, and its client with our worker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import Program

FOREIGN = Path(__file__).parent / "foreign"
HISTORY = [
    "OrchestratorStarted",
    "ExecutionStarted",
    "TaskScheduled",
    "OrchestratorStarted",
    "TaskCompleted",
    "TimerCreated",
    "OrchestratorStarted",
    "TimerFired",
    "SubOrchestrationInstanceCreated",
    "OrchestratorStarted",
    "SubOrchestrationInstanceCompleted",
    "ExecutionCompleted",
]

EXPECTED: dict[str, Any] = {
    "activity_retries": ["COMPLETED", 3],
    "activity_retries_exhausted": ["FAILED", "TaskFailedError", True],
    "chain": ["COMPLETED", 10],
    "child_retries": ["COMPLETED", 3],
    "child_with_a_given_id": ["COMPLETED", True, True, "hello"],
    "child_with_the_default_id": ["COMPLETED", 32, True],
    "continue_as_new_carries_events_over": ["COMPLETED", list(range(10))],
    "custom_status": [{"waiting": True}, [1, "two", None]],
    "duplicate_start": ["ALREADY_EXISTS", ["COMPLETED", "first"], ["COMPLETED", 2]],
    "eternal_parent": ["COMPLETED", 3],
    "event_beats_timer": ["COMPLETED", [True, {"by": "me"}]],
    "events_from_another_orchestration": [["COMPLETED", "told"], ["COMPLETED", [0, 1, 2]]],
    "events_keep_their_order_and_ignore_case": ["COMPLETED", [0, 1, 2]],
    "failing_child": ["COMPLETED", ["TaskFailedError", True]],
    "fan_out": ["COMPLETED", True, 100],
    "history_layout": [HISTORY, True],
    "history_of_a_missing_instance": [],
    "list_instance_ids": [[3, 3, 1], True],
    "missing_instance": [None, "TimeoutError"],
    "purge": [3, 0, ["missing"] * 3],
    "purge_by_filter": [3, 0],
    "query_pages": [[3, 3, 1], True, []],
    "restart": [True, True, ["COMPLETED", False], ["COMPLETED", True], True, ["COMPLETED", "again"]],
    "rewind_failed_activity": ["COMPLETED", [2, 2]],
    "rewind_failed_child": ["FAILED", "COMPLETED", [2, 2]],
    "rewind_purged_child": [1, "COMPLETED", [2, 2]],
    "rewind_refused": [
        "An orchestration with the instanceId 'ID' was not found.",
        "orchestration instance 'ID' is COMPLETED; only a failed instance can be rewound",
    ],
    "scheduled_start": ["PENDING", True, ["COMPLETED", 1]],
    "start_without_schedule_and_input": ["COMPLETED", None, "", None],
    "suspend_and_resume": ["SUSPENDED", "SUSPENDED", "COMPLETED", [0, 1, 2]],
    "tags": [{"owner": "me"}, {"owner": "me"}, {"kind": "activity"}],
    "terminate": ["TERMINATED", {"why": "enough"}],
    "terminate_recursively": ["TERMINATED"] * 3,
    "terminate_without_children": ["TERMINATED", "RUNNING", "RUNNING"],
    "timer": ["COMPLETED", True],
    "two_versions_side_by_side": [["COMPLETED", [version] * 2] for version in ("1.0.0", "2.0.0")] * 2,
    "unknown_orchestrator": ["FAILED", "OrchestratorNotRegisteredError"],
    "work_item_filters": [["apples", "pears"] * 3, "PENDING"],
}


EXPECTED_OF_OUR_WORKER: dict[str, Any] = {
    "activities_in_another_language": ["COMPLETED", {"one": 2}],
    "chain": ["COMPLETED", 5],
    "child_in_another_language": ["COMPLETED", 4],
    "duplicate_start": "ALREADY_EXISTS",
    "events": ["COMPLETED", [0, 1, 2]],
    "failure": ["FAILED", "durabletask.task.TaskFailedError", "Activity task #1 failed: no tea"],
    "history": HISTORY,
    "payloads": [[value] * 2 for value in (0, "", False, [], {}, "tea ☕", {"nested": [1, {"deep": None}]})],
    "rewind": ["FAILED", "COMPLETED", [2, 2]],
    "suspend_and_resume": ["SUSPENDED", "COMPLETED", 7],
    "tags": {"owner": "me"},
    "terminate_recursively": [["TERMINATED", "all"]] * 2,
}


@pytest.fixture(scope="module")
def run(foreign_javascript: Any, outcomes_of: Callable[..., Any]) -> Callable[[str, str], Any]:
    """Run a JavaScript program with a scheduler's address; its outcomes."""

    def run(program: str, address: str) -> Any:
        path = FOREIGN / "javascript" / program
        return outcomes_of(foreign_javascript.node, path, address, environment=foreign_javascript.environment)

    return run


@pytest.fixture(scope="module")
def outcomes(new_scheduler: Callable[[], Any], run: Callable[[str, str], Any]) -> Any:
    with new_scheduler() as scheduler:
        return run("catalogue.cjs", scheduler.address)


@pytest.fixture(scope="module")
def outcomes_of_our_worker(new_scheduler: Callable[[], Any], run: Callable[[str, str], Any]) -> Any:
    """Our worker takes only what it knows, for a worker of the other language stands beside it."""
    with new_scheduler() as scheduler:
        command = [sys.executable, str(FOREIGN / "python" / "worker.py"), scheduler.address]
        with Program("our worker", command, environment={"INTEROP_FILTERS": "1"}) as worker:
            worker.wait_for("^ready$", 30)
            return run("client.cjs", scheduler.address)


@pytest.mark.parametrize("workload", sorted(EXPECTED))
def test_a_workload_of_the_official_javascript_sdk_ends_as_it_should(workload: str, outcomes: Any) -> None:
    assert outcomes.of(workload) == EXPECTED[workload]


@pytest.mark.parametrize("workload", sorted(EXPECTED_OF_OUR_WORKER))
def test_the_official_javascript_client_and_our_worker_understand_each_other(
    workload: str, outcomes_of_our_worker: Any
) -> None:
    assert outcomes_of_our_worker.of(workload) == EXPECTED_OF_OUR_WORKER[workload]


def test_every_workload_has_an_expected_outcome(outcomes: Any, outcomes_of_our_worker: Any) -> None:
    assert outcomes.names == set(EXPECTED)
    assert outcomes_of_our_worker.names == set(EXPECTED_OF_OUR_WORKER)
