"""Turns: what is delivered when, and what an answer changes."""

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import turns, views
from durabletask_scheduler.hub.model import HubError, Limits, TaskKind
from durabletask_scheduler.hub.times import LATEST, MILLISECOND, SECOND, from_timestamp
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value, StringValue


def test_history_of_an_activity_a_timer_and_a_child_has_the_canonical_layout(world):
    """Section 3.2 and checklist 20: twelve events, index by index, ids >= 0 strictly increasing."""
    world.start()
    world.turn(world.activity(1))
    world.finish_activity(world.open()[0])
    world.turn(world.timer(2, seconds=5))
    world.now += 10 * SECOND
    world.fire()
    world.turn(world.child(3))
    world.turn(world.complete(1, result='"done"'), instance_id="c")
    world.turn(world.complete(4, result='"all"'))
    assert world.shown() == [
        "orchestratorStarted",
        "executionStarted",
        "taskScheduled",
        "orchestratorStarted",
        "taskCompleted",
        "timerCreated",
        "orchestratorStarted",
        "timerFired",
        "subOrchestrationInstanceCreated",
        "orchestratorStarted",
        "subOrchestrationInstanceCompleted",
        "executionCompleted",
    ]
    ids = [event.eventId for event in world.history() if event.eventId >= 0]
    assert ids == [1, 2, 3, 4]
    assert all(event.HasField("timestamp") for event in world.history())
    assert world.live["a"].event_count == 12
    assert world.state().output.value == '"all"'


def test_execution_started_is_second_even_if_events_were_stored_before_the_first_turn(world):
    """Section 3.3."""
    world.start()
    world.raise_event("a", "early", "1")
    assert world.turn() == ["orchestratorStarted", "executionStarted", "eventRaised"]
    assert world.shown() == ["orchestratorStarted", "executionStarted", "eventRaised"]


def test_status_is_pending_until_the_first_commit(world):
    """Checklist 25."""
    world.start()
    world.begin()
    assert world.status() == "PENDING"
    commit = world.answer()
    assert world.status() == "RUNNING"
    assert commit.finished == [world.live["a"]]


