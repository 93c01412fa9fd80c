"""What a run that waits keeps: workers keep many of them."""

import gc

import pytest
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from engine_histories import event, started, turn_start
from google.protobuf.message import Message


def waits(ctx, _):
    return (yield ctx.wait_for_external_event("go"))


def has_had_an_event(ctx, _):
    yield ctx.wait_for_external_event("first")
    return (yield ctx.wait_for_external_event("go"))


def has_had_a_result(ctx, _):
    yield ctx.call_activity("a")
    return (yield ctx.wait_for_external_event("go"))


def has_asked_for_the_time(ctx, _):
    begun = ctx.current_utc_datetime
    yield ctx.wait_for_external_event("go")
    return str(begun)


def raised(name):
    return event("eventRaised", name=name, input="1")


@pytest.mark.parametrize(
    ("orchestrator", "before"),
    [
        (waits, []),
        (has_had_an_event, [raised("first")]),
        (has_had_a_result, [event("taskScheduled", 1, name="a"), event("taskCompleted", taskScheduledId=1)]),
        (has_asked_for_the_time, []),
    ],
)
def test_a_run_that_waits_for_an_event_keeps_no_message(orchestrator, before):
    """A message within a message keeps the whole of it in memory: here the work item."""
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    run = OrchestrationRun("an instance", registry, RunOptions())
    run.advance([turn_start(1), started("1"), *before])
    run.confirm()
    assert not run.is_complete
    assert messages_of(run) == []
    result = run.advance([turn_start(2), raised("go")])
    assert result.actions[-1].HasField("completeOrchestration")


def messages_of(run):
    """The messages that a run leads to, other than through what all runs share."""
    seen = {id(run.registry), id(run.options)}
    found, to_look_at = [], [run]
    while to_look_at:
        one = to_look_at.pop()
        if id(one) not in seen and not is_shared(one):
            seen.add(id(one))
            found += [one] if isinstance(one, Message) else []
            to_look_at += gc.get_referents(one)
    return found


def is_shared(one):
    return isinstance(one, type) or callable(one) or (isinstance(one, dict) and "__builtins__" in one)
