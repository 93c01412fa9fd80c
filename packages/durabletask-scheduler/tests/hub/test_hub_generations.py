"""Continue-as-new, children, messages between instances, and rewind."""

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import requests
from durabletask_scheduler.hub.model import HubError, TaskKind
from durabletask_scheduler.hub.times import SECOND
from google.protobuf.wrappers_pb2 import StringValue


def raised(name):
    return pb.HistoryEvent(eventId=-1, eventRaised=pb.EventRaisedEvent(name=name))


def names(events):
    return [event.eventRaised.name for event in events if event.HasField("eventRaised")]


def test_a_new_generation_begins_with_carried_then_waiting_then_self_sent_events(world):
    """Section 3.12, checklist 4, lesson 16; the order survives a restart of the scheduler."""
    world.start()
    world.raise_event("a", "old")
    world.begin()
    world.raise_event("a", "late")
    world.answer(
        world.send(1, "a", "self"),
        world.complete(2, "CONTINUED_AS_NEW", '"next"', carryoverEvents=[raised("one"), raised("two")]),
    )
    assert world.status() == "RUNNING"
    world.crash()
    turn = world.begin()
    assert world.kinds(turn.events)[:2] == ["orchestratorStarted", "executionStarted"]
    assert names(turn.events) == ["one", "two", "late", "self"]
    assert turn.events[1].executionStarted.input.value == '"next"'
    world.answer()
    assert world.shown().count("eventRaised") == 4


def test_a_new_generation_keeps_identity_and_takes_new_version_and_tags(world):
    """Section 3.12."""
    world.start(version=StringValue(value="1"), tags={"a": "1", "b": "1"})
    created, execution = world.live["a"].created_at, world.live["a"].execution_id
    world.turn(customStatus=StringValue(value="kept"))
    world.raise_event("a", "e")
    world.turn(
        world.complete(1, "CONTINUED_AS_NEW", "2", newVersion=StringValue(value="2"), tags={"b": "2"}),
    )
    state = world.state()
    assert (state.version.value, dict(state.tags), state.input.value) == ("2", {"a": "1", "b": "2"}, "2")
    assert state.customStatus.value == "kept"
    assert state.executionId.value != execution
    assert world.live["a"].created_at == created
    started = world.begin().events[1].executionStarted
    assert (started.version.value, dict(started.tags)) == ("2", {"a": "1", "b": "2"})


def test_results_of_the_old_generation_are_dropped(world):
    """Section 3.12, checklist 3, lesson 20: an activity, a timer and a child with equal ids."""
    world.start()
    world.turn(world.activity(1), world.timer(2), world.child(3))
    task = world.open()[0]
    world.raise_event("a", "go")
    world.begin()
    world.finish_activity(task)
    world.answer(world.complete(4, "CONTINUED_AS_NEW"))
    assert world.turn(world.activity(1), world.timer(2, 1000), world.child(3, "d")) == [
        "orchestratorStarted",
        "executionStarted",
    ]
    world.now += 20 * SECOND
    world.fire()
    world.turn(world.complete(1), instance_id="c")
    world.finish_activity(task)
    assert not world.runnable()


def test_actions_beside_continue_as_new_are_sent_but_nothing_is_awaited(world):
    """Section 3.12, lesson 18."""
    world.start()
    world.start("b")
    world.turn(
        world.complete(9, "CONTINUED_AS_NEW"),
        world.send(1, "b", "hello"),
        world.activity(2),
        world.timer(3),
        world.child(4),
    )
    assert world.tasks == {}
    assert world.turn(instance_id="b")[-1] == "eventRaised"
    world.turn(world.complete(1), instance_id="c")
    assert world.turn() == ["orchestratorStarted", "executionStarted"]


@pytest.mark.parametrize("status", ["CONTINUED_AS_NEW", "COMPLETED"])
def test_a_child_of_an_ending_generation_is_started_once(world, status):
    """Section 4.1: an answer that names the same action twice."""
    world.start()
    world.begin()
    commit = world.answer(world.child(1, "x"), world.child(1, "y"), world.complete(2, status))
    assert [m.target for m in commit.messages if m.event.HasField("executionStarted")] == ["x"]


