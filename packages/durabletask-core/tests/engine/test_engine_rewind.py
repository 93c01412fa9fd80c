"""Rewinding by the worker: the history it hands back can be replayed and goes on at the failure."""

from datetime import timedelta

import pytest
from durabletask import task
from durabletask.registry import Registry
from durabletask.replay import RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import Backend, event, run_cold, turn_start

POLICY = task.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2)


def in_order(ctx, _):
    first = yield ctx.call_activity("a")
    second = yield ctx.call_activity("b")
    return [first, second]


def with_clean_up(ctx, _):
    try:
        return (yield ctx.call_activity("a"))
    except task.TaskFailedError:
        yield ctx.call_activity("clean")
        raise


def with_retries(ctx, _):
    return (yield ctx.call_activity("a", retry_policy=POLICY))


def with_child(ctx, _):
    return (yield ctx.call_sub_orchestrator("c"))


def in_parallel(ctx, _):
    return (yield task.when_all([ctx.call_activity("a"), ctx.call_activity("b")]))


def fail_second(backend):
    backend.complete_task(1, "1")
    backend.fail_task(2, "no")


def fail_and_clean(backend):
    backend.fail_task(1, "no")
    backend.complete_task(2)


def fail_twice(backend):
    backend.fail_task(1, "no")
    backend.fire_timer(2)
    backend.fail_task(1, "no")


def fail_child(backend):
    backend.fail_child(1, "no")


def fail_one_of_two(backend):
    backend.fail_task(1, "no")
    backend.complete_task(2, "2")


CASES = {
    "the second of two": (in_order, fail_second, [2]),
    "clean-up after the failure (R20)": (with_clean_up, fail_and_clean, [1]),
    "after its retries": (with_retries, fail_twice, [1]),
    "a child": (with_child, fail_child, []),
    "one of two at once": (in_parallel, fail_one_of_two, [1]),
}


def failed_backend(orchestrator, life):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    backend = Backend(registry, RunOptions())
    backend.start()
    life(backend)
    assert backend.status == pb.ORCHESTRATION_STATUS_FAILED
    ended = event("executionCompleted", orchestrationStatus=pb.ORCHESTRATION_STATUS_FAILED)
    return backend, [*backend.history, ended]


def rewind_turn(seconds=5_000):
    return [turn_start(seconds), pb.HistoryEvent(eventId=-1, executionRewound=pb.ExecutionRewoundEvent())]


@pytest.mark.parametrize(("orchestrator", "life", "sent_again"), CASES.values(), ids=CASES)
def test_a_rewound_history_goes_on_at_the_failure(orchestrator, life, sent_again):
    """pinned 15, lesson 15, R20"""
    backend, history = failed_backend(orchestrator, life)
    result = run_cold(backend, history, rewind_turn())
    assert [a.id for a in result.actions] == [-1]
    rewound = list(result.actions[0].rewindOrchestration.newHistory)
    kinds = [e.WhichOneof("eventType") for e in rewound]
    assert kinds[-2:] == ["orchestratorStarted", "executionRewound"]
    assert "executionCompleted" not in kinds
    again = run_cold(backend, rewound, [turn_start(6_000)])
    assert [a.id for a in again.actions] == sent_again
    assert not any(a.HasField("completeOrchestration") for a in again.actions)


def test_the_execution_id_is_new_and_the_same_for_the_same_turn():
    backend, history = failed_backend(in_order, fail_second)

    def execution_id(seconds):
        action = run_cold(backend, history, rewind_turn(seconds)).actions[0]
        return action.rewindOrchestration.newHistory[1].executionStarted.orchestrationInstance.executionId.value

    assert execution_id(1) == execution_id(1)
    assert len({"execution", execution_id(1), execution_id(2)}) == 3
    assert history[1].executionStarted.orchestrationInstance.executionId.value == "execution"


def test_a_rewind_turn_with_other_events_is_refused():
    backend, history = failed_backend(in_order, fail_second)
    result = run_cold(backend, history, [*rewind_turn(), event("eventRaised", name="x")])
    assert result.actions[0].completeOrchestration.failureDetails.errorType == "builtins.ValueError"
