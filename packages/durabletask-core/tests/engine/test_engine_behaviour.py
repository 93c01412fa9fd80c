"""One turn after another: what the engine decides for given histories."""

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from durabletask import task
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions, VersionRejected
from durabletask.versioning import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import Backend, event, run_cold, started, turn_start
from google.protobuf.timestamp_pb2 import Timestamp

FAILED = pb.ORCHESTRATION_STATUS_FAILED
COMPLETED = pb.ORCHESTRATION_STATUS_COMPLETED


def backend_of(orchestrator, **options):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    return Backend(registry, RunOptions(**options))


def completed_with(backend):
    assert backend.status == COMPLETED, backend.completion
    return backend.completion.result.value if backend.completion.HasField("result") else None


class TestDriver:
    def test_a_generator_and_a_coroutine_make_the_same_actions(self):
        def generator(ctx, n):
            return (yield ctx.call_activity("a", input=n)) + 1

        async def coroutine(ctx, n):
            return await ctx.call_activity("a", input=n) + 1

        for orchestrator in (generator, coroutine):
            backend = backend_of(orchestrator)
            backend.start("4")
            assert [a.scheduleTask.input.value for a in backend.last.actions] == ["4"]
            backend.complete_task(1, "5")
            assert completed_with(backend) == "6"

    def test_a_plain_function_completes_at_once(self):
        backend = backend_of(lambda ctx, n: {"n": n})
        backend.start("1")
        assert completed_with(backend) == '{"n": 1}'

    def test_none_is_an_absent_output(self):
        backend = backend_of(lambda ctx, n: None)
        backend.start()
        assert completed_with(backend) is None

    @pytest.mark.parametrize("value", ["0", '""', "[]", "{}", "false"])
    def test_falsy_values_survive_as_input_result_and_output(self, value):
        """lesson 8"""

        def echo(ctx, given):
            result = yield ctx.call_activity("a", input=given)
            return result

        backend = backend_of(echo)
        backend.start(value)
        assert backend.last.actions[0].scheduleTask.input.value == value
        backend.complete_task(1, value)
        assert completed_with(backend) == value

    def test_an_exception_that_takes_no_attributes_fails_the_orchestration(self):
        """lesson 32"""

        @dataclass(frozen=True)
        class Frozen(Exception):
            code: int

        def orchestrator(ctx, _):
            yield ctx.create_timer(timedelta(0))
            raise Frozen(7)

        backend = backend_of(orchestrator)
        backend.start()
        backend.fire_timer(1)
        assert backend.status == FAILED
        assert backend.completion.failureDetails.errorType.endswith("Frozen")

    @pytest.mark.parametrize("first", [True, False])
    def test_awaiting_what_is_no_task_fails_with_a_type_error_naming_it(self, first):
        """R14, lesson 3"""

        def orchestrator(ctx, _):
            if not first:
                yield ctx.create_timer(timedelta(0))
            yield "not a task"

        backend = backend_of(orchestrator)
        backend.start()
        if not first:
            backend.fire_timer(1)
        failure = backend.completion.failureDetails
        assert backend.status == FAILED
        assert failure.errorType == "builtins.TypeError"
        assert "not a task" in failure.errorMessage and "str" in failure.errorMessage
        assert "test_engine_behaviour.py:" in failure.errorMessage

    def test_a_coroutine_awaiting_something_foreign_fails(self):
        class Foreign:
            def __await__(self):
                yield 7

        async def orchestrator(ctx, _):
            await Foreign()

        backend = backend_of(orchestrator)
        backend.start()
        assert backend.completion.failureDetails.errorType == "builtins.TypeError"

    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
    def test_whatever_user_code_raises_fails_the_orchestration(self, error):
        """Lesson 37"""

        def orchestrator(ctx, _):
            raise type(error)(*error.args)

        backend = backend_of(orchestrator)
        backend.start()
        failure = backend.completion.failureDetails
        assert failure.errorType == f"builtins.{type(error).__name__}"
        assert failure.errorMessage == str(error)
        assert "orchestrator" in failure.stackTrace.value

    def test_a_result_that_cannot_be_encoded_fails(self):
        """Pinned 4"""
        backend = backend_of(lambda ctx, _: {"a": range(3)})
        backend.start()
        expected = "durabletask.internal.json_encode_output_exception.JsonEncodeOutputException"
        assert backend.completion.failureDetails.errorType == expected

    def test_an_unknown_orchestrator_fails_as_not_registered(self):
        """Pinned 4"""
        backend = Backend(Registry(), RunOptions())
        backend.start()
        assert backend.completion.failureDetails.errorType == "durabletask.worker.OrchestratorNotRegisteredError"

    def test_a_turn_without_events_is_a_state_error(self):
        backend = backend_of(lambda ctx, _: None)
        result = run_cold(backend, [], [])
        assert result.actions[0].completeOrchestration.failureDetails.errorType.endswith("OrchestrationStateError")

    def test_a_second_execution_started_does_not_run_the_code_again(self):
        """R27, lesson 26"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a")

        backend = backend_of(orchestrator)
        result = run_cold(backend, [], [turn_start(1), started(None), started(None)])
        assert [a.id for a in result.actions] == [1]
        assert any(o.kind == "ignored" for o in result.observations)

    @pytest.mark.parametrize(
        ("observes", "kinds"), [(True, ["started", "completed", "finished", "warning"]), (False, ["warning"])]
    )
    def test_a_run_that_nobody_observes_notes_warnings_only(self, observes, kinds):
        def orchestrator(ctx, _):
            yield ctx.call_activity("a")
            ctx.continue_as_new(None)
            raise RuntimeError("after the end")

        registry = Registry()
        registry.add_orchestrator(orchestrator, name="orch")
        run = OrchestrationRun("i", registry, RunOptions(), observes=observes)
        done = event("taskCompleted", taskScheduledId=1)

        noted = [*run.advance([turn_start(1), started(None)]).observations]
        noted += run.advance([turn_start(2), done]).observations

        assert [observation.kind for observation in noted] == kinds

    def test_close_returns_what_the_clean_up_raised(self):
        def orchestrator(ctx, _):
            try:
                yield ctx.create_timer(timedelta(1))
            finally:
                raise RuntimeError("in clean-up")

        registry = Registry()
        registry.add_orchestrator(orchestrator, name="orch")
        run = OrchestrationRun("i", registry, RunOptions())
        run.advance([turn_start(1), started(None)])
        assert isinstance(run.close(), RuntimeError)
        assert run.close() is None


class TestActivities:
    def test_failure_texts(self):
        """pinned 2 and 4"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a")

        backend = backend_of(orchestrator)
        backend.start()
        backend.fail_task(1, "Kah-BOOOOM!!!")
        failure = backend.completion.failureDetails
        assert failure.errorMessage.endswith("Activity task #1 failed: Kah-BOOOOM!!!")
        assert failure.errorType == "durabletask.task.TaskFailedError"
        assert failure.innerFailure.errorType == "builtins.ValueError"
        assert failure.HasField("stackTrace")

    def test_a_result_nobody_waits_for_is_ignored(self):
        """lesson 27"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a")

        backend = backend_of(orchestrator)
        backend.start()
        backend.complete_task(99, "1")
        assert not backend.is_complete
        assert [o.kind for o in backend.last.observations] == ["ignored"]
        backend.complete_task(1, "1")
        backend_completed = backend.status
        assert backend_completed == COMPLETED

    def test_the_version_of_the_instance_reaches_an_activity_registered_under_it(self):
        def quote(ctx, _):
            return None

        def orchestrator(ctx, _):
            yield ctx.call_activity("quote")

        registry = Registry()
        registry.add_orchestrator(orchestrator, name="orch")
        registry.add_activity(quote, version="2.0")
        for version, expected in (("2.0", "2.0"), ("1.0", "")):
            backend = Backend(registry, RunOptions())
            backend.start(version=version)
            assert backend.last.actions[0].scheduleTask.version.value == expected

    def test_a_function_is_called_by_the_name_it_is_registered_under(self):
        def quote(ctx, _):
            return None

        def orchestrator(ctx, _):
            yield ctx.call_activity(quote)

        registry = Registry()
        registry.add_orchestrator(orchestrator, name="orch")
        registry.add_activity(quote, name="other")
        backend = Backend(registry, RunOptions())
        backend.start()
        assert backend.last.actions[0].scheduleTask.name == "other"


class TestRetries:
    POLICY = task.RetryPolicy(
        first_retry_interval=timedelta(seconds=1),
        max_number_of_attempts=5,
        backoff_coefficient=2,
        retry_timeout=timedelta(seconds=14),
    )

    def orchestrator(self, ctx, _):
        yield ctx.call_activity("a", retry_policy=self.POLICY, tags={"k": "v"})

    def test_every_attempt_has_the_same_id_and_every_delay_a_new_one(self):
        """pinned 3"""
        backend = backend_of(self.orchestrator)
        backend.start()
        ids = []
        for timer in (2, 3, 4):
            backend.fail_task(1, "no")
            ids.append([a.id for a in backend.last.actions])
            backend.fire_timer(timer)
            assert [(a.id, a.scheduleTask.tags["k"]) for a in backend.last.actions] == [(1, "v")]
        assert ids == [[2], [3], [4]]

    def test_a_timeout_of_14_seconds_allows_four_attempts(self):
        """pinned 2; R11 and lesson 5: decided on the orchestration's own time"""
        backend = backend_of(self.orchestrator)
        backend.start()
        attempts = 1
        timer = 2
        while True:
            backend.fail_task(1, "no")
            if backend.is_complete:
                break
            backend.fire_timer(timer, at_its_time=True)
            timer += 1
            attempts += 1
        assert attempts == 4

    def test_a_retry_decided_in_the_past_is_decided_alike_a_day_later(self):
        """R11, lesson 5"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a", retry_policy=self.POLICY)
            yield ctx.wait_for_external_event("approval")
            return "approved"

        backend = backend_of(orchestrator)
        backend.start()
        backend.fail_task(1, "no")
        backend.fire_timer(2)
        backend.complete_task(1, "1")
        backend.clock += 86_400
        backend.raise_event("approval")
        assert completed_with(backend) == '"approved"'

    def test_a_retried_child_keeps_its_version_and_its_absent_input(self):
        """Quirks of 1.12 that are not copied."""

        def orchestrator(ctx, _):
            yield ctx.call_sub_orchestrator("child", version="1.5", retry_policy=self.POLICY)

        backend = backend_of(orchestrator)
        backend.start()
        first = backend.last.actions[0]
        backend.fail_child(1, "no")
        backend.fire_timer(2)
        assert backend.last.actions == [first]
        assert not first.createSubOrchestration.HasField("input")


class TestTimers:
    def orchestrator(self, ctx, _):
        yield ctx.create_timer(timedelta(seconds=5))
        return "rang"

    def test_a_long_timer_is_set_in_pieces(self):
        """pinned 7"""
        backend = backend_of(self.orchestrator, maximum_timer_interval=timedelta(seconds=2))
        backend.start()
        turns = 1
        while not backend.is_complete:
            assert [a.id for a in backend.last.actions] == [turns]
            backend.fire_timer(turns)
            turns += 1
        assert turns == 4

    def test_no_maximum_leaves_it_whole(self):
        backend = backend_of(self.orchestrator)
        backend.start()
        backend.fire_timer(1)
        assert completed_with(backend) == '"rang"'

    def test_an_aware_time_is_converted_to_utc(self):
        def orchestrator(ctx, _):
            zone = timezone(timedelta(hours=2))
            yield ctx.create_timer(datetime(2030, 1, 1, 2, 0, 0, 5, tzinfo=zone))

        backend = backend_of(orchestrator)
        backend.start()
        fire_at = backend.last.actions[0].createTimer.fireAt
        assert fire_at.ToDatetime() == datetime(2030, 1, 1, 0, 0, 0, 5)

    def test_a_duration_beyond_the_calendar_ends_with_it(self):
        def orchestrator(ctx, _):
            yield ctx.create_timer(timedelta.max)

        backend = backend_of(orchestrator)
        backend.start()
        assert backend.last.actions[0].createTimer.fireAt.ToDatetime() == datetime.max

    def test_the_loser_of_a_race_can_be_cancelled_and_may_still_fire(self):
        """pinned 7"""

        def orchestrator(ctx, _):
            timer = ctx.create_timer(timedelta(hours=1))
            approval = ctx.wait_for_external_event("approval")
            winner = yield task.when_any([timer, approval])
            assert winner == approval and timer.cancel() and not timer.cancel()
            yield ctx.call_activity("a")
            return timer.is_cancelled

        backend = backend_of(orchestrator)
        backend.start()
        backend.raise_event("approval")
        backend.fire_timer(1)
        backend.complete_task(2)
        assert completed_with(backend) == "true"

    def test_a_timer_cancelled_in_its_own_turn_is_never_sent(self):
        def orchestrator(ctx, _):
            ctx.create_timer(timedelta(1)).cancel()
            yield ctx.call_activity("a")

        backend = backend_of(orchestrator)
        backend.start()
        assert [a.id for a in backend.last.actions] == [2]


class TestEvents:
    def test_names_ignore_case_and_events_are_first_in_first_out(self):
        """pinned 8, lesson 28"""

        def orchestrator(ctx, _):
            a = yield ctx.wait_for_external_event("EVENT")
            yield ctx.create_timer(timedelta(1))
            b = yield ctx.wait_for_external_event("event")
            c = yield ctx.wait_for_external_event("Event")
            return [a, b, c]

        backend = backend_of(orchestrator)
        backend.start()
        for data in ("1", "2", None):
            backend.raise_event("eVent", data)
        backend.fire_timer(1)
        assert completed_with(backend) == "[1, 2, null]"

    def test_a_cancelled_wait_does_not_swallow_the_next_event(self):
        """pinned 7"""

        def orchestrator(ctx, _):
            ctx.wait_for_external_event("e").cancel()
            return (yield ctx.wait_for_external_event("e"))

        backend = backend_of(orchestrator)
        backend.start()
        backend.raise_event("e", "5")
        assert completed_with(backend) == "5"

    def test_data_type_applies_to_buffered_events(self):
        def orchestrator(ctx, _):
            yield ctx.create_timer(timedelta(1))
            return (yield ctx.wait_for_external_event("e", data_type=datetime)).year

        backend = backend_of(orchestrator)
        backend.start()
        backend.raise_event("e", '"2031-01-01T00:00:00"')
        backend.fire_timer(1)
        assert completed_with(backend) == "2031"

    @pytest.mark.parametrize(("target", "name"), [("", "e"), (" ", "e"), ("@entity@k", "e"), ("x", " ")])
    def test_send_event_refuses_blank_names_and_entities(self, target, name):
        def orchestrator(ctx, _):
            ctx.send_event(target, name)

        backend = backend_of(orchestrator)
        backend.start()
        assert backend.completion.failureDetails.errorType == "builtins.ValueError"

    def test_send_event_is_fire_and_forget(self):
        def orchestrator(ctx, _):
            ctx.send_event("other", "go", data=[1])
            return "sent"

        backend = backend_of(orchestrator)
        backend.start()
        sent = backend.last.actions[0].sendEvent
        assert (sent.instance.instanceId, sent.name, sent.data.value) == ("other", "go", "[1]")
        assert completed_with(backend) == '"sent"'


class TestComposites:
    def test_when_all_of_nothing_completes_and_when_any_of_nothing_is_refused(self):
        """R15, lesson 4"""

        def everything(ctx, _):
            return (yield task.when_all([]))

        def anything(ctx, _):
            yield task.when_any([])

        backend = backend_of(everything)
        backend.start()
        assert completed_with(backend) == "[]"
        backend = backend_of(anything)
        backend.start()
        assert backend.completion.failureDetails.errorType == "builtins.ValueError"

    def test_when_all_waits_for_all_and_keeps_the_order_of_its_input(self):
        def orchestrator(ctx, n):
            return (yield task.when_all([ctx.call_activity("a") for _ in range(n)]))

        backend = backend_of(orchestrator)
        backend.start("3")
        for task_id in (3, 1, 2):
            assert not backend.is_complete
            backend.complete_task(task_id, str(task_id))
        assert completed_with(backend) == "[1, 2, 3]"

    def test_a_task_may_be_shared_by_groups(self):
        """lesson 21"""

        def orchestrator(ctx, _):
            shared = ctx.call_activity("a")
            first = yield task.when_any([shared, task.when_all([shared, shared])])
            both = yield task.when_all([shared, shared])
            return [first is shared, both]

        backend = backend_of(orchestrator)
        backend.start()
        backend.complete_task(1, "7")
        assert completed_with(backend) == "[true, [7, 7]]"


class TestLifeCycle:
    def test_continue_as_new_hands_over_what_nobody_waited_for_in_order(self):
        """pinned 6, lesson 16"""

        def orchestrator(ctx, n):
            yield ctx.wait_for_external_event("go")
            ctx.send_event("other", "note")
            ctx.continue_as_new(n + 1, save_events=True, new_version="2.0")
            return "ignored"

        backend = backend_of(orchestrator)
        backend.start("1")
        backend.turn([event("eventRaised", name=n) for n in ("Go", "b", "GO", "a")])
        done = backend.completion
        assert done.orchestrationStatus == pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW
        assert (done.result.value, done.newVersion.value) == ("2", "2.0")
        assert [e.eventRaised.name for e in done.carryoverEvents] == ["b", "GO", "a"]
        assert [a.id for a in backend.last.actions] == [1, 2]

    def test_of_two_continue_as_new_the_first_counts_and_events_are_dropped_by_default(self):
        def orchestrator(ctx, n):
            ctx.continue_as_new(1)
            ctx.continue_as_new(2)

        backend = backend_of(orchestrator)
        backend.start(before=[event("eventRaised", name="x")])
        assert backend.completion.result.value == "1"
        assert not backend.completion.carryoverEvents

    def test_suspension_holds_events_back_and_freezes_time(self):
        """pinned 9; lessons 24 and 25"""

        def orchestrator(ctx, _):
            yield ctx.wait_for_external_event("e")
            return str(ctx.current_utc_datetime)

        backend = backend_of(orchestrator)
        backend.start()
        for _ in range(2):
            backend.turn([pb.HistoryEvent(eventId=-1, executionSuspended=pb.ExecutionSuspendedEvent())])
            assert backend.last.actions == []
        backend.raise_event("e")
        held_at = backend.clock
        backend.clock += 100
        assert not backend.is_complete
        backend.turn([pb.HistoryEvent(eventId=-1, executionResumed=pb.ExecutionResumedEvent())])
        assert completed_with(backend) == f'"{Timestamp(seconds=held_at).ToDatetime()}"'

    def test_a_suspended_instance_does_not_send_confirmed_actions_again(self):
        """lesson 24"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a")

        backend = backend_of(orchestrator)
        backend.start(after=[pb.HistoryEvent(eventId=-1, executionSuspended=pb.ExecutionSuspendedEvent())])
        assert len(backend.last.actions) == 1
        result = run_cold(backend, backend.history, [turn_start(9), event("eventRaised", name="x")])
        assert result.actions == []

    @pytest.mark.parametrize("suspended", [True, False])
    def test_termination_completes_with_the_output_as_given(self, suspended):
        def orchestrator(ctx, _):
            yield ctx.wait_for_external_event("never")

        backend = backend_of(orchestrator)
        backend.start()
        if suspended:
            backend.turn([pb.HistoryEvent(eventId=-1, executionSuspended=pb.ExecutionSuspendedEvent())])
        terminated = pb.HistoryEvent(eventId=-1)
        terminated.executionTerminated.input.value = '{"why":1}'
        backend.turn([terminated])
        assert backend.status == pb.ORCHESTRATION_STATUS_TERMINATED
        assert backend.completion.result.value == '{"why":1}'

    def test_custom_status_stays_until_it_is_cleared(self):
        """lesson 19"""

        def orchestrator(ctx, _):
            ctx.set_custom_status({"a": 1})
            yield ctx.call_activity("a")
            yield ctx.call_activity("a")
            ctx.set_custom_status(None)

        backend = backend_of(orchestrator)
        backend.start()
        assert backend.last.custom_status == '{"a": 1}'
        backend.complete_task(1)
        assert backend.last.custom_status == '{"a": 1}'
        backend.complete_task(2)
        assert backend.last.custom_status is None

    def test_identity_of_the_instance(self):
        """pinned 13, lesson 10"""

        def orchestrator(ctx, _):
            return [ctx.instance_id, ctx.parent_instance_id, ctx.version]

        backend = backend_of(orchestrator)
        backend.start()
        assert completed_with(backend) == '["instance", null, null]'

    def test_children(self):
        def orchestrator(ctx, _):
            for version in (None, "default", "inherit", "9"):
                ctx.call_sub_orchestrator("child", version=version)
            yield ctx.call_sub_orchestrator("child", instance_id="own")

        backend = backend_of(orchestrator, versioning=VersioningOptions(default_version="5"))
        backend.start(version="3")
        children = [a.createSubOrchestration for a in backend.last.actions]
        assert [c.version.value for c in children] == ["5", "5", "3", "9", "5"]
        assert [c.instanceId for c in children] == [f"instance:{n:04x}" for n in (1, 2, 3, 4)] + ["own"]
        backend.fail_child(5, "no")
        assert backend.completion.failureDetails.errorMessage == "Sub-orchestration task #5 failed: no"

    def test_the_trace_context_of_the_start_is_on_the_actions(self):
        def orchestrator(ctx, _):
            yield ctx.call_activity("a")

        first = started(None)
        first.executionStarted.parentTraceContext.traceParent = "00-aa-bb-01"
        result = run_cold(backend_of(orchestrator), [], [turn_start(1), first])
        assert result.actions[0].scheduleTask.parentTraceContext.traceParent == "00-aa-bb-01"

    def test_uuids_are_those_of_every_sdk_of_the_protocol(self):
        """pinned 11"""

        def orchestrator(ctx, _):
            first = [ctx.new_uuid(), ctx.new_uuid()]
            yield ctx.create_timer(timedelta(1))
            return [*first, ctx.new_uuid()]

        registry = Registry()
        registry.add_orchestrator(orchestrator, name="orch")
        run = OrchestrationRun("abc123", registry, RunOptions())
        start = turn_start(0)
        start.timestamp.FromJsonString("2026-01-02T03:04:05.678901Z")
        run.advance([start, started(None)])
        run.confirm()
        fired = pb.HistoryEvent(eventId=-1, timerFired=pb.TimerFiredEvent(timerId=1))
        completion = run.advance([start, fired]).actions[0].completeOrchestration
        assert not completion.failureDetails.errorMessage
        result = completion.result.value
        assert "2e5ad7d4-7cde-5868-a3c7-2c521bee8863" in result
        assert "2f4d7561-8dfd-51f8-b380-b3e421d11d96" in result
        assert len({uuid.UUID(u.strip('" ')) for u in result.strip("[]").split(",")}) == 3

    def test_a_replay_safe_logger_is_silent_while_replaying(self, caplog):
        """pinned 14"""

        def orchestrator(ctx, _):
            logger = ctx.create_replay_safe_logger(logging.getLogger("mine"))
            logger.info("one")
            yield ctx.call_activity("a")
            logger.log(logging.WARNING, "two")

        backend = backend_of(orchestrator)
        backend.start()
        result = [event("taskCompleted", taskScheduledId=1)]
        with caplog.at_level(logging.INFO, logger="mine"):
            run_cold(backend, [], backend.history[:2])
            run_cold(backend, backend.history, [turn_start(9), *result])
        assert caplog.messages == ["one", "two"]

    def test_entities_need_their_package(self):
        def orchestrator(ctx, _):
            yield ctx.call_entity("e", "op")

        backend = backend_of(orchestrator, features={})
        backend.start()
        assert "pip install durabletask-entities" in backend.completion.failureDetails.errorMessage


