"""Versions and tags that are not texts are refused where they are given; what no parser reads is still a version."""

import asyncio
import re

import pytest
from durabletask.client import AsyncTaskHubGrpcClient, NewOrchestration, TaskHubGrpcClient
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask.versioning import (
    VersionFailureStrategy,
    VersionInfo,
    VersioningOptions,
    VersionMatchStrategy,
    VersionOrderError,
    compare_versions,
    is_orderable,
)
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb

ENDLESS = "9" * 4301
NO_TEXTS = [2, 1.0, 0, False, b"1.0", ("1", "0"), VersionInfo("1.0")]


def echo(ctx, value):
    return value


@pytest.mark.parametrize("argument", ["version", "default_version"])
@pytest.mark.parametrize("value", NO_TEXTS)
def test_options_refuse_a_version_that_is_no_text(argument, value):
    with pytest.raises(
        TypeError, match=rf"^{argument} must be a text or None, found .* of type {type(value).__name__}"
    ):
        VersioningOptions(**{argument: value})


def test_the_message_says_what_to_write():
    with pytest.raises(TypeError) as caught:
        VersioningOptions(version=2)
    assert str(caught.value) == 'version must be a text or None, found 2 of type int: write version="2"'


@pytest.mark.parametrize("value", ["1.0", 2, VersioningOptions])
def test_a_worker_refuses_versioning_that_is_no_options(value):
    with pytest.raises(
        TypeError, match=r"VersioningOptions or None, found .*: write use_versioning\(VersioningOptions"
    ):
        TaskHubGrpcWorker().use_versioning(value)


def test_a_worker_refuses_options_that_were_changed_to_hold_no_text():
    options = VersioningOptions()
    options.version = 2
    with pytest.raises(TypeError, match="must be a text or None"):
        TaskHubGrpcWorker().use_versioning(options)


@pytest.mark.parametrize("value", NO_TEXTS)
@pytest.mark.parametrize("kind", ["orchestrator", "activity"])
def test_a_registration_refuses_a_version_that_is_no_text(kind, value):
    worker = TaskHubGrpcWorker()
    with pytest.raises(TypeError, match="version must be a text or None"):
        getattr(worker, f"add_{kind}")(echo, version=value)
    with pytest.raises(TypeError, match="version must be a text or None"):
        getattr(worker, kind)(version=value)(echo)
    assert getattr(worker, f"add_{kind}")(echo) == "echo"


CALLS = {
    "activity version": lambda ctx: ctx.call_activity("a", version=2),
    "activity tags": lambda ctx: ctx.call_activity("a", tags={"a": 1}),
    "child version": lambda ctx: ctx.call_sub_orchestrator("o", version=2),
    "child version 0": lambda ctx: ctx.call_sub_orchestrator(echo, version=0),
    "child tags": lambda ctx: ctx.call_sub_orchestrator("o", tags=["a"]),
    "next generation": lambda ctx: ctx.continue_as_new(1, new_version=2),
}


def first_turn(orchestrator, options=None, version=None):
    """The first turn of an instance, and what it completes with."""
    registry = Registry()
    registry.add_orchestrator(orchestrator, "it")
    started = pb.ExecutionStartedEvent(name="it")
    started.orchestrationInstance.instanceId = "one"
    if version is not None:
        started.version.value = version
    run = OrchestrationRun("one", registry, options or RunOptions())
    turn = run.advance(
        [
            pb.HistoryEvent(orchestratorStarted=pb.OrchestratorStartedEvent()),
            pb.HistoryEvent(executionStarted=started),
        ]
    )
    return turn, turn.actions[-1].completeOrchestration


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_gives_no_text_is_an_error_of_the_orchestration(call):
    def orchestrator(ctx, _):
        yield call(ctx)

    turn, completion = first_turn(orchestrator)
    assert completion.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert completion.failureDetails.errorType == "builtins.TypeError"
    assert re.match(r"(new_)?version must be a text|tags must be a dict", completion.failureDetails.errorMessage)
    assert len(turn.actions) == 1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_code_that_handles_the_error_goes_on_as_if_it_had_not_called(call):
    def orchestrator(ctx, _):
        with pytest.raises(TypeError):
            call(ctx)
        return "done"

    turn, completion = first_turn(orchestrator)
    assert completion.result.value == '"done"'
    assert [action.id for action in turn.actions] == [1]


STARTS = [
    ({"version": 2}, "version must be a text or None, found 2"),
    ({"version": 0}, "version must be a text or None, found 0"),
    ({"tags": {"a": 1}}, "tags must be a dict of texts by texts, found 1 of type int for 'a' of type str"),
    ({"tags": {1: "a"}}, "tags must be a dict of texts by texts, found 'a' of type str for 1 of type int"),
    ({"tags": "a"}, "tags must be a dict of texts, found 'a' of type str"),
]


@pytest.mark.parametrize(("options", "message"), STARTS)
def test_clients_refuse_to_start_with_what_is_no_text(options, message):
    with TaskHubGrpcClient() as client:
        with pytest.raises(TypeError, match=message):
            client.schedule_new_orchestration("o", **options)
        with pytest.raises(TypeError, match=message):
            client.schedule_new_orchestrations([NewOrchestration("fine"), NewOrchestration("o", **options)])

    async def start():
        async with AsyncTaskHubGrpcClient() as client:
            await client.schedule_new_orchestration("o", **options)

    with pytest.raises(TypeError, match=message):
        asyncio.run(start())


@pytest.mark.parametrize("client", [TaskHubGrpcClient, AsyncTaskHubGrpcClient])
def test_clients_refuse_a_default_version_that_is_no_text(client):
    with pytest.raises(TypeError, match=r'^default_version must be a text or None, found 2 .*default_version="2"'):
        client(default_version=2)


def test_a_number_too_long_for_a_parser_is_an_opaque_version():
    assert not is_orderable(ENDLESS)
    with pytest.raises(VersionOrderError, match="no order"):
        compare_versions("1.0", ENDLESS)


@pytest.mark.parametrize("strategy", [VersionMatchStrategy.STRICT, VersionMatchStrategy.CURRENT_OR_OLDER])
def test_an_instance_of_a_version_too_long_for_a_parser_is_a_mismatch(strategy):
    versioning = VersioningOptions("1.0", match_strategy=strategy, failure_strategy=VersionFailureStrategy.FAIL)
    _, completion = first_turn(echo, RunOptions(versioning=versioning), ENDLESS)
    assert completion.failureDetails.errorType == "VersionMismatch"
