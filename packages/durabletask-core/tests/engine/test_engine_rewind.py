"""Rewinding by the worker: the history it hands back can be replayed and goes on at the failure."""

from datetime import timedelta

import pytest
from durabletask import task
from durabletask.features import Feature, RewindRules
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


def after_another_failure(ctx, _):
    try:
        yield ctx.call_activity("a")
    except task.TaskFailedError:
        yield ctx.call_activity("instead")
    yield ctx.call_activity("b")


def that_stops_at_the_first_failure(ctx, _):
    first, slow, timer = ctx.call_activity("a"), ctx.call_activity("b"), ctx.create_timer(timedelta(hours=1))
    return (yield (yield task.when_any([first, slow, timer])))


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


def fail_and_fail_later(backend):
    backend.fail_task(1, "first")
    backend.complete_task(2)
    backend.fail_task(3, "second")


def fail_first(backend):
    backend.fail_task(1, "no")


CASES = {
    "the second of two": (in_order, fail_second, [2]),
    "clean-up after the failure (R20)": (with_clean_up, fail_and_clean, [1]),
    "after its retries": (with_retries, fail_twice, [1]),
    "a child": (with_child, fail_child, []),
    "one of two at once": (in_parallel, fail_one_of_two, [1]),
    "not those that the code has handled": (after_another_failure, fail_and_fail_later, [3]),
    "with all that is still open": (that_stops_at_the_first_failure, fail_first, [1, 2, 3]),
}


def failed_backend(orchestrator, life):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    backend = Backend(registry, RunOptions())
    backend.start()
    life(backend)
    assert backend.status == pb.ORCHESTRATION_STATUS_FAILED
    ended = event("executionCompleted", orchestrationStatus=pb.ORCHESTRATION_STATUS_FAILED)
    ended.executionCompleted.failureDetails.CopyFrom(backend.completion.failureDetails)
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


class TestFeatures:
    """What a feature's events mean to a rewind, the feature says."""

    @staticmethod
    def rewound(past, rules):
        feature = Feature("words", event_handlers={"genericEvent": lambda run, event: None}, rewinding=rules)
        backend, history = failed_backend(in_order, fail_second)
        backend.options = RunOptions(features={"words": feature})
        return run_cold(backend, [*history[:-1], *past, history[-1]], rewind_turn()).actions[0]

    def test_what_a_feature_sends_after_the_failure_is_left_out(self):
        after = [event("genericEvent")]
        for rules, count in [(RewindRules(), 1), (RewindRules(sends=frozenset({"genericEvent"})), 0)]:
            kept = [e.WhichOneof("eventType") for e in self.rewound(after, rules).rewindOrchestration.newHistory]
            assert kept.count("genericEvent") == count

    def test_a_feature_may_refuse_and_the_cause_of_the_failure_stays_known(self):
        shown = []

        def refusal(kept):
            shown.extend(e.WhichOneof("eventType") for e in kept)
            return "words were said."

        failure = self.rewound([], RewindRules(refusal=refusal)).completeOrchestration.failureDetails
        assert failure.errorMessage == "'instance' cannot be rewound: words were said."
        assert "Activity task #2 failed: no" in failure.innerFailure.errorMessage
        assert "taskFailed" not in shown and "taskCompleted" in shown