def test_a_scheduled_start_waits_for_its_time(world):
    """Section 4.6."""
    at = Timestamp(seconds=world.now // SECOND + 60)
    world.start(scheduledStartTimestamp=at)
    assert turns.next_turn_at(world.live["a"], world.now) == from_timestamp(at)
    assert world.state().scheduledStartTimestamp == at
    world.now += 60 * SECOND
    assert world.turn() == ["orchestratorStarted", "executionStarted"]


def test_events_that_arrive_during_a_turn_wait_for_the_next(world):
    """Section 3.2."""
    world.start()
    turn = world.begin()
    world.raise_event("a", "late")
    assert world.kinds(turn.events) == ["orchestratorStarted", "executionStarted"]
    world.answer()
    assert world.turn() == ["orchestratorStarted", "eventRaised"]


def test_the_clock_never_goes_back(world):
    """Section 3.1 and lesson 54: the system clock was set back by an hour."""
    world.start()
    first = world.begin().started_at
    world.answer()
    world.now -= 3600 * SECOND
    world.raise_event("a", "e")
    assert world.begin().started_at > first


@pytest.mark.parametrize("fraction", [0, 1, 500, 999_999])
def test_the_clock_is_strictly_later_than_the_timers_that_fire(world, fraction):
    """Section 3.1 and checklist 17: also in the milliseconds that some SDKs keep."""
    world.start()
    world.turn(world.timer(1, seconds=5 + fraction / SECOND))
    due = world.open("a", TaskKind.TIMER)[0].due_at
    world.now = due - SECOND  # begin() moves the clock to exactly the due time
    turns.fire_timer(world.live["a"], world.open("a", TaskKind.TIMER)[0].key, world.ctx)
    turn = world.begin()
    assert turn.started_at // MILLISECOND > due // MILLISECOND
    assert turn.events[1].timerFired.timerId == 1
    assert from_timestamp(turn.events[1].timerFired.fireAt) == due


def test_a_timer_fires_once_and_stays_open_until_its_turn_commits(world):
    """Section 3.5 and lesson 53."""
    world.start()
    world.turn(world.timer(1, seconds=-5))
    world.fire()
    world.fire()
    world.begin()
    assert len(world.open("a", TaskKind.TIMER)) == 1
    world.crash()
    world.fire()
    assert world.turn() == ["orchestratorStarted", "timerFired"]
    assert world.open("a", TaskKind.TIMER) == []
    assert not world.runnable()


def test_a_timer_of_the_year_9999_is_kept(world):
    """Section 3.5."""
    world.start()
    action = pb.OrchestratorAction(id=1, createTimer=pb.CreateTimerAction(fireAt=Timestamp(seconds=253_402_300_799)))
    world.turn(action)
    assert world.open("a", TaskKind.TIMER)[0].due_at == LATEST
    assert world.history()[-1].timerCreated.fireAt.seconds == 253_402_300_799


def test_actions_are_taken_in_the_order_of_their_ids_and_the_completion_last(world):
    """Section 4.1."""
    world.start()
    world.turn(world.complete(4), world.child(3, "x"), world.send(1, "nobody", "e"))
    assert world.shown()[2:] == ["eventSent", "subOrchestrationInstanceCreated", "executionCompleted"]


def test_the_first_completion_counts(world):
    """Section 4.1 and lesson 23."""
    world.start()
    world.turn(world.complete(2, result='"first"'), world.complete(1, "FAILED"))
    assert world.status() == "COMPLETED"
    assert world.state().output.value == '"first"'


def test_an_action_that_repeats_an_unresolved_task_is_dropped(world):
    """Section 4.1: by id and kind, against open tasks."""
    world.start()
    world.turn(world.activity(1), world.timer(2), world.child(3))
    world.raise_event("a", "e")
    world.turn(world.activity(1), world.timer(2), world.child(3), world.activity(3))
    kinds = world.shown()
    assert kinds.count("taskScheduled") == 2
    assert kinds.count("timerCreated") == kinds.count("subOrchestrationInstanceCreated") == 1


def test_an_action_whose_result_waits_in_the_inbox_is_dropped(world):
    """Section 3.9, trap 2: a suspended worker repeats actions whose confirmation it buffered."""
    world.start()
    world.turn(world.activity(1))
    world.raise_event("a", "e")
    world.begin()
    world.finish_activity(world.open()[0])
    world.answer(world.activity(1))
    assert world.shown().count("taskScheduled") == 1
    assert world.turn() == ["orchestratorStarted", "taskCompleted"]


def test_a_resolved_id_may_be_scheduled_again(world):
    """Section 3.4 and checklist 2: Python retries use the same id three times."""
    world.start()
    world.turn(world.activity(1))
    for attempt in range(3):
        world.finish_activity(world.open()[0], error=f"attempt {attempt}")
        world.turn(world.activity(1))
    world.finish_activity(world.open()[0], "42")
    world.turn(world.complete(2))
    kinds = world.shown()
    assert (kinds.count("taskScheduled"), kinds.count("taskFailed"), kinds.count("taskCompleted")) == (4, 3, 1)


def test_a_repeated_or_unknown_completion_changes_nothing(world):
    """Section 2.5, checklist 13 and 14, lesson 47."""
    world.start()
    old = world.begin().token
    turns.release_turn(world.live["a"])
    world.begin()
    assert not world.answer(world.activity(1), completionToken=old).history
    world.answer(world.activity(1))
    response = pb.OrchestratorResponse(instanceId="a", completionToken=old, actions=[world.activity(9)])
    assert not turns.complete_turn(world.live["a"], response, world.ctx).updated
    assert world.shown().count("taskScheduled") == 1


def test_an_answer_without_a_token_is_for_the_turn_in_flight(world):
    """Section 2.5: the Go worker never echoes it."""
    world.start()
    world.begin()
    world.answer(world.complete(0), completionToken="")
    assert world.status() == "COMPLETED"


def test_an_abandoned_turn_comes_back_with_growing_delays_under_a_new_token(world):
    """Section 2.6 and R8."""
    world.start()
    world.raise_event("a", "e")
    delays, tokens = [], set()
    for _ in range(9):
        tokens.add(world.begin().token)
        turns.abandon_turn(world.live["a"], world.ctx)
        at = turns.next_turn_at(world.live["a"], world.now)
        delays.append((at - world.now) // SECOND)
        world.now = at
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(tokens) == 9
    assert world.turn() == ["orchestratorStarted", "executionStarted", "eventRaised"]
    assert world.live["a"].abandoned == 0


def test_a_released_turn_comes_back_at_once(world):
    world.start()
    world.begin()
    turns.release_turn(world.live["a"])
    assert world.runnable()


def test_events_that_the_worker_did_not_process_come_again(world):
    world.start()
    for name in "xyz":
        world.raise_event("a", name)
    world.turn(numEventsProcessed=Int32Value(value=3))
    turn = world.begin()
    assert [event.eventRaised.name for event in turn.events[1:]] == ["y", "z"]
    world.answer(numEventsProcessed=Int32Value(value=0))
    assert not world.runnable()
    assert world.shown().count("eventRaised") == 3


@pytest.mark.parametrize("number", [-1, 1, 99])
def test_an_impossible_number_of_processed_events_is_refused(world, number):
    world.start()
    world.raise_event("a", "x")
    world.begin()
    with pytest.raises(HubError, match="numEventsProcessed") as error:
        world.answer(numEventsProcessed=Int32Value(value=number))
    assert error.value.code == "INVALID_ARGUMENT"
    assert world.live["a"].turn is not None


REFUSED = {
    "entity message": pb.OrchestratorAction(id=1, sendEntityMessage=pb.SendEntityMessageAction()),
    "event to an entity": pb.OrchestratorAction(
        id=1, sendEvent=pb.SendEventAction(instance=pb.OrchestrationInstance(instanceId="@e@k"), name="op")
    ),
    "rewind": pb.OrchestratorAction(id=1, rewindOrchestration=pb.RewindOrchestrationAction()),
    "nothing": pb.OrchestratorAction(id=1),
    "activity without a name": pb.OrchestratorAction(id=1, scheduleTask=pb.ScheduleTaskAction()),
    "child with an entity's id": pb.OrchestratorAction(
        id=1, createSubOrchestration=pb.CreateSubOrchestrationAction(name="n", instanceId="@e@k")
    ),
    "timer out of range": pb.OrchestratorAction(
        id=1, createTimer=pb.CreateTimerAction(fireAt=Timestamp(seconds=10**12))
    ),
    "status that ends nothing": pb.OrchestratorAction(
        id=1, completeOrchestration=pb.CompleteOrchestrationAction(orchestrationStatus=0)
    ),
    "carried event of another kind": pb.OrchestratorAction(
        id=1,
        completeOrchestration=pb.CompleteOrchestrationAction(
            orchestrationStatus=2,
            carryoverEvents=[pb.HistoryEvent(timerFired=pb.TimerFiredEvent(timerId=1))],
        ),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_action_that_cannot_be_carried_out_fails_the_orchestration(world, what):
    """Section 4.8: it fails visibly, and nothing else of the answer happens."""
    world.start()
    world.turn(world.activity(7), REFUSED[what])
    assert world.status() == "FAILED"
    assert world.state().failureDetails.errorType == "InvalidOrchestratorAction"
    assert "taskScheduled" not in world.shown()
    assert world.shown()[-1] == "executionCompleted"


def test_a_history_that_grows_too_long_fails_the_orchestration(make_world):
    """Section 4.3: size-related failures must not loop."""
    world = make_world(Limits(history_events=20))
    world.start()
    for number in range(30):
        if world.status() == "FAILED":
            break
        world.turn(world.activity(number))
        if world.open():
            world.finish_activity(world.open()[0])
    assert world.state().failureDetails.errorType == "HistoryTooLong"
    assert len(world.history()) <= 21


@pytest.mark.parametrize(
    ("sent", "shown"), [(None, "before"), (StringValue(value=""), None), (StringValue(value='""'), '""')]
)
def test_custom_status_is_replaced_kept_or_cleared(world, sent, shown):
    """Section 3.15 and lesson 19."""
    world.start()
    world.turn(customStatus=StringValue(value="before"))
    world.raise_event("a", "e")
    world.turn(customStatus=sent)
    assert world.live["a"].custom_status == shown
    assert world.state().HasField("customStatus") == (shown is not None)


def test_the_trace_context_of_the_last_answer_comes_back(world):
    """Section 3.14."""
    world.start()
    trace = pb.OrchestrationTraceContext(spanID=StringValue(value="span"))
    world.turn(orchestrationTraceContext=trace)
    world.raise_event("a", "e")
    turn = world.begin()
    request = views.turn_request(world.live["a"], turn, None)
    assert request.orchestrationTraceContext == trace


def test_the_work_item_of_a_turn_is_complete(world):
    """Section 2.3."""
    world.start()
    world.turn(world.activity(1))
    world.finish_activity(world.open()[0])
    turn = world.begin()
    instance = world.live["a"]
    request = views.turn_request(instance, turn, world.history_rows[instance.key])
    assert world.kinds(request.pastEvents) == ["orchestratorStarted", "executionStarted", "taskScheduled"]
    assert world.kinds(request.newEvents) == ["orchestratorStarted", "taskCompleted"]
    assert request.executionId.value == instance.execution_id
    assert request.HasField("entityParameters")
    assert request.entityParameters.entityMessageReorderWindow.ToNanoseconds() == 0
    started = request.pastEvents[1].executionStarted
    assert started.orchestrationInstance.instanceId == "a"
    assert started.orchestrationInstance.executionId.value == instance.execution_id


def test_a_terminal_instance_is_never_reopened_by_late_arrivals(world):
    """Section 4.5, lesson 50."""
    world.start()
    world.turn(world.activity(1))
    task = world.open()[0]
    world.raise_event("a", "e")
    world.turn(world.complete(2))
    world.finish_activity(task)
    world.raise_event("a", "late")
    world.suspend()
    assert world.status() == "COMPLETED"
    assert (world.tasks, world.inbox) == ({}, {})
    assert turns.next_turn_at(world.live["a"], world.now) is None