def test_an_eternal_orchestration_runs_its_child_in_each_generation(world):
    """Checklist 5: the ids of Python's and Go's children repeat."""
    world.start()
    executions = set()
    for _ in range(3):
        world.turn(world.child(1, "a:0001"))
        executions.add(world.live["a:0001"].execution_id)
        world.turn(world.complete(1), instance_id="a:0001")
        assert world.turn(world.complete(2, "CONTINUED_AS_NEW"))[-1] == "subOrchestrationInstanceCompleted"
    assert len(executions) == 3


def test_a_suspended_instance_that_continues_as_new_stays_suspended(world):
    """Section 3.12: suspend survives; the new generation begins at resume."""
    world.start()
    world.begin()
    world.suspend()
    world.raise_event("a", "e")
    world.answer(world.complete(1, "CONTINUED_AS_NEW"))
    assert world.status() == "SUSPENDED"
    assert not world.runnable()
    world.resume()
    assert world.status() == "RUNNING"
    assert world.turn() == ["orchestratorStarted", "executionStarted", "eventRaised"]


def test_a_child_knows_its_parent_and_inherits_tags_and_trace(world):
    """Sections 3.6, 3.13, 3.14."""
    world.start(tags={"a": "1", "b": "1"}, parentTraceContext=pb.TraceContext(traceParent="00-p"))
    world.turn(world.child(3, "c", tags={"b": "2"}, version=StringValue(value="7")))
    started = world.begin("c").events[1].executionStarted
    parent = started.parentInstance
    assert (parent.taskScheduledId, parent.name.value) == (3, "main")
    assert parent.orchestrationInstance.instanceId == "a"
    assert parent.orchestrationInstance.executionId.value == world.live["a"].execution_id
    assert dict(started.tags) == {"a": "1", "b": "2"}
    assert started.parentTraceContext.traceParent == "00-p"
    assert world.state("c").parentInstanceId.value == "a"
    assert world.state("c").version.value == "7"


@pytest.mark.parametrize(
    ("status", "kind", "error_type"),
    [
        ("COMPLETED", "subOrchestrationInstanceCompleted", None),
        ("FAILED", "subOrchestrationInstanceFailed", ""),
        ("TERMINATED", "subOrchestrationInstanceFailed", "OrchestrationTerminated"),
        ("CANCELED", "subOrchestrationInstanceFailed", "OrchestrationCanceled"),
    ],
)
def test_the_end_of_a_child_reaches_its_parent_once(world, status, kind, error_type):
    """Section 3.6."""
    world.start()
    world.turn(world.child(1))
    world.turn(world.complete(1, status, error="boom" if status == "FAILED" else None), instance_id="c")
    event = world.begin().events[1]
    assert event.WhichOneof("eventType") == kind
    if error_type is not None:
        assert event.subOrchestrationInstanceFailed.failureDetails.errorType == error_type
    world.answer()
    assert not world.runnable()


def test_a_child_id_in_use_fails_the_child_and_not_the_parent(world):
    """Section 4.4 and lesson 48."""
    world.start()
    world.start("c")
    world.turn(world.child(1))
    event = world.begin().events[1].subOrchestrationInstanceFailed
    assert event.failureDetails.errorType == "OrchestrationAlreadyExists"
    assert event.failureDetails.errorMessage == "Orchestration instance 'c' already exists"
    assert not event.failureDetails.isNonRetriable
    assert world.live["c"].parent_instance_id == ""


@pytest.mark.parametrize("ends", [False, True])
def test_an_orchestration_cannot_be_its_own_child(world, ends):
    """Lesson 49, also when the parent ends in the same turn."""
    world.start()
    world.turn(world.child(1, "a"), *([world.complete(2)] if ends else []))
    assert world.live["a"].name == "main"
    if not ends:
        assert world.turn() == ["orchestratorStarted", "subOrchestrationInstanceFailed"]


def test_two_children_of_one_id_give_one_child_and_one_failure(world):
    """Lesson 49."""
    world.start()
    world.turn(world.child(1), world.child(2))
    assert world.turn() == ["orchestratorStarted", "subOrchestrationInstanceFailed"]
    world.turn(world.complete(1), instance_id="c")
    assert world.turn() == ["orchestratorStarted", "subOrchestrationInstanceCompleted"]


