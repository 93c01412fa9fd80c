"""What each workload of foreign/python ends with, whichever SDK runs it."""

from __future__ import annotations

from typing import Any

TASK_FAILED = "durabletask.task.TaskFailedError"
STARTS_OF_A_LIVE_ID = ["ALREADY_EXISTS True", "ALREADY_EXISTS True", "INVALID_ARGUMENT True", "OK 1"]
STARTS_OF_AN_ENDED_ID = ["OK 1", "ALREADY_EXISTS True", "OK 1", "OK 1"]

EXPECTED: dict[str, Any] = {
    # What an orchestration can do.
    "activity_retries_exhausted": [TASK_FAILED, "Activity task #1 failed: attempt 3"],
    "activity_retries_reuse_the_task_id": [
        "COMPLETED",
        [1, 3],
        [
            "TaskScheduled#1",
            "TimerCreated#2",
            "TaskScheduled#1",
            "TimerCreated#3",
            "TaskScheduled#1",
            "ExecutionCompleted#4",
        ],
    ],
    "activity_that_may_be_held": ["COMPLETED", "let go"],
    "async_client": True,
    "chain": ["COMPLETED", 10],
    "child_retries": ["COMPLETED", [":0001", 3]],
    "child_under_the_id_of_a_live_instance": ["FAILED", True, ["COMPLETED", "untouched"]],
    "child_with_a_given_id": ["COMPLETED", True],
    "child_with_the_default_id": ["COMPLETED", True],
    "continue_as_new_carries_events_over": ["COMPLETED", list(range(10)), list(range(9))],
    "continue_as_new_keeps_the_custom_status": [
        "COMPLETED",
        "over",
        "set by the first generation",
        0,
        [
            "OrchestratorStarted",
            "ExecutionStarted",
            "TimerCreated#1",
            "OrchestratorStarted",
            "TimerFired",
            "ExecutionCompleted#2",
        ],
    ],
    "custom_status": [{"waiting": True}, [1, "two", None]],
    "eternal_parent_with_default_child_ids": ["COMPLETED", [":0001", ":0001", ":0001"]],
    "event_beats_timer": ["COMPLETED", [True, {"by": "me"}]],
    "event_without_data": ["COMPLETED", None],
    "events_from_another_orchestration": [["COMPLETED", "told"], ["COMPLETED", [0, 1, 2]]],
    "events_keep_their_order_and_ignore_case": ["COMPLETED", [0, 1, 2], ["approval", "APPROVAL", "Approval"]],
    "events_wait_for_their_name": ["COMPLETED", ["first", "second"]],
    "failing_child": [
        "COMPLETED",
        [TASK_FAILED, "Sub-orchestration task #1 failed: ID:0001: Activity task #1 failed: no tea"],
    ],
    "failure_details": {
        "type": TASK_FAILED,
        "message": "Activity task #1 failed: the effect",
        "stack trace": True,
        "inner": ["builtins.ValueError", "the effect", True],
    },
    "falsy_values": [[text] * 3 for text in ("0", '""', "false", "[]", "{}", None)],
    "fan_out": ["COMPLETED", True],
    "fan_out_of_two_on_an_idle_hub": ["COMPLETED", [1, 2], True],
    "history_layout": [
        "OrchestratorStarted",
        "ExecutionStarted",
        "TaskScheduled#1",
        "OrchestratorStarted",
        "TaskCompleted",
        "TimerCreated#2",
        "OrchestratorStarted",
        "TimerFired",
        "SubOrchestrationInstanceCreated#3",
        "OrchestratorStarted",
        "SubOrchestrationInstanceCompleted",
        "ExecutionCompleted#4",
    ],
    "large_payload": ["COMPLETED", True],
    "long_timer_in_chunks": ["COMPLETED", "rang", True, 4, 4],
    "scheduled_start": ["PENDING", True, ["COMPLETED", 1], ["TERMINATED", "too late"], ["COMPLETED", 1]],
    "tags": [{"owner": "me", "": "empty"}, {"kind": "activity"}],
    "timers": ["COMPLETED", [True, True]],
    "turn_larger_than_the_worker_accepts": ["FAILED", True, ["COMPLETED", 2]],
    "unknown_activity": [TASK_FAILED, "durabletask.worker.ActivityNotRegisteredError"],
    "unknown_orchestrator": ["FAILED", "durabletask.worker.OrchestratorNotRegisteredError"],
    # What a client can do to orchestrations.
    "duplicate_start": [["OK", *["ALREADY_EXISTS"] * 4], ["COMPLETED", "once"]],
    "id_reuse": {
        **dict.fromkeys(["PENDING", "RUNNING", "SUSPENDED"], STARTS_OF_A_LIVE_ID),
        **dict.fromkeys(["COMPLETED", "FAILED", "TERMINATED"], STARTS_OF_AN_ENDED_ID),
    },
    "list_instance_ids": [[3, 3, 1], True, [], None],
    "purge_by_filter": [[0, 3, 1], True, [True]],
    "purge_one": [[1, 0], "missing", "FAILED_PRECONDITION", "NOT_FOUND"],
    "purge_recursively": [3, ["missing"] * 3],
    "query_pages": [True, [], 7, [], 7],
    "query_payloads": [[['"tea"'] * 3], [[None, None, '"tea"']], [None, None]],
    "requests_for_a_missing_instance": {
        "raise_event": "NOT_FOUND",
        "terminate": "OK",
        "purge": 0,
        "history": "NOT_FOUND",
    },
    "requests_for_an_ended_instance": [["OK"] * 4, True],
    "restart": [True, True, ["COMPLETED", 4], True, ["COMPLETED", 4], {"kept": "yes"}],
    "restart_of_the_living": ["FAILED_PRECONDITION", "NOT_FOUND", ["COMPLETED", False], ["COMPLETED", True]],
    "rewind_failed_activity": ["FAILED", "COMPLETED", [2, 2]],
    "rewind_failed_child": [["FAILED", "FAILED"], [["COMPLETED", [2, 2]], ["COMPLETED", [2, 2]]]],
    "rewind_purged_child": [1, "COMPLETED", [2, 2]],
    "rewind_refused": ["NOT_FOUND", "FAILED_PRECONDITION", "FAILED_PRECONDITION"],
    "rewind_twice": [["FAILED", "FAILED", "COMPLETED"], [2, 3]],
    "suspend_and_resume": ["SUSPENDED", "SUSPENDED", "COMPLETED", [0, 1, 2], 1, 1],
    "terminate": [
        "TERMINATED",
        {"why": "enough"},
        "OK",
        {"why": "enough"},
        ["ExecutionTerminated", "ExecutionCompleted"],
    ],
    "terminate_recursively": [["TERMINATED", "all"]] * 3,
    "terminate_while_suspended": ["TERMINATED", "while suspended"],
    "terminate_without_children": [["TERMINATED", "RUNNING", "RUNNING"], ["TERMINATED"] * 3],
    "wait_for_a_missing_instance": ["TimeoutError", None, ["COMPLETED", 1]],
    # Several workers, each in task hubs of their own.
    "children_get_the_default_version": ["COMPLETED", ["1.5.0", "2.0.0", "9.9.9"]],
    "filters_by_version": [["COMPLETED", "2.0.0"], ["COMPLETED", "1.0.0"]] * 2,
    "managed_sdk": ["COMPLETED", 3],
    "rejected_by_all_then_taken": ["PENDING", "COMPLETED", "2.0.0"],
    "task_hubs_are_apart": [None, "OK", "NOT_FOUND"],
    "two_versions_side_by_side": [["COMPLETED", ["old worker", "1.0.0"]], ["COMPLETED", ["new worker", "2.0.0"]]] * 3,
    "version_mismatch_fails": [["COMPLETED", "1.0.0"], ["FAILED", "VersionMismatch"]],
    "work_item_filters": [True, "PENDING"],
    "worker_taken_over": ["COMPLETED", [2, 3], True],
}

# These need workers of their own and bring them along.
IN_HUBS_OF_THEIR_OWN = {
    "children_get_the_default_version",
    "filters_by_version",
    "large_payload",
    "list_instance_ids",
    "long_timer_in_chunks",
    "managed_sdk",
    "purge_by_filter",
    "rejected_by_all_then_taken",
    "task_hubs_are_apart",
    "turn_larger_than_the_worker_accepts",
    "two_versions_side_by_side",
    "version_mismatch_fails",
    "work_item_filters",
    "worker_taken_over",
}

# Their activities count attempts in the memory of the worker.
WITH_MEMORY_IN_THE_WORKER = {
    "activity_retries_exhausted",
    "activity_retries_reuse_the_task_id",
    "child_retries",
    "rewind_failed_activity",
    "rewind_failed_child",
    "rewind_purged_child",
    "rewind_twice",
}
