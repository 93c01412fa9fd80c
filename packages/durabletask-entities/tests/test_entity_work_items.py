"""Entity work items on the wire: both forms in, one answer out, whatever user code does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from durabletask.entities import DurableEntity, EntityContext
from durabletask.features import ENTITIES, WorkItemHost, require_feature
from durabletask.registry import Registry
from durabletask.replay import RunOptions
from durabletask.worker import EntityWorkItemFilter, TaskHubGrpcWorker, VersioningOptions, WorkItemFilters
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

LOGGER = logging.getLogger("test.entities")
FEATURE = require_feature(ENTITIES)


def await_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def register(*entities: Any) -> Registry:
    registry = Registry()
    assert FEATURE.register is not None
    for entity in entities:
        FEATURE.register(registry, entity, None)
    return registry


def run(request: Any, *entities: Any, **options: Any) -> pb.EntityBatchResult:
    form = "entityRequest" if isinstance(request, pb.EntityBatchRequest) else "entityRequestV2"
    host = WorkItemHost(LOGGER, await_here)
    result = FEATURE.work_items[form](register(*entities), request, RunOptions(**options), host)
    assert isinstance(result, pb.EntityBatchResult)
    return result


def text(value: str | None) -> StringValue | None:
    return None if value is None else StringValue(value=value)


def call(operation: str, data: str | None = None, request_id: str = "r") -> pb.HistoryEvent:
    return pb.HistoryEvent(
        entityOperationCalled=pb.EntityOperationCalledEvent(
            requestId=request_id,
            operation=operation,
            input=text(data),
            parentInstanceId=text("parent"),
            parentExecutionId=text("execution"),
        )
    )


def signal(operation: str, data: str | None = None, request_id: str = "s") -> pb.HistoryEvent:
    return pb.HistoryEvent(
        entityOperationSignaled=pb.EntityOperationSignaledEvent(
            requestId=request_id, operation=operation, input=text(data)
        )
    )


def second_form(
    events: Sequence[pb.HistoryEvent], state: str | None = None, entity_id: str = "@counter@a"
) -> pb.EntityRequest:
    return pb.EntityRequest(instanceId=entity_id, entityState=text(state), operationRequests=events)


def counter(ctx: EntityContext, input: Any) -> Any:
    if ctx.operation == "add":
        ctx.set_state(ctx.get_state(int, 0) + input)
    if ctx.operation == "raise":
        ctx.set_state("spoilt")
        raise input
    if ctx.operation == "get":
        return ctx.get_state()
    return None


def test_the_second_form_says_where_results_go() -> None:
    result = run(second_form([call("add", "5", "r1"), signal("add", "2", "s1"), call("get", None, "r2")]), counter)
    assert [r.success.result.value for r in result.results] == ["", "", "7"]
    assert all(r.success.HasField("result") for r in result.results), "no result is an empty text"
    assert result.entityState.value == "7"
    destination = pb.OrchestrationInstance(instanceId="parent", executionId=text("execution"))
    assert list(result.operationInfos) == [
        pb.OperationInfo(requestId="r1", responseDestination=destination),
        pb.OperationInfo(requestId="s1"),
        pb.OperationInfo(requestId="r2", responseDestination=destination),
    ]


def test_the_first_form_has_results_only() -> None:
    operations = [
        pb.OperationRequest(operation="add", requestId="r1", input=text("5")),
        pb.OperationRequest(operation="get", requestId="r2"),
    ]
    result = run(pb.EntityBatchRequest(instanceId="@counter@a", entityState=text("1"), operations=operations), counter)
    assert [r.success.result.value for r in result.results] == ["", "6"]
    assert (result.entityState.value, len(result.operationInfos)) == ("6", 0)


def test_operations_are_timed_one_after_the_other() -> None:
    results = run(second_form([call("get"), call("add", "1")]), counter).results
    times = [t.ToNanoseconds() for r in results for t in (r.success.startTimeUtc, r.success.endTimeUtc)]
    assert times == sorted(times) and times[0] > 0


@pytest.mark.parametrize("state", ['{"b" :1,   "a":2}', "", "null", "\u00e9"])
def test_a_state_that_nobody_sets_is_written_back_byte_for_byte(state: str) -> None:
    """pinned 19"""

    def untouched(ctx: EntityContext, _: Any) -> None: ...

    result = run(second_form([call("x")], state, "@untouched@a"), untouched)
    assert result.HasField("entityState") and result.entityState.value == state


def test_no_state_stays_no_state_and_a_deleted_one_is_unset() -> None:
    class Entity(DurableEntity):
        def look(self) -> None: ...

    assert not run(second_form([call("look")], None, "@entity@a"), Entity).HasField("entityState")
    assert not run(second_form([call("delete")], "5", "@entity@a"), Entity).HasField("entityState")


FAULTS = [SystemExit(3), KeyboardInterrupt(), ValueError("v"), asyncio.CancelledError()]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("fault", FAULTS, ids=[type(fault).__name__ for fault in FAULTS])
def test_whatever_an_operation_raises_fails_that_operation_only(fault: BaseException, is_async: bool) -> None:
    """lesson 37, lesson 66"""

    def faulty(ctx: EntityContext, _: Any) -> Any:
        ctx.set_state(ctx.get_state(int, 0) + 1)
        return later(ctx) if is_async else fail(ctx)

    async def later(ctx: EntityContext) -> None:
        fail(ctx)

    def fail(ctx: EntityContext) -> None:
        if ctx.operation == "fail":
            raise fault

    def await_guarded(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value

    host = WorkItemHost(LOGGER, await_guarded)
    request = second_form([call("ok"), call("fail"), call("ok")], None, "@faulty@a")
    result = FEATURE.work_items["entityRequestV2"](register(faulty), request, RunOptions(), host)
    assert isinstance(result, pb.EntityBatchResult)
    assert [r.WhichOneof("resultType") for r in result.results] == ["success", "failure", "success"]
    failure = result.results[1].failure.failureDetails
    assert failure.errorType.endswith(type(fault).__name__) and not failure.isNonRetriable
    assert result.entityState.value == "2" and len(result.operationInfos) == 3


def test_properties_of_exceptions_are_reported() -> None:
    class Provider:
        def get_exception_properties(self, exception: Exception) -> dict[str, Any]:
            return {"code": 7}

    def failing(ctx: EntityContext, _: Any) -> None:
        raise ValueError("v")

    result = run(
        second_form([call("x")], None, "@failing@a"), failing, exception_properties_provider=Provider()
    )  # fmt: skip
    assert result.results[0].failure.failureDetails.properties["code"].number_value == 7


def test_an_unknown_entity_fails_its_operations_and_keeps_its_state() -> None:
    result = run(second_form([call("x"), signal("y")], "5", "@unknown@a"), counter)
    details = [r.failure.failureDetails for r in result.results]
    assert {d.errorType for d in details} == {"durabletask.worker.EntityNotRegisteredError"}
    assert all(d.isNonRetriable and "'unknown'" in d.errorMessage and "counter" in d.errorMessage for d in details)
    assert result.entityState.value == "5" and len(result.operationInfos) == 2


def test_a_signal_that_fails_is_logged_because_nobody_else_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER.name):
        run(second_form([call("add", '"x"'), signal("add", '"x"')]), counter)
    assert [r.getMessage() for r in caplog.records] == [
        "Operation 'add' on entity '@counter@a', which was signalled, failed"
    ]
    assert caplog.records[0].exc_info


@pytest.mark.parametrize("entity_id", ["@counter@user@example.com", "@COUNTER@a", "@counter@"])
def test_ids_that_other_sdks_make_are_served(entity_id: str) -> None:
    assert run(second_form([call("get")], "5", entity_id), counter).results[0].success.result.value == "5"


def test_what_is_no_operation_gives_the_batch_back() -> None:
    with pytest.raises(ValueError, match="entityLockRequested"):
        run(second_form([pb.HistoryEvent(entityLockRequested=pb.EntityLockRequestedEvent())]), counter)
    with pytest.raises(ValueError, match="entity id"):
        run(second_form([call("x")], None, "not an entity"), counter)


def test_messages_of_operations_are_actions_of_the_batch() -> None:
    def sender(ctx: EntityContext, number: int) -> str:
        ctx.signal_entity(ctx.entity_id, "again", number)
        return ctx.schedule_new_orchestration("order", number, f"order-{number}")

    versioning = VersioningOptions(default_version="2.0.0")
    result = run(
        second_form([call("go", "1"), call("go", "2")], None, "@sender@a"), sender, versioning=versioning
    )  # fmt: skip
    assert [a.id for a in result.actions] == [0, 1, 2, 3]
    signals = [a.sendSignal for a in result.actions if a.HasField("sendSignal")]
    assert [(s.instanceId, s.name, s.input.value) for s in signals] == [
        ("@sender@a", "again", "1"),
        ("@sender@a", "again", "2"),
    ]
    assert all(s.HasField("requestTime") and not s.HasField("scheduledTime") for s in signals)
    starts = [a.startNewOrchestration for a in result.actions if a.HasField("startNewOrchestration")]
    assert [(s.instanceId, s.name, s.input.value, s.version.value) for s in starts] == [
        ("order-1", "order", "1", "2.0.0"),
        ("order-2", "order", "2", "2.0.0"),
    ]


class TestRegistration:
    def test_names_are_returned_as_given_and_are_taken_in_any_case(self) -> None:
        """pinned 18"""
        worker = TaskHubGrpcWorker(host_address="localhost:1")
        assert worker.add_entity(counter) == "counter"
        assert worker.add_entity(counter, "Another") == "Another"
        assert worker.add_entity(type("Wallet", (DurableEntity,), {})) == "Wallet"
        for name in ("COUNTER", "another", "wallet"):
            with pytest.raises(ValueError, match="already registered"):
                worker.add_entity(counter, name)

    @pytest.mark.parametrize("name", ["", "a@b"])
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="name of an entity"):
            TaskHubGrpcWorker(host_address="localhost:1").add_entity(counter, name)

    def test_filters_list_the_names_in_lower_case(self) -> None:
        """pinned 17"""
        assert FEATURE.filter_names is not None
        registry = register(counter, type("Wallet", (DurableEntity,), {}))
        assert FEATURE.filter_names(registry) == ["counter", "wallet"]
        assert WorkItemFilters(entities=[EntityWorkItemFilter("Wallet")]).entities[0].name == "wallet"
