"""Faults of what the user supplies besides the orchestrator's code: they fail the orchestration, visibly."""

import json
from datetime import datetime, timedelta

import pytest
from durabletask.features import Feature
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask.replay.options import WARNING
from durabletask.serialization import JsonDataConverter
from durabletask.task import RetryPolicy
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import INSTANCE, Backend, event, started, turn_start


def backend_of(orchestrator, **options):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    return Backend(registry, RunOptions(**options))


def failure_of_orchestration(backend):
    assert backend.status == pb.ORCHESTRATION_STATUS_FAILED, backend.completion
    return backend.completion.failureDetails


class Unencoded(JsonDataConverter):
    """Returns what it was given."""

    def serialize(self, value):
        return value


class Unescaped(JsonDataConverter):
    def serialize(self, value):
        return None if value is None else json.dumps(value, ensure_ascii=False)


class Binary(JsonDataConverter):
    def serialize(self, value):
        return None if value is None else json.dumps(value, ensure_ascii=False).encode()


BAD_TEXTS = [(Unencoded(), {"a": 1}, "dict"), (Unencoded(), b"\xff", "UTF-8"), (Unescaped(), "\ud800", "UTF-8")]


@pytest.mark.parametrize("method", ["call_activity", "call_sub_orchestrator"])
@pytest.mark.parametrize("given", [3, timedelta(seconds=1), RetryPolicy])
def test_what_is_not_a_retry_policy_is_refused_at_the_call(method, given):
    def orchestrator(ctx, _):
        yield getattr(ctx, method)("a", retry_policy=given)

    backend = backend_of(orchestrator)
    backend.start()
    failure = failure_of_orchestration(backend)
    assert failure.errorType == "builtins.TypeError"
    assert method in failure.errorMessage and "RetryPolicy" in failure.errorMessage
    assert len(backend.last.actions) == 1


def test_a_converter_that_cannot_tell_about_the_input_fails_it():
    class Undecided(JsonDataConverter):
        def can_reconstruct(self, target_type):
            raise LookupError("which type?")

    def orchestrator(ctx, when: datetime):
        return when

    backend = backend_of(orchestrator, data_converter=Undecided())
    backend.start('"2026-01-01"')
    assert failure_of_orchestration(backend).errorType == "builtins.LookupError"


@pytest.mark.parametrize(("converter", "value", "expected"), BAD_TEXTS)
def test_an_output_that_is_no_text_fails_it(converter, value, expected):
    backend = backend_of(lambda ctx, _: value, data_converter=converter)
    backend.start()
    failure = failure_of_orchestration(backend)
    assert failure.errorType.endswith("JsonEncodeOutputException")
    assert type(converter).__name__ in failure.innerFailure.errorMessage
    assert expected in failure.innerFailure.errorMessage


@pytest.mark.parametrize(("converter", "value", "expected"), BAD_TEXTS)
def test_a_custom_status_that_is_no_text_fails_it(converter, value, expected):
    def orchestrator(ctx, _):
        ctx.set_custom_status(value)
        yield ctx.create_timer(timedelta(1))

    backend = backend_of(orchestrator, data_converter=converter)
    backend.start()
    assert expected in failure_of_orchestration(backend).errorMessage
    assert backend.last.custom_status is None


@pytest.mark.parametrize(("converter", "value", "expected"), BAD_TEXTS)
def test_an_input_that_is_no_text_is_an_error_of_the_call(converter, value, expected):
    def orchestrator(ctx, _):
        with pytest.raises((TypeError, ValueError), match=expected):
            ctx.call_activity("a", input=value)
        with pytest.raises((TypeError, ValueError), match=expected):
            ctx.call_sub_orchestrator("o", input=value)
        with pytest.raises((TypeError, ValueError), match=expected):
            ctx.send_event("other", "e", data=value)
        with pytest.raises((TypeError, ValueError), match=expected):
            ctx.continue_as_new(value)
        yield ctx.call_activity("b")

    backend = backend_of(orchestrator, data_converter=converter)
    backend.start()
    assert [action.scheduleTask.name for action in backend.last.actions] == ["b"]


def test_a_converter_may_return_bytes_in_utf_8():
    backend = backend_of(lambda ctx, _: "é", data_converter=Binary())
    backend.start()
    assert backend.completion.result.value == '"é"'


class Undecided(RetryPolicy):
    def delay_after(self, attempt):
        raise ArithmeticError(attempt)


def test_a_fault_between_the_steps_of_the_code_fails_it():
    def orchestrator(ctx, _):
        yield ctx.call_activity(
            "a", retry_policy=Undecided(first_retry_interval=timedelta(1), max_number_of_attempts=2)
        )

    backend = backend_of(orchestrator)
    backend.start()
    backend.fail_task(1, "no")
    failure = failure_of_orchestration(backend)
    assert failure.errorType == "builtins.ArithmeticError" and "delay_after" in failure.stackTrace.value
    assert len(backend.last.actions) == 1
    assert any("ArithmeticError" in o.message for o in backend.last.observations if o.kind == WARNING)


def test_a_fault_in_the_recorded_past_fails_it_too():
    def orchestrator(ctx, _):
        yield ctx.call_activity("a")
        yield ctx.call_activity("b")

    faulty = Feature("faulty", event_handlers={"genericEvent": lambda run, event: 1 / 0})
    backend = backend_of(orchestrator, features={"faulty": faulty})
    backend.start()
    backend.turn([event("genericEvent")])
    assert failure_of_orchestration(backend).errorType == "builtins.ZeroDivisionError"
    backend.complete_task(1)
    assert failure_of_orchestration(backend).errorType == "builtins.ZeroDivisionError"


def test_a_lack_of_memory_is_the_machines_and_fails_nothing():
    """A later try may do better."""

    class Full(RetryPolicy):
        def delay_after(self, attempt):
            raise MemoryError

    def orchestrator(ctx, _):
        yield ctx.call_activity("a", retry_policy=Full(first_retry_interval=timedelta(1), max_number_of_attempts=2))

    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    run = OrchestrationRun(INSTANCE, registry, RunOptions())
    run.advance([turn_start(1), started(None)])
    run.confirm()
    with pytest.raises(MemoryError):
        run.advance([turn_start(2), event("taskFailed", taskScheduledId=1)])
    assert not run.is_complete