def test_a_start_message_that_arrives_twice_starts_one_child(world):
    """Section 4.4, last sentence."""
    world.start()
    world.begin()
    commit = world.answer(world.child(1))
    child = world.live["c"]
    for message in commit.messages:
        world.apply(world.deliver(message))
    assert world.live["c"] is child
    assert not world.runnable()


def test_a_child_without_an_id_gets_one(world):
    """Section 3.6."""
    world.start()
    world.turn(world.child(10, ""))
    assert f"{world.live['a'].execution_id}:000a" in world.live


def test_events_to_missing_and_terminal_instances_are_dropped(world):
    """Section 3.8."""
    world.start()
    world.start("done")
    world.terminate("done")
    world.turn(world.send(1, "nobody", "e"), world.send(2, "done", "e", "1"), world.send(3, "a", "me"))
    assert world.shown().count("eventSent") == 3
    assert names(world.begin().events) == ["me"]


def test_an_orchestration_can_terminate_another(world):
    """Section 4.2, terminateOrchestration."""
    world.start()
    world.start("b")
    asked = pb.TerminateOrchestrationAction(instanceId="b", reason=StringValue(value='"x"'))
    world.turn(pb.OrchestratorAction(id=1, terminateOrchestration=asked))
    assert world.status("b") == "TERMINATED"
    assert world.state("b").output.value == '"x"'


@pytest.mark.parametrize(("recurse", "expected"), [(True, "TERMINATED"), (False, "PENDING")])
def test_terminating_another_reaches_its_open_children_if_asked(world, recurse, expected):
    """Section 3.10: the children that are not resolved in this generation, and theirs."""
    world.start()
    world.start("b")
    world.turn(world.child(1, "c"), instance_id="b")
    world.turn(world.child(1, "d"), instance_id="c")
    asked = pb.TerminateOrchestrationAction(instanceId="b", reason=StringValue(value='"x"'), recurse=recurse)
    world.turn(pb.OrchestratorAction(id=1, terminateOrchestration=asked))
    assert world.status("b") == "TERMINATED"
    assert world.status("d") == expected
    assert not recurse or world.state("d").output.value == '"x"'


# --- rewind


def fail(world, instance_id="a", error="boom"):
    world.turn(world.complete(99, "FAILED", error=error), instance_id=instance_id)


def test_rewind_runs_the_failed_activity_again_and_no_other(world):
    """Section 3.11, checklist 23."""
    world.start()
    world.turn(world.activity(1, "ok"), world.activity(2, "bad"))
    first, second = world.open()
    world.finish_activity(first)
    world.finish_activity(second, error="boom")
    fail(world)
    execution = world.live["a"].execution_id
    world.rewind()
    assert world.status() == "RUNNING"
    assert not world.state().HasField("failureDetails")
    assert not world.state().HasField("completedTimestamp")
    assert world.live["a"].execution_id != execution
    assert [e.taskScheduled.name for e in world.history() if e.HasField("taskScheduled")] == ["ok"]
    world.crash()
    assert world.turn(world.activity(2, "bad")) == ["orchestratorStarted"]
    world.finish_activity(world.open()[0])
    world.turn(world.complete(3))
    assert world.status() == "COMPLETED"
    assert "taskFailed" not in world.shown()


def test_rewind_takes_back_the_clean_up_that_followed_the_failure(world):
    """R20 and lesson 15: the clean-up's events would not fit the code's new course."""
    world.start()
    world.turn(world.activity(1, "bad"))
    world.finish_activity(world.open()[0], error="boom")
    world.turn(world.activity(2, "cleanup"))
    world.finish_activity(world.open()[0])
    fail(world)
    world.rewind()
    assert set(world.shown()) == {"orchestratorStarted", "executionStarted"}
    world.turn(world.activity(1, "bad"))
    world.finish_activity(world.open()[0])
    world.turn(world.complete(2))
    assert world.shown()[-5:-2] == ["orchestratorStarted", "taskScheduled", "orchestratorStarted"]


def test_rewind_keeps_a_failure_that_the_code_had_handled(world):
    """R20: with a fallback before the failure that ended it."""
    world.start()
    world.turn(world.activity(1, "flaky"))
    world.finish_activity(world.open()[0], error="handled")
    world.turn(world.activity(2, "fallback"))
    world.finish_activity(world.open()[0])
    world.turn(world.activity(3, "bad"))
    world.finish_activity(world.open()[0], error="fatal")
    fail(world, error="Activity task #3 failed: fatal")
    world.rewind()
    kinds = world.shown()
    assert (kinds.count("taskFailed"), kinds.count("taskCompleted"), kinds.count("taskScheduled")) == (1, 1, 2)


