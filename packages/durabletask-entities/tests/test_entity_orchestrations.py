"""Entities as orchestrations use them: calls, signals, critical sections, and what replay makes of them.

Every turn runs twice, replayed from history and on the run kept from the last turn; both must agree.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from durabletask import task
from durabletask.entities import EntityInstanceId
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

A, B, C = (EntityInstanceId("Counter", key) for key in "abc")
Orchestrator = Callable[[task.OrchestrationContext, Any], Any]
Steps = Generator[task.Task[Any], Any, Any]


def text(value: str) -> StringValue:
    return StringValue(value=value)


def started(data: str = "") -> pb.HistoryEvent:
    instance = pb.OrchestrationInstance(instanceId="i", executionId=text("x"))
    return pb.HistoryEvent(
        executionStarted=pb.ExecutionStartedEvent(name="orch", input=text(data), orchestrationInstance=instance)
    )


def completed(request_id: str, output: str = "") -> pb.HistoryEvent:
    return pb.HistoryEvent(
        entityOperationCompleted=pb.EntityOperationCompletedEvent(requestId=request_id, output=text(output))
    )


def failed(request_id: str, message: str = "boom") -> pb.HistoryEvent:
    details = pb.TaskFailureDetails(errorType="builtins.ValueError", errorMessage=message, stackTrace=text("trace"))
    return pb.HistoryEvent(
        entityOperationFailed=pb.EntityOperationFailedEvent(requestId=request_id, failureDetails=details)
    )


def granted(section_id: str) -> pb.HistoryEvent:
    return pb.HistoryEvent(entityLockGranted=pb.EntityLockGrantedEvent(criticalSectionId=section_id))


def raised(name: str) -> pb.HistoryEvent:
    return pb.HistoryEvent(eventRaised=pb.EventRaisedEvent(name=name))


MESSAGES = ("entityOperationCalled", "entityOperationSignaled", "entityLockRequested", "entityUnlockSent")


def confirmation(action: pb.OrchestratorAction) -> pb.HistoryEvent | None:
    """What a commit records for an action; orchestrations of these tests have entity messages only."""
    if not action.HasField("sendEntityMessage"):
        return None
    event = pb.HistoryEvent(eventId=action.id)
    kind = action.sendEntityMessage.WhichOneof("EntityMessageType")
    assert kind is not None
    getattr(event, kind).CopyFrom(getattr(action.sendEntityMessage, kind))
    return event


class Instance:
    """One instance of an orchestrator and its history."""

    def __init__(self, orchestrator: Orchestrator, data: str = "") -> None:
        self.registry = registry_of(orchestrator)
        self.history: list[pb.HistoryEvent] = []
        self.actions: list[pb.OrchestratorAction] = []
        self._warm = OrchestrationRun("i", self.registry, RunOptions())
        self._turns = 0
        self.turn(started(data))

    def turn(self, *events: pb.HistoryEvent) -> list[pb.OrchestratorAction]:
        self._turns += 1
        start = pb.HistoryEvent(
            timestamp=Timestamp(seconds=self._turns), orchestratorStarted=pb.OrchestratorStartedEvent()
        )
        new = [start, *events]
        self.actions, self.observed = replayed(self.registry, self.history, new)
        self._warm.confirm()
        assert self._warm.advance(new).actions == self.actions
        self.history += new + [event for event in map(confirmation, self.actions) if event is not None]
        return self.actions

    def messages(self, kind: str) -> list[Any]:
        sent = [action.sendEntityMessage for action in self.actions if action.HasField("sendEntityMessage")]
        return [getattr(message, kind) for message in sent if message.HasField(kind)]  # type: ignore[arg-type]

    @property
    def request_id(self) -> str:
        """That of the only call of the last turn."""
        (called,) = self.messages("entityOperationCalled")
        return str(called.requestId)

    @property
    def section_id(self) -> str:
        """That of the only lock request of the last turn."""
        (requested,) = self.messages("entityLockRequested")
        return str(requested.criticalSectionId)

    @property
    def unlocked(self) -> list[str]:
        return [sent.targetInstanceId.value for sent in self.messages("entityUnlockSent")]

    @property
    def completion(self) -> pb.CompleteOrchestrationAction:
        (action,) = [action for action in self.actions if action.HasField("completeOrchestration")]
        assert action is self.actions[-1]
        return action.completeOrchestration

    @property
    def output(self) -> str:
        assert self.completion.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED, self.completion
        return self.completion.result.value

    @property
    def failure(self) -> pb.TaskFailureDetails:
        assert self.completion.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
        return self.completion.failureDetails


def registry_of(orchestrator: Orchestrator) -> Registry:
    registry = Registry()
    registry.add_orchestrator(orchestrator, "orch")
    return registry


def replayed(
    registry: Registry, past: list[pb.HistoryEvent], new: list[pb.HistoryEvent]
) -> tuple[list[pb.OrchestratorAction], list[str]]:
    run = OrchestrationRun("i", registry, RunOptions())
    run.replay(past)
    result = run.advance(new)
    run.close()
    return result.actions, [observation.kind for observation in result.observations]


class TestCalls:
    def test_a_call_says_who_calls_what_and_its_result_is_returned_as_the_type_asked_for(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            return type((yield ctx.call_entity(A, "get", {"x": 0}, return_type=datetime))).__name__

        instance = Instance(orch)
        (action,) = instance.actions
        assert action.id == 1
        (called,) = instance.messages("entityOperationCalled")
        assert called == pb.EntityOperationCalledEvent(
            requestId=called.requestId,
            operation="get",
            input=text('{"x": 0}'),
            targetInstanceId=text("@counter@a"),
            parentInstanceId=text("i"),
            parentExecutionId=text("x"),
        )
        instance.turn(completed(instance.request_id, '"2026-01-02T03:04:05"'))
        assert instance.output == '"datetime"'

    def test_ids_come_from_the_row_of_deterministic_uuids_in_order(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            first = ctx.new_uuid()
            ctx.signal_entity(A, "add")
            call = ctx.call_entity(A, "get")
            yield ctx.lock_entities([A])
            yield call
            return first

        instance = Instance(orch)
        space = uuid.UUID("5bf3dc27-d91d-5ea7-9c3e-9f1f2ae7c309")
        expected = [str(uuid.uuid5(space, f"i_1970-01-01T00:00:01.000000Z_{n}")) for n in range(4)]
        (signaled,) = instance.messages("entityOperationSignaled")
        assert [signaled.requestId, instance.request_id, instance.section_id] == expected[1:]
        assert [action.id for action in instance.actions] == [1, 2, 3]

    def test_no_input_is_unset_and_no_result_is_none(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            return [(yield ctx.call_entity(A, "get"))]

        instance = Instance(orch)
        assert not instance.messages("entityOperationCalled")[0].HasField("input")
        instance.turn(completed(instance.request_id))
        assert instance.output == "[null]"

    def test_a_failure_tells_of_entity_operation_and_cause(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            try:
                yield ctx.call_entity(A, "add")
            except task.TaskFailedError as error:
                inner = error.details.inner_failure
                assert inner is not None
                return [str(error), error.details.message, error.details.error_type, inner.error_type, inner.message]

        instance = Instance(orch)
        instance.turn(failed(instance.request_id))
        message = "Operation 'add' on entity '@counter@a' failed with error: boom"
        kind = "durabletask.entities.entity_operation_failed_exception.EntityOperationFailedException"
        assert instance.output == (f'["{message}", "{message}", "{kind}", "builtins.ValueError", "boom"]')

    def test_results_in_any_order_find_their_calls(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            return (yield task.when_all([ctx.call_entity(entity, "get") for entity in (A, B, C)]))

        instance = Instance(orch)
        first, second, third = (called.requestId for called in instance.messages("entityOperationCalled"))
        instance.turn(completed(third, "3"), completed(first, "1"))
        instance.turn(completed(second, "2"))
        assert instance.output == "[1, 2, 3]"

    def test_a_result_that_nobody_waits_for_is_ignored(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            return (yield ctx.call_entity(A, "get"))

        instance = Instance(orch)
        request_id = instance.request_id
        instance.turn(completed("unknown", "1"), failed("unknown"), granted("unknown"))
        assert instance.observed == ["ignored"] * 3 and instance.actions == []
        instance.turn(completed(request_id, "1"), completed(request_id, "2"))
        assert instance.output == "1"

    def test_history_decides_under_which_id_a_result_comes(self) -> None:
        """A history that another SDK began may have ids that this one would not have drawn."""

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([A])):
                return (yield ctx.call_entity(A, "get"))

        instance = Instance(orch)
        instance.history[-1].entityLockRequested.criticalSectionId = "section"
        past = [*instance.history, granted("section")]
        past.append(pb.HistoryEvent(eventId=2))
        past[-1].entityOperationCalled.CopyFrom(
            pb.EntityOperationCalledEvent(requestId="request", operation="get", targetInstanceId=text("@counter@a"))
        )
        actions, _ = replayed(instance.registry, past, [completed("request", "5")])
        assert actions[0].sendEntityMessage.entityUnlockSent.criticalSectionId == "section"
        assert actions[1].completeOrchestration.result.value == "5"

    def test_a_failure_that_comes_after_the_end_changes_nothing(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield task.when_any([ctx.call_entity(A, "get"), ctx.wait_for_external_event("enough")])

        instance = Instance(orch)
        instance.turn(raised("enough"), failed(instance.request_id))
        assert instance.output == "" and instance.observed[-1] == "ignored"

    @pytest.mark.parametrize("entity", ["@Counter@a", A])
    def test_an_entity_may_be_given_as_its_text(self, entity: Any) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield ctx.call_entity(entity, "get")

        assert Instance(orch).messages("entityOperationCalled")[0].targetInstanceId.value == "@counter@a"

    BAD: list[tuple[Any, Any, str]] = [(5, "get", "TypeError"), ("counter", "get", "ValueError"), (A, "", "ValueError")]

    @pytest.mark.parametrize(("entity", "operation", "error"), BAD)
    def test_what_names_no_entity_or_operation_is_an_error(self, entity: Any, operation: str, error: str) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield ctx.call_entity(entity, operation)

        instance = Instance(orch)
        assert instance.failure.errorType == f"builtins.{error}"
        assert [action.id for action in instance.actions] == [1]

    NAMED: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("add", 1), {}),
        (("add",), {"input": 1}),
        ((), {"operation": "add", "input": 1}),
        ((), {"operation_name": "add", "input": 1}),
    ]

    @pytest.mark.parametrize("method", ["call_entity", "signal_entity"])
    @pytest.mark.parametrize(("given", "named"), NAMED)
    def test_an_operation_may_be_given_by_either_name(
        self, method: str, given: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            getattr(ctx, method)(A, *given, **named)
            yield ctx.wait_for_external_event("enough")

        [action] = Instance(orch).actions
        kind = "entityOperationCalled" if method == "call_entity" else "entityOperationSignaled"
        sent = getattr(action.sendEntityMessage, kind)
        assert (sent.operation, sent.input.value) == ("add", "1")

    UNCLEAR: list[tuple[dict[str, Any], str]] = [
        ({}, "found neither"),
        ({"input": 1}, "found neither"),
        ({"operation": "get", "operation_name": "add"}, "found 'get' and 'add'"),
        ({"operation": "get", "operation_name": "get"}, "found 'get' and 'get'"),
    ]

    @pytest.mark.parametrize("method", ["call_entity", "signal_entity"])
    @pytest.mark.parametrize(("named", "found"), UNCLEAR)
    def test_an_operation_must_be_given_once(self, method: str, named: dict[str, Any], found: str) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield getattr(ctx, method)(A, **named)

        failure = Instance(orch).failure
        assert failure.errorType == "builtins.TypeError"
        assert failure.errorMessage == (
            f"{method}() needs the operation once, as operation or as operation_name, {found}: "
            f'write ctx.{method}(entity_id, "get")'
        )


class TestSignals:
    MOMENT = datetime(2026, 5, 6, 7, 8, 9)

    @pytest.mark.parametrize("zone", [None, timezone.utc, timezone(timedelta(hours=9))])
    def test_a_signal_may_be_delayed(self, zone: timezone | None) -> None:
        """pinned 22"""
        moment = self.MOMENT
        if zone is not None:
            moment = moment.replace(tzinfo=timezone.utc).astimezone(zone)

        def orch(ctx: task.OrchestrationContext, _: Any) -> None:
            assert ctx.signal_entity(entity_id=A, operation_name="add", input=0, signal_time=moment) is None

        (signaled,) = Instance(orch).messages("entityOperationSignaled")
        assert signaled.scheduledTime.ToDatetime() == self.MOMENT
        assert (signaled.operation, signaled.input.value, signaled.targetInstanceId.value) == ("add", "0", "@counter@a")

    def test_signals_are_sent_once_also_by_an_orchestration_that_ends_at_once(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            ctx.signal_entity(A, "add")
            yield ctx.wait_for_external_event("go")
            ctx.signal_entity(B, "add")

        instance = Instance(orch)
        assert len(instance.messages("entityOperationSignaled")) == 1
        instance.turn(raised("go"))
        assert [s.targetInstanceId.value for s in instance.messages("entityOperationSignaled")] == ["@counter@b"]
        assert instance.output == ""


class TestCriticalSections:
    def test_locks_are_asked_for_sorted_and_once_each_and_given_back_at_the_end(self) -> None:
        """backend obligations 6"""

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([C, A, C, B])):
                value = yield ctx.call_entity(B, "get")
            yield ctx.wait_for_external_event("go")
            return value

        instance = Instance(orch)
        (requested,) = instance.messages("entityLockRequested")
        assert requested == pb.EntityLockRequestedEvent(
            criticalSectionId=requested.criticalSectionId,
            lockSet=["@counter@a", "@counter@b", "@counter@c"],
            position=0,
            parentInstanceId=text("i"),
        )
        section_id = instance.section_id
        instance.turn(granted(section_id))
        instance.turn(completed(instance.request_id, "5"))
        assert [(a.id, a.sendEntityMessage.entityUnlockSent) for a in instance.actions] == [
            (
                number,
                pb.EntityUnlockSentEvent(
                    criticalSectionId=section_id, parentInstanceId=text("i"), targetInstanceId=text(f"@counter@{key}")
                ),
            )
            for number, key in zip((3, 4, 5), "abc", strict=True)
        ]
        instance.turn(raised("go"))
        assert instance.output == "5" and instance.unlocked == []

    def test_an_async_orchestrator_locks_too(self) -> None:
        async def orch(ctx: task.OrchestrationContext, _: Any) -> Any:
            with await ctx.lock_entities([A]):
                return await ctx.call_entity(A, "get")

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        instance.turn(completed(instance.request_id, "1"))
        assert instance.unlocked == ["@counter@a"] and instance.output == "1"

    def test_one_section_may_follow_another(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            for entity in (A, B, A):
                with (yield ctx.lock_entities([entity])):
                    yield ctx.call_entity(entity, "add")

        instance = Instance(orch)
        unlocked = []
        for _ in range(3):
            instance.turn(granted(instance.section_id))
            instance.turn(completed(instance.request_id))
            unlocked += instance.unlocked
        assert unlocked == ["@counter@a", "@counter@b", "@counter@a"] and instance.output == ""

    def forbidden(self, ctx: task.OrchestrationContext) -> list[Callable[[], Any]]:
        return [
            lambda: ctx.signal_entity(A, "add"),
            lambda: ctx.call_entity(C, "get"),
            lambda: ctx.call_entity(A, "get"),
            lambda: ctx.lock_entities([C]),
            lambda: ctx.lock_entities([A]),
        ]

    def test_what_could_never_end_well_is_refused(self) -> None:
        """pinned 20"""
        messages: list[str] = []

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([A, B])):
                running = ctx.call_entity(A, "get")
                messages.clear()
                for act in self.forbidden(ctx):
                    with pytest.raises(RuntimeError) as error:
                        act()
                    messages.append(str(error.value))
                ctx.signal_entity(C, "add")
                yield running
                yield ctx.call_entity(A, "get")
            return "done"

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        assert [m.partition(":")[0] for m in messages] == [
            "Must not signal a locked entity from a critical section",
            "Must not call an entity from a critical section if it is not one of the locked entities",
            "Must not call the entity '@counter@a' from a critical section while another call to it is under way",
            "Must not enter another critical section from within a critical section",
            "Must not enter another critical section from within a critical section",
        ]
        assert [action.id for action in instance.actions] == [2, 3], "what is refused takes no number"
        instance.turn(completed(instance.request_id))
        instance.turn(completed(instance.request_id))
        assert instance.output == '"done"'

    def test_a_failed_call_frees_its_entity_for_the_next(self) -> None:
        """pinned 20"""

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([A])):
                try:
                    yield ctx.call_entity(A, "add")
                except task.TaskFailedError:
                    return (yield ctx.call_entity(A, "get"))

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        instance.turn(failed(instance.request_id))
        instance.turn(completed(instance.request_id, "4"))
        assert instance.output == "4" and instance.unlocked == ["@counter@a"]

    def test_no_entities_cannot_be_locked(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield ctx.lock_entities([])

        assert Instance(orch).failure.errorType == "builtins.RuntimeError"

    def returns(self, ctx: task.OrchestrationContext) -> None: ...

    def raises(self, ctx: task.OrchestrationContext) -> None:
        raise ValueError("v")

    def continues(self, ctx: task.OrchestrationContext) -> None:
        ctx.continue_as_new(1)

    def exits(self, ctx: task.OrchestrationContext) -> None:
        raise SystemExit(1)

    def awaits_nonsense(self, ctx: task.OrchestrationContext) -> str:
        return "not a task"

    def cannot_be_encoded(self, ctx: task.OrchestrationContext) -> None:
        ctx.set_custom_status(object())

    ENDS = [returns, raises, continues, exits, awaits_nonsense, cannot_be_encoded]

    @pytest.mark.parametrize("in_with", [True, False])
    @pytest.mark.parametrize("end", ENDS, ids=[end.__name__ for end in ENDS])
    def test_locks_are_given_back_however_the_orchestration_ends(self, end: Any, in_with: bool) -> None:
        """pinned 20, lesson 62"""

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            lock = yield ctx.lock_entities([A, B])
            ctx.call_entity(A, "get")
            if in_with:
                with lock:
                    wrong = end(self, ctx)
                    if wrong:
                        yield wrong
            else:
                wrong = end(self, ctx)
                if wrong:
                    yield wrong

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        assert instance.unlocked == ["@counter@a", "@counter@b"]
        assert instance.completion.orchestrationStatus != pb.ORCHESTRATION_STATUS_RUNNING
        assert len({action.id for action in instance.actions}) == len(instance.actions)

    def test_a_terminated_orchestration_gives_its_locks_back(self) -> None:
        """lesson 62"""

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([A])):
                yield ctx.wait_for_external_event("never")

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        instance.turn(pb.HistoryEvent(executionTerminated=pb.ExecutionTerminatedEvent()))
        assert instance.unlocked == ["@counter@a"]
        assert instance.completion.orchestrationStatus == pb.ORCHESTRATION_STATUS_TERMINATED

    def test_leaving_with_a_call_that_nobody_awaited_leaks_no_lock(self) -> None:
        """section 22, quirk 5"""

        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([A, B])):
                ctx.call_entity(A, "add")
            with (yield ctx.lock_entities([A])):
                yield ctx.call_entity(A, "get")

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        assert instance.unlocked == ["@counter@a", "@counter@b"]
        late = instance.request_id
        instance.turn(granted(instance.section_id))
        request_id = instance.request_id
        instance.turn(completed(late), completed(request_id, "1"))
        assert instance.unlocked == ["@counter@a"] and instance.output == ""

    def test_locks_that_were_asked_for_and_not_granted_are_given_back_too(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield task.when_any([ctx.lock_entities([A, B]), ctx.wait_for_external_event("give up")])

        instance = Instance(orch)
        section_id = instance.section_id
        instance.turn(raised("give up"), granted(section_id))
        assert instance.unlocked == ["@counter@a", "@counter@b"] and instance.output == ""

    def test_a_lock_ends_its_own_section_only(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            first = yield ctx.lock_entities([A])
            with first:
                pass
            with (yield ctx.lock_entities([B])):
                first.__exit__()
                yield ctx.call_entity(B, "get")

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        instance.turn(granted(instance.section_id))
        assert instance.unlocked == []

    def test_unlocks_of_another_order_are_recognised(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            with (yield ctx.lock_entities([A, B])):
                pass
            yield ctx.wait_for_external_event("go")

        instance = Instance(orch)
        instance.turn(granted(instance.section_id))
        first, second = instance.history[-2:]
        first.eventId, second.eventId = second.eventId, first.eventId
        instance.turn(raised("go"))
        assert instance.output == "" and instance.unlocked == []


class TestDeterminism:
    def calls(self, ctx: task.OrchestrationContext) -> Any:
        return ctx.call_entity(A, "add")

    def calls_another_operation(self, ctx: task.OrchestrationContext) -> Any:
        return ctx.call_entity(A, "remove")

    def calls_another_entity(self, ctx: task.OrchestrationContext) -> Any:
        return ctx.call_entity(B, "add")

    def signals(self, ctx: task.OrchestrationContext) -> Any:
        ctx.signal_entity(A, "add")
        return ctx.wait_for_external_event("never")

    def signals_another_entity(self, ctx: task.OrchestrationContext) -> Any:
        ctx.signal_entity(B, "add")
        return ctx.wait_for_external_event("never")

    def locks(self, ctx: task.OrchestrationContext) -> Any:
        return ctx.lock_entities([A, B])

    def locks_fewer(self, ctx: task.OrchestrationContext) -> Any:
        return ctx.lock_entities([A])

    def waits(self, ctx: task.OrchestrationContext) -> Any:
        return ctx.wait_for_external_event("never")

    CHANGES = [
        (calls, calls_another_operation, ["#1", "call_entity('add') to '@counter@a'", "call_entity('remove')"]),
        (calls, calls_another_entity, ["#1", "'@counter@a'", "'@counter@b'"]),
        (calls, signals, ["#1", "call_entity('add')", "signal_entity('add')"]),
        (signals, signals_another_entity, ["#1", "signal_entity('add') to '@counter@a'", "'@counter@b'"]),
        (signals, waits, ["#1", "signal_entity('add') to '@counter@a'"]),
        (locks, locks_fewer, ["#1", "lock_entities('@counter@a, @counter@b')", "lock_entities('@counter@a')"]),
        (locks, waits, ["#1", "lock_entities('@counter@a, @counter@b')"]),
        (calls, waits, ["#1", "call_entity('add') to '@counter@a'"]),
    ]

    def one_step(self, step: Any) -> Orchestrator:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            yield step(self, ctx)

        return orch

    @pytest.mark.parametrize(("old", "new", "named"), CHANGES)
    def test_a_changed_call_is_named(self, old: Any, new: Any, named: list[str]) -> None:
        """pinned 12"""
        instance = Instance(self.one_step(old))
        instance.registry = registry_of(self.one_step(new))
        actions, _ = replayed(instance.registry, instance.history, [raised("x")])
        failure = actions[-1].completeOrchestration.failureDetails
        assert failure.errorType == "durabletask.task.NonDeterminismError"
        assert all(part in failure.errorMessage for part in named), failure.errorMessage

    def held(self, ctx: task.OrchestrationContext) -> Steps:
        with (yield ctx.lock_entities([A, B])):
            yield ctx.call_entity(A, "add")
            yield ctx.call_entity(B, "add")

    def held_differently(self, ctx: task.OrchestrationContext) -> Steps:
        with (yield ctx.lock_entities([A, B])):
            yield ctx.call_entity(B, "add")

    def ends_early(self, ctx: task.OrchestrationContext) -> Steps:
        with (yield ctx.lock_entities([A, B])):
            pass

    def does_not_lock(self, ctx: task.OrchestrationContext) -> Steps:
        yield ctx.wait_for_external_event("go")

    @pytest.mark.parametrize("changed", [held_differently, ends_early, does_not_lock])
    def test_locks_that_history_holds_are_given_back_when_the_code_no_longer_fits(self, changed: Any) -> None:
        """lesson 62"""

        def orch(step: Any) -> Orchestrator:
            return lambda ctx, _: step(self, ctx)

        instance = Instance(orch(TestDeterminism.held))
        section_id = instance.section_id
        instance.turn(granted(section_id))
        instance.turn(completed(instance.request_id))
        actions, _ = replayed(registry_of(orch(changed)), instance.history, [completed(instance.request_id)])
        unlocks = [a.sendEntityMessage.entityUnlockSent for a in actions[:-1]]
        assert [(u.criticalSectionId, u.targetInstanceId.value) for u in unlocks] == [
            (section_id, "@counter@a"),
            (section_id, "@counter@b"),
        ]
        assert actions[-1].completeOrchestration.failureDetails.errorType.endswith("NonDeterminismError")

    def test_locks_that_history_has_given_back_are_not_given_back_again(self) -> None:
        def orch(ctx: task.OrchestrationContext, step: str) -> Steps:
            with (yield ctx.lock_entities([A])):
                pass
            yield ctx.call_entity(B, step)

        instance = Instance(orch, '"old"')
        instance.turn(granted(instance.section_id))
        instance.history[1].executionStarted.input.value = '"new"'
        actions, _ = replayed(instance.registry, instance.history, [raised("x")])
        (action,) = actions
        assert action.completeOrchestration.failureDetails.errorType.endswith("NonDeterminismError")

    def test_a_warm_run_gives_back_only_what_it_still_holds(self) -> None:
        def orch(ctx: task.OrchestrationContext, _: Any) -> Steps:
            for entity in (A, B):
                with (yield ctx.lock_entities([entity])):
                    yield ctx.wait_for_external_event("go")

        def request_of(actions: list[pb.OrchestratorAction]) -> str:
            return actions[-1].sendEntityMessage.entityLockRequested.criticalSectionId

        run = OrchestrationRun("i", registry_of(orch), RunOptions())
        section_id = request_of(run.advance([started()]).actions)
        run.confirm()
        run.advance([granted(section_id)])
        run.confirm()
        section_id = request_of(run.advance([raised("go")]).actions)
        run.confirm()
        run.advance([granted(section_id)])
        run.confirm()
        unknown = pb.HistoryEvent()
        *unlocks, completion = run.advance([unknown]).actions
        assert [a.sendEntityMessage.entityUnlockSent.targetInstanceId.value for a in unlocks] == ["@counter@b"]
        assert completion.completeOrchestration.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
