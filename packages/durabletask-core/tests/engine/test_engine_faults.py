"""Faults of what the user supplies besides the orchestrator's code: they fail the orchestration, visibly."""

import json
from datetime import datetime, timedelta

import pytest
from durabletask.registry import Registry
from durabletask.replay import RunOptions
from durabletask.serialization import JsonDataConverter
from durabletask.task import RetryPolicy
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import Backend


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