def test_rewind_runs_all_failures_of_one_fan_out_again(world):
    """Section 3.11: several tasks awaited together."""
    world.start()
    world.turn(world.activity(1), world.activity(2), world.activity(3))
    one, two, three = world.open()
    world.finish_activity(one, error="x")
    world.turn()
    world.finish_activity(two)
    world.turn()
    world.finish_activity(three, error="y")
    fail(world, error="y")
    world.rewind()
    scheduled = [e.eventId for e in world.history() if e.HasField("taskScheduled")]
    assert scheduled == [2]
    assert "taskFailed" not in world.shown()


def test_rewind_keeps_waiting_timers_and_runs_unfinished_activities_again(world):
    world.start()
    world.turn(world.activity(1, "bad"), world.activity(2, "slow"), world.timer(3, 100))
    bad, slow = world.open()
    world.finish_activity(bad, error="x")
    fail(world)
    world.rewind()
    assert [e.WhichOneof("eventType") for e in world.history()].count("taskScheduled") == 0
    assert len(world.open("a", TaskKind.TIMER)) == 1
    world.finish_activity(slow)
    assert world.turn() == ["orchestratorStarted"]


@pytest.mark.parametrize("child", ["failed", "purged"])
def test_rewind_reaches_failed_and_purged_grandchildren(world, child):
    """Section 3.11, checklist 23, pinned 15."""
    world.start()
    world.turn(world.child(1, "b"))
    world.turn(world.child(1, "c", input=StringValue(value="7")), instance_id="b")
    world.turn(world.activity(1), instance_id="c")
    world.finish_activity(world.open("c")[0], error="boom", instance_id="c")
    for instance_id in "cba":
        fail(world, instance_id)
    if child == "purged":
        world.apply(requests.purge(world.live["c"], world.ctx, single=True))
    world.rewind()
    assert world.turn(instance_id="a") == ["orchestratorStarted"]
    assert world.turn(instance_id="b") == ["orchestratorStarted"]
    expected = ["orchestratorStarted"] if child == "failed" else ["orchestratorStarted", "executionStarted"]
    assert world.turn(world.activity(1), instance_id="c") == expected
    assert world.state("c").input.value == "7"
    world.finish_activity(world.open("c")[0], instance_id="c")
    for instance_id in "cba":
        world.turn(world.complete(9), instance_id=instance_id)
    assert [world.status(i) for i in "abc"] == ["COMPLETED"] * 3


@pytest.mark.parametrize("ends", ["before", "after"])
def test_a_child_that_ran_on_reports_to_the_rewound_parent(world, ends):
    """Section 3.11: COMPLETED meanwhile, or still running."""
    world.start()
    world.turn(world.activity(1), world.child(2))
    world.finish_activity(world.open()[0], error="boom")
    fail(world)
    if ends == "before":
        world.turn(world.complete(1, result="5"), instance_id="c")
    world.rewind()
    if ends == "after":
        world.turn(world.complete(1, result="5"), instance_id="c")
    assert world.turn() == ["orchestratorStarted", "subOrchestrationInstanceCompleted"]


def test_rewinding_twice_is_legal(world):
    """Section 3.11."""
    world.start()
    world.turn(world.activity(1))
    for _ in range(2):
        world.finish_activity(world.open()[0], error="boom")
        fail(world)
        world.rewind()
        world.turn(world.activity(1))
    world.finish_activity(world.open()[0])
    world.turn(world.complete(2))
    assert world.status() == "COMPLETED"
    assert world.shown().count("taskScheduled") == 1


@pytest.mark.parametrize("status", ["RUNNING", "COMPLETED"])
def test_only_a_failed_instance_can_be_rewound(world, status):
    """Section 1.2, RewindInstance."""
    world.start()
    world.turn(*([world.complete(1)] if status == "COMPLETED" else []))
    with pytest.raises(HubError) as error:
        world.rewind()
    assert error.value.code == "FAILED_PRECONDITION"