class TestVersions:
    CASES = [
        (VersioningOptions(default_version="1"), "2", None),
        (VersioningOptions("1.0", match_strategy=VersionMatchStrategy.STRICT), "1.0.0", None),
        (VersioningOptions("1.0", match_strategy=VersionMatchStrategy.STRICT), "2", "reject"),
        (
            VersioningOptions("1", None, VersionMatchStrategy.STRICT, VersionFailureStrategy.FAIL),
            "2",
            "does not match the worker version",
        ),
        (
            VersioningOptions("1", None, VersionMatchStrategy.CURRENT_OR_OLDER, VersionFailureStrategy.FAIL),
            "2",
            "is greater than the worker version",
        ),
        (
            VersioningOptions("1", None, VersionMatchStrategy.CURRENT_OR_OLDER, VersionFailureStrategy.FAIL),
            None,
            None,
        ),
    ]

    @pytest.mark.parametrize(("versioning", "version", "outcome"), CASES)
    def test_the_strategies(self, versioning, version, outcome):
        """R1, R2, pinned 16, lesson 11"""
        backend = backend_of(lambda ctx, _: "ran", versioning=versioning)
        if outcome == "reject":
            with pytest.raises(VersionRejected):
                backend.start(version=version)
            return
        backend.start(version=version)
        if outcome is None:
            assert completed_with(backend) == '"ran"'
        else:
            failure = backend.completion.failureDetails
            assert failure.errorType == "VersionMismatch" and failure.isNonRetriable
            assert outcome in failure.errorMessage

    def test_a_rejected_instance_can_still_be_terminated(self):
        versioning = VersioningOptions("1", match_strategy=VersionMatchStrategy.STRICT)
        backend = backend_of(lambda ctx, _: "ran", versioning=versioning)
        terminated = pb.HistoryEvent(eventId=-1, executionTerminated=pb.ExecutionTerminatedEvent())
        backend.start(version="2", after=[terminated])
        assert backend.status == pb.ORCHESTRATION_STATUS_TERMINATED

    def test_implementations_side_by_side(self):
        registry = Registry()
        registry.add_orchestrator(lambda ctx, _: "one", name="orch", version="1")
        registry.add_orchestrator(lambda ctx, _: "two", name="orch", version="2")
        for version, expected in (("1", '"one"'), ("2", '"two"')):
            backend = Backend(registry, RunOptions())
            backend.start(version=version)
            assert completed_with(backend) == expected
        with pytest.raises(VersionRejected, match="'1', '2'"):
            Backend(registry, RunOptions()).start(version="3")

    def test_version_at_least_treats_an_unversioned_instance_as_oldest(self):
        """R13, lesson 14"""
        for version, expected in ((None, "false"), ("1.9.0", "false"), ("1.10.0", "true")):
            backend = backend_of(lambda ctx, _: ctx.version_at_least("1.10"))
            backend.start(version=version)
            assert completed_with(backend) == expected

    def test_the_version_of_an_instance_is_compared_as_a_version(self):
        """R13, lesson 14"""
        for version, expected in ((None, "[true, false]"), ("1.9.0", "[true, false]"), ("1.10.0", "[false, true]")):
            backend = backend_of(lambda ctx, _: [ctx.version_info < "1.10.0", ctx.version_info == "1.10"])
            backend.start(version=version)
            assert completed_with(backend) == expected
