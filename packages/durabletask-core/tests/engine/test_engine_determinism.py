"""Code that no longer does what its history says is always found out, and the message helps."""

import inspect
from datetime import timedelta

import pytest
from durabletask.registry import Registry
from durabletask.replay import RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import Backend, confirmation, event, run_cold, started, turn_start


def act(ctx, name="a"):
    return ctx.call_activity(name)


def child(ctx, name="c"):
    return ctx.call_sub_orchestrator(name)


def timer(ctx):
    return ctx.create_timer(timedelta(1))


def sent(ctx, target="t", name="e"):
    ctx.send_event(target, name)
    return ctx.wait_for_external_event("never")


def replayed(old, new):
    """The completion when code ``new`` meets the history that ``old`` made in its first turn."""

    def backend_of(calls):
        def orchestrator(ctx, _):
            awaited = [call(ctx) for call in calls]
            if awaited:
                yield awaited[-1]

        registry = Registry()
        registry.add_orchestrator(orchestrator, name="orch")
        return Backend(registry, RunOptions())

    start = [turn_start(1), started(None)]
    recorded = run_cold(backend_of(old), [], start)
    past = start + [c for c in map(confirmation, recorded.actions) if c is not None]
    result = run_cold(backend_of(new), past, [turn_start(2), event("eventRaised", name="x")])
    done = [a.completeOrchestration for a in result.actions if a.HasField("completeOrchestration")]
    return result, done[0] if done else None


MAKERS = {"call_activity": act, "call_sub_orchestrator": child, "create_timer": timer, "send_event": sent}
CHANGED_KINDS = [(old, new) for old in MAKERS for new in MAKERS if old != new]
CHANGED_NAMES = [
    (act, lambda ctx: act(ctx, "b"), "'a'", "'b'"),
    (child, lambda ctx: child(ctx, "d"), "'c'", "'d'"),
    (sent, lambda ctx: sent(ctx, "t", "f"), "'e'", "'f'"),
    (sent, lambda ctx: sent(ctx, "u", "e"), "'t'", "'u'"),
]


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_the_same_code_goes_on(maker):
    assert replayed([maker], [maker])[1] is None


@pytest.mark.parametrize(("old", "new"), CHANGED_KINDS)
def test_another_kind_of_call_names_both_methods_and_the_id(old, new):
    """pinned 12"""
    result, done = replayed([MAKERS[old]], [MAKERS[new]])
    message = done.failureDetails.errorMessage
    assert done.failureDetails.errorType == "durabletask.task.NonDeterminismError"
    assert old in message and new in message and "#1" in message
    assert len(result.actions) == 1


@pytest.mark.parametrize(("old", "new", "recorded", "made"), CHANGED_NAMES)
def test_another_name_or_target_names_both(old, new, recorded, made):
    """pinned 10 and 12"""
    message = replayed([old], [new])[1].failureDetails.errorMessage
    assert recorded in message and made in message


def test_event_names_that_differ_in_case_only_are_the_same():
    assert replayed([sent], [lambda ctx: sent(ctx, "t", "E")])[1] is None


def test_another_order_is_found():
    done = replayed([act, child], [child, act])[1]
    assert done.failureDetails.errorType == "durabletask.task.NonDeterminismError"


@pytest.mark.parametrize("kept", [0, 1])
def test_code_shorter_than_its_history_is_found_even_if_it_returns_early(kept):
    """R9; lessons 1 and 2"""

    def orchestrator(ctx, _):
        for _ in range(kept):
            yield act(ctx)

    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    past = [turn_start(1), started(None)]
    for n in (1, 2):
        past += [event("taskScheduled", n, name="a"), turn_start(n + 1)]
        past += [event("taskCompleted", taskScheduledId=n)]
    result = run_cold(Backend(registry, RunOptions()), past[:-1], past[-1:])
    failure = result.actions[0].completeOrchestration.failureDetails
    assert failure.errorType == "durabletask.task.NonDeterminismError"
    assert f"#{kept + 1}" in failure.errorMessage and "call_activity('a')" in failure.errorMessage
    assert "finished (COMPLETED)" in failure.errorMessage


def test_the_message_names_the_line_that_made_the_call():
    def orchestrator(ctx, _):
        yield ctx.call_activity("new")

    line = inspect.getsourcelines(orchestrator)[1] + 1
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    past = [turn_start(1), started(None), event("taskScheduled", 1, name="old")]
    result = run_cold(Backend(registry, RunOptions()), past, [turn_start(2)])
    message = result.actions[0].completeOrchestration.failureDetails.errorMessage
    assert f"test_engine_determinism.py:{line} in orchestrator" in message
    assert "version_at_least" in message


def test_what_the_wrong_code_did_is_not_sent():
    def orchestrator(ctx, _):
        ctx.call_activity("x")
        ctx.call_activity("y")
        yield timer(ctx)

    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    past = [turn_start(1), started(None), event("timerCreated", 1)]
    result = run_cold(Backend(registry, RunOptions()), past, [turn_start(2)])
    assert [a.WhichOneof("orchestratorActionType") for a in result.actions] == ["completeOrchestration"]


def test_an_unknown_event_is_a_state_error_that_names_the_missing_package():
    registry = Registry()
    registry.add_orchestrator(lambda ctx, _: ctx.create_timer(timedelta(1)), name="orch")
    backend = Backend(registry, RunOptions(features={}))
    granted = pb.HistoryEvent(eventId=-1, entityLockGranted=pb.EntityLockGrantedEvent(criticalSectionId="c"))
    result = run_cold(backend, [], [turn_start(1), granted])
    failure = result.actions[0].completeOrchestration.failureDetails
    assert failure.errorType == "durabletask.task.OrchestrationStateError"
    assert "pip install durabletask-entities" in failure.errorMessage
