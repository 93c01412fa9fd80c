"""Running one activity: whatever user code does, there is a response."""

import asyncio
from dataclasses import dataclass

import pytest
from durabletask.activities import run_activity, run_activity_async
from durabletask.registry import Registry
from durabletask_proto import orchestrator_service_pb2 as pb


@dataclass
class Order:
    n: int


def request(data=None):
    built = pb.ActivityRequest(name="a", taskId=3, orchestrationInstance=pb.OrchestrationInstance(instanceId="i"))
    if data is not None:
        built.input.value = data
    return built


def response_of(fn, data=None):
    registry = Registry()
    registry.add_activity(fn, name="a")
    found = registry.activity("a")
    return (
        asyncio.run(run_activity_async(found, request(data))) if found.is_async else run_activity(found, request(data))
    )


class Unprintable(Exception):
    def __str__(self):
        raise ValueError


def raising(error):
    def activity(ctx, _):
        raise error

    return activity


def returning(value):
    return lambda ctx, _: value


def test_input_arrives_as_declared_and_the_context_knows_its_call():
    def activity(ctx, order: Order):
        return [order.n, ctx.orchestration_id, ctx.task_id]

    response = response_of(activity, '{"n": 4}')
    assert (response.instanceId, response.taskId) == ("i", 3)
    assert response.result.value == '[4, "i", 3]'


def test_an_async_activity_is_awaited():
    """R3"""

    async def activity(ctx, n):
        await asyncio.sleep(0)
        return n + 1

    assert response_of(activity, "1").result.value == "2"


@pytest.mark.parametrize("value", [0, "", [], {}, False])
def test_falsy_results_are_results_and_none_is_none(value):
    """lesson 8"""
    assert response_of(returning(value)).HasField("result")
    assert not response_of(returning(None)).HasField("result")


@pytest.mark.parametrize(
    ("activity", "error_type"),
    [
        (raising(SystemExit(1)), "builtins.SystemExit"),
        (raising(KeyboardInterrupt()), "builtins.KeyboardInterrupt"),
        (raising(GeneratorExit()), "builtins.GeneratorExit"),
        (raising(asyncio.CancelledError()), "asyncio.exceptions.CancelledError"),
        (raising(Unprintable()), None),
        (returning(float("nan")), "builtins.ValueError"),
        (returning(object()), "builtins.TypeError"),
    ],
)
def test_whatever_goes_wrong_fails_the_activity_only(activity, error_type):
    """R16, R18, lessons 9, 32 and 37"""
    failure = response_of(activity).failureDetails
    assert failure.errorType == (error_type or f"{Unprintable.__module__}.Unprintable")
    assert failure.HasField("stackTrace")


def test_a_payload_that_is_not_json_fails_it():
    assert "not JSON" in response_of(returning(1), "{").failureDetails.errorMessage


def test_an_activity_nobody_registered():
    failure = run_activity(None, request()).failureDetails
    assert failure.errorType == "durabletask.worker.ActivityNotRegisteredError"
    assert failure.isNonRetriable and "'a'" in failure.errorMessage


def test_an_awaitable_from_a_plain_function_is_a_clear_error():
    async def inner():
        return 1

    assert "async def" in response_of(lambda ctx, _: inner()).failureDetails.errorMessage
