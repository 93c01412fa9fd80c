"""Histories that made orchestrations hang, forget or lie elsewhere."""

from datetime import datetime, timedelta

import pytest
from durabletask import task
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask.serialization import JsonDataConverter
from durabletask.versioning import VersioningOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import Backend, event, failed, run_cold, started, turn_start

FAILED = pb.ORCHESTRATION_STATUS_FAILED
COMPLETED = pb.ORCHESTRATION_STATUS_COMPLETED
CONTINUED = pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW


def backend_of(orchestrator, **options):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    return Backend(registry, RunOptions(**options))


def completed_with(backend):
    assert backend.status == COMPLETED, backend.completion
    return backend.completion.result.value if backend.completion.HasField("result") else None


def suspended():
    return event("executionSuspended")


def resumed():
    return event("executionResumed")


def completions(result):
    return [a.completeOrchestration for a in result.actions if a.HasField("completeOrchestration")]


class TestTimes:
    def test_a_relative_timer_counts_from_the_time_of_its_turn_also_on_replay(self):
        """Lesson 6"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a")
            yield ctx.create_timer(timedelta(minutes=1))
            yield ctx.create_timer(timedelta(minutes=1))

        backend = backend_of(orchestrator)
        backend.start()
        backend.clock += 3_600
        backend.complete_task(1)
        assert backend.last.actions[0].createTimer.fireAt.seconds == backend.clock + 60
        backend.clock += 86_400
        backend.fire_timer(2)
        assert backend.last.actions[0].createTimer.fireAt.seconds == backend.clock + 60

    @pytest.mark.parametrize("microsecond", [0, 1, 999_999])
    def test_a_fire_time_that_comes_back_coarser_makes_no_further_timer(self, microsecond):
        """Lesson 33"""

        def orchestrator(ctx, _):
            yield ctx.create_timer(datetime(2030, 1, 1, 0, 0, 0, microsecond))
            return "rang"

        backend = backend_of(orchestrator, maximum_timer_interval=timedelta(days=36_500))
        backend.start()
        fired = event("timerFired", timerId=1)
        fired.timerFired.fireAt.FromDatetime(datetime(2029, 12, 31, 23, 59, 59))
        backend.turn([fired])
        assert completed_with(backend) == '"rang"'

    def test_a_long_timer_can_be_cancelled_in_any_of_its_pieces(self):
        """Pinned 7"""

        def orchestrator(ctx, _):
            timer, stop = ctx.create_timer(timedelta(seconds=5)), ctx.wait_for_external_event("stop")
            winner = yield task.when_any([timer, stop])
            assert winner is stop and timer.cancel()
            return "stopped"

        backend = backend_of(orchestrator, maximum_timer_interval=timedelta(seconds=2))
        backend.start()
        backend.fire_timer(1)
        assert [a.id for a in backend.last.actions] == [2]
        backend.raise_event("stop")
        assert completed_with(backend) == '"stopped"'


class TestFailures:
    def test_a_late_result_after_a_failure_ended_the_orchestration_changes_nothing(self):
        """Lesson 22"""

        def orchestrator(ctx, _):
            policy = task.RetryPolicy(first_retry_interval=timedelta(1), max_number_of_attempts=3)
            slow = [ctx.call_activity("slow"), ctx.call_activity("slow", retry_policy=policy)]
            yield ctx.call_activity("fails")
            yield task.when_all(slow)

        backend = backend_of(orchestrator)
        backend.start()
        late = [event("taskCompleted", taskScheduledId=1), failed("taskFailed", 2, "late")]
        result = run_cold(backend, backend.history, [turn_start(9), failed("taskFailed", 3, "no"), *late])
        assert len(result.actions) == 1
        (completion,) = completions(result)
        assert completion.orchestrationStatus == FAILED
        assert completion.failureDetails.errorMessage.endswith("Activity task #3 failed: no")

    def test_the_second_result_of_a_call_changes_nothing(self):
        """Lesson 27"""

        def orchestrator(ctx, _):
            first = yield ctx.call_activity("a")
            second = yield ctx.call_activity("a")
            return [first, second]

        backend = backend_of(orchestrator)
        backend.start()
        done = event("taskCompleted", taskScheduledId=1, result='"one"')
        backend.turn([done, event("taskCompleted", taskScheduledId=1, result='"again"'), failed("taskFailed", 1, "no")])
        assert [o.kind for o in backend.last.observations] == ["completed", "ignored", "ignored"]
        backend.complete_task(2, '"two"')
        assert completed_with(backend) == '["one", "two"]'

    def test_what_is_raised_after_completion_leaves_one_completion(self):
        """Lesson 23"""

        def orchestrator(ctx, _):
            ctx.continue_as_new("next")
            raise ValueError("too late")

        backend = backend_of(orchestrator)
        backend.start()
        (completion,) = completions(backend.last)
        assert (completion.orchestrationStatus, completion.result.value) == (CONTINUED, '"next"')
        assert any("too late" in o.message for o in backend.last.observations)

    def test_a_converter_that_raises_fails_what_awaits_the_value_and_nothing_else(self):
        """Lesson 29: a fault in code that a turn calls back must not break the turn."""

        class Picky(JsonDataConverter):
            def deserialize(self, data, target_type=None):
                if data == '"poison"':
                    raise RuntimeError("I refuse")
                return super().deserialize(data, target_type)

        def orchestrator(ctx, _):
            try:
                yield ctx.call_activity("a")
            except task.TaskFailedError as error:
                return [str(error), (yield ctx.wait_for_external_event("e"))]

        backend = backend_of(orchestrator, data_converter=Picky())
        backend.start()
        backend.complete_task(1, '"poison"')
        backend.raise_event("e", "1")
        assert completed_with(backend) == '["The result could not be decoded: I refuse", 1]'

    def test_a_failed_task_of_a_group_already_complete_is_accepted(self):
        """Pinned 1"""

        def orchestrator(ctx, _):
            first = ctx.call_activity("a")
            try:
                yield first
            except task.TaskFailedError:
                group = task.when_all([first, ctx.call_activity("b")])
                assert not group.is_failed
                yield group

        backend = backend_of(orchestrator)
        backend.start()
        backend.fail_task(1, "no")
        backend.complete_task(2)
        assert backend.completion.failureDetails.errorMessage.endswith("Activity task #1 failed: no")


class TestEvents:
    @pytest.mark.parametrize("data", ["0", '""', "[]", "{}", "false", None])
    def test_falsy_values_arrive_with_events(self, data):
        """Lesson 8, pinned 8"""

        def orchestrator(ctx, _):
            first = yield ctx.wait_for_external_event("e")
            return [first, (yield ctx.wait_for_external_event("e"))]

        backend = backend_of(orchestrator)
        backend.start(after=[event("eventRaised", name="e", input=data)])
        backend.raise_event("e", data)
        assert completed_with(backend) == f"[{data or 'null'}, {data or 'null'}]"

    @pytest.mark.parametrize(("raised", "awaited"), [("TITLE", "title"), ("STRASSE", "straße"), ("ΣΑΣ", "σας")])
    def test_names_are_matched_without_regard_to_case_in_every_script(self, raised, awaited):
        """Lesson 28, pinned 8: case folding knows no locale."""

        def orchestrator(ctx, _):
            return (yield ctx.wait_for_external_event(awaited))

        backend = backend_of(orchestrator)
        backend.start()
        backend.raise_event(raised, "1")
        assert completed_with(backend) == "1"

    def test_what_is_sent_or_signalled_before_continue_as_new_is_sent(self):
        """Lesson 18"""

        def orchestrator(ctx, _):
            ctx.send_event("other", "note")
            ctx.call_activity("forgotten")
            ctx.continue_as_new(None)
            yield ctx.create_timer(timedelta(1))

        backend = backend_of(orchestrator)
        backend.start()
        kinds = [a.WhichOneof("orchestratorActionType") for a in backend.last.actions]
        assert kinds == ["sendEvent", "scheduleTask", "createTimer", "completeOrchestration"]

    def test_carried_over_events_are_delivered_once_in_the_next_generation(self):
        """Lessons 16 and 17"""

        def orchestrator(ctx, n):
            yield ctx.wait_for_external_event("e")
            ctx.continue_as_new(n + 1, save_events=True)

        backend = backend_of(orchestrator)
        backend.start("1", after=[event("eventRaised", name="e", input=n) for n in "123"])
        carried = [e.eventRaised.input.value for e in backend.completion.carryoverEvents]
        assert carried == ["2", "3"]
        for place in ("before", "after"):
            following = backend_of(orchestrator)
            following.start("2", **{place: backend.completion.carryoverEvents})
            assert [e.eventRaised.input.value for e in following.completion.carryoverEvents] == ["3"]

    def test_an_event_behind_a_suspension_in_the_turn_that_ended_the_generation_is_handed_on(self):
        """Lessons 16 and 24"""

        def orchestrator(ctx, _):
            yield ctx.call_activity("a")
            ctx.continue_as_new(None, save_events=True)

        backend = backend_of(orchestrator)
        backend.start()
        backend.turn(
            [event("taskCompleted", taskScheduledId=1), suspended(), event("eventRaised", name="e", input="1")]
        )
        assert [e.eventRaised.input.value for e in backend.completion.carryoverEvents] == ["1"]

    def test_a_run_that_is_advanced_after_its_end_hands_each_event_on_once(self):
        """Lesson 17"""

        def orchestrator(ctx, _):
            ctx.continue_as_new(None, save_events=True)

        run = OrchestrationRun("instance", backend_of(orchestrator).registry, RunOptions())
        run.advance([turn_start(1_000), started(None)])
        for _ in range(2):
            last = run.advance([event("eventRaised", name="e")])
        assert [len(done.carryoverEvents) for done in completions(last)] == [2]

    def test_a_sent_event_is_not_sent_again_by_a_replay(self):
        """Pinned 10"""

        def orchestrator(ctx, _):
            ctx.send_event("other", "go")
            yield ctx.call_activity("a")

        backend = backend_of(orchestrator)
        backend.start()
        assert [a.id for a in backend.last.actions] == [1, 2]
        backend.raise_event("x")
        assert backend.last.actions == []


class TestSuspension:
    def test_suspend_event_and_resume_of_one_turn(self):
        """Lesson 24"""

        def orchestrator(ctx, _):
            return (yield ctx.wait_for_external_event("e"))

        backend = backend_of(orchestrator)
        backend.start()
        backend.turn([suspended(), event("eventRaised", name="e", input="1"), resumed()])
        assert completed_with(backend) == "1"

    def test_a_timer_that_fires_in_a_suspension_counts_after_it(self):
        """Lesson 24"""

        def orchestrator(ctx, _):
            yield ctx.create_timer(timedelta(seconds=5))
            return "rang"

        backend = backend_of(orchestrator)
        backend.start()
        backend.turn([suspended()])
        backend.fire_timer(1)
        assert backend.last.actions == []
        backend.turn([resumed()])
        assert completed_with(backend) == '"rang"'

    def test_repeated_suspensions_keep_the_order_of_events(self):
        """Lesson 25"""

        def orchestrator(ctx, _):
            found = []
            for _ in range(4):
                found.append((yield ctx.wait_for_external_event("e")))
            return found

        backend = backend_of(orchestrator)
        backend.start()
        for first, second in ((1, 2), (3, 4)):
            backend.turn([suspended(), suspended()])
            for n in (first, second):
                backend.raise_event("e", str(n))
            backend.turn([resumed(), resumed()])
        assert completed_with(backend) == "[1, 2, 3, 4]"


class TestWhatHistoryCannotTell:
    """R10: only kind and name of a call are compared, as documented; these changes must at least go on soundly."""

    def test_other_inputs_durations_and_child_ids_go_on_with_the_recorded_results(self):
        """R10"""

        def recorded(ctx, _):
            yield ctx.call_activity("a", input="old")
            yield ctx.create_timer(timedelta(seconds=5))
            yield ctx.call_sub_orchestrator("c", instance_id="old")
            yield ctx.call_activity("last")

        def now(ctx, _):
            first = yield ctx.call_activity("a", input="new")
            yield ctx.create_timer(timedelta(days=30))
            child = yield ctx.call_sub_orchestrator("c", instance_id="new")
            yield ctx.call_activity("last")
            return [first, child]

        backend = backend_of(recorded)
        backend.start()
        backend.complete_task(1, '"one"')
        backend.fire_timer(2)
        backend.complete_child(3, '"child"')
        changed = backend_of(now)
        result = run_cold(changed, backend.history, [turn_start(9), event("taskCompleted", taskScheduledId=4)])
        (completion,) = completions(result)
        assert (completion.orchestrationStatus, completion.result.value) == (COMPLETED, '["one", "child"]')


class TestVersions:
    @pytest.mark.parametrize(("version", "seen"), [(None, None), ("", '""'), ("1", '"1"')])
    def test_no_version_and_an_empty_one_are_told_apart(self, version, seen):
        """Lesson 10, pinned 13"""
        backend = backend_of(lambda ctx, _: ctx.version)
        backend.start(version=version)
        assert completed_with(backend) == seen

    @pytest.mark.parametrize(("asked", "version"), [(None, "5"), ("default", "5"), ("inherit", "3"), ("9", "9")])
    def test_a_child_gets_the_default_version_unless_it_is_told_otherwise(self, asked, version):
        """R26: never the parent's without saying so."""

        def orchestrator(ctx, _):
            yield ctx.call_sub_orchestrator("child", version=asked)

        backend = backend_of(orchestrator, versioning=VersioningOptions(default_version="5"))
        backend.start(version="3")
        assert backend.last.actions[0].createSubOrchestration.version.value == version


def test_an_async_def_orchestrator_runs():
    """R4"""

    async def orchestrator(ctx, given):
        return [given, await ctx.call_activity("a")]

    backend = backend_of(orchestrator)
    backend.start("1")
    backend.complete_task(1, "2")
    assert completed_with(backend) == "[1, 2]"
