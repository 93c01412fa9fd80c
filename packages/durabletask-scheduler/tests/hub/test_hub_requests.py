"""Requests of clients: start and reuse, events, terminate, suspend, purge, restart."""

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import requests, turns
from durabletask_scheduler.hub.model import HubError, Limits, TaskKind
from durabletask_scheduler.hub.times import SECOND
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

S = pb.OrchestrationStatus.Value
ALL_LIVE = ["PENDING", "RUNNING", "SUSPENDED"]
ALL_TERMINAL = ["COMPLETED", "FAILED", "TERMINATED", "CANCELED"]


def policy(*statuses, action=None):
    made = pb.OrchestrationIdReusePolicy(replaceableStatus=[S(f"ORCHESTRATION_STATUS_{s}") for s in statuses])
    if action is not None:
        made.MergeFromString(bytes((0x10, action)))
    return {"orchestrationIdReusePolicy": made}


def bring_to(world, status):
    world.start()
    if status == "SUSPENDED":
        world.suspend()
    elif status == "TERMINATED":
        world.terminate()
    elif status == "RUNNING":
        world.turn()
    elif status != "PENDING":
        world.turn(world.complete(1, status, error="no" if status == "FAILED" else None))
    assert world.status() == status


def outcome(world, **fields):
    before = world.live["a"]
    try:
        world.start(**fields)
    except HubError as error:
        assert world.live["a"] is before
        return error.code
    return "kept" if world.live["a"] is before else "replaced"


@pytest.mark.parametrize("status", ALL_LIVE + ALL_TERMINAL)
def test_without_a_policy_a_terminal_instance_is_replaced_and_a_live_one_is_not(world, status):
    """Section 1.4, checklist 24, lesson 56."""
    bring_to(world, status)
    assert outcome(world) == ("ALREADY_EXISTS" if status in ALL_LIVE else "replaced")


@pytest.mark.parametrize("status", ALL_LIVE + ALL_TERMINAL)
def test_an_empty_policy_never_replaces(world, status):
    """Section 1.4."""
    bring_to(world, status)
    assert outcome(world, **policy()) == "ALREADY_EXISTS"


@pytest.mark.parametrize("status", ALL_LIVE + ALL_TERMINAL)
def test_a_policy_replaces_in_its_statuses_only(world, status):
    """Section 1.4."""
    bring_to(world, status)
    expected = "replaced" if status in ("RUNNING", "FAILED", "TERMINATED") else "ALREADY_EXISTS"
    assert outcome(world, **policy("RUNNING", "FAILED", "TERMINATED")) == expected


@pytest.mark.parametrize(
    ("action", "listed", "expected"),
    [(1, True, "kept"), (1, False, "ALREADY_EXISTS"), (2, True, "replaced"), (2, False, "ALREADY_EXISTS")],
)
def test_the_action_of_older_clients_is_honoured(world, action, listed, expected):
    """Section 1.4 and checklist 18: IGNORE and TERMINATE in field 2."""
    bring_to(world, "RUNNING")
    assert outcome(world, **policy("RUNNING" if listed else "FAILED", action=action)) == expected


def test_a_policy_that_replaces_running_but_not_terminated_instances_is_refused(world):
    """Section 1.4: the text is one that clients look for."""
    text = "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances"
    with pytest.raises(HubError, match=text) as error:
        world.start(**policy("RUNNING", "COMPLETED"))
    assert error.value.code == "INVALID_ARGUMENT"


def test_replacing_a_live_child_tells_the_parent_of_the_old_generation(world):
    """Section 1.4."""
    world.start()
    world.turn(world.child(1))
    world.turn(world.activity(1), instance_id="c")
    late = world.open("c")[0]
    world.start("c", "other", **policy("RUNNING", "TERMINATED"))
    assert world.live["c"].name == "other"
    assert world.tasks.keys() == set()
    world.finish_activity(late, instance_id="c")
    assert world.turn() == ["orchestratorStarted", "subOrchestrationInstanceFailed"]
    assert world.open("a", TaskKind.CHILD) == []
    assert world.turn(instance_id="c") == ["orchestratorStarted", "executionStarted"]


def test_a_new_instance_has_what_the_request_says(world):
    """Section 1.2, StartInstance; lesson 10: an absent version is not an empty one."""
    world.start(
        version=StringValue(value=""),
        input=StringValue(value="[1]"),
        tags={"team": "x"},
        executionId=StringValue(value="exec"),
        parentTraceContext=pb.TraceContext(traceParent="00-1-2-01"),
    )
    state = world.state()
    assert (state.name, state.executionId.value, dict(state.tags)) == ("main", "exec", {"team": "x"})
    assert state.HasField("version")
    assert state.input.value == "[1]"
    assert not state.HasField("scheduledStartTimestamp")
    assert state.createdTimestamp == state.lastUpdatedTimestamp
    started = world.begin().events[1].executionStarted
    assert started.parentTraceContext.traceParent == "00-1-2-01"
    assert started.tags == {"team": "x"}
    world.start("b")
    assert not world.state("b").HasField("version")


def test_a_schedule_in_the_past_is_none(world):
    """Section 1.2 and checklist 19: JS sends the epoch when it means none."""
    world.start(scheduledStartTimestamp=Timestamp(), input=StringValue(value=""))
    assert not world.state().HasField("scheduledStartTimestamp")
    assert world.state().HasField("input")
    assert world.runnable()


@pytest.mark.parametrize(
    "fields",
    [
        {"instance_id": ""},
        {"instance_id": "@entity@key"},
        {"instance_id": "a\nb"},
        {"instance_id": "x" * 1025},
        {"instance_id": "\u00e4" * 600},
        {"name": ""},
        {"name": "n" * 2000},
        {"executionId": StringValue(value="")},
        {"executionId": StringValue(value="@run@1")},
        {"scheduledStartTimestamp": Timestamp(seconds=253_402_300_800)},
        {"scheduledStartTimestamp": Timestamp(seconds=1, nanos=-1)},
    ],
)
def test_bad_ids_names_and_times_are_refused(world, fields):
    """Lesson 56."""
    with pytest.raises(HubError) as error:
        world.start(**fields)
    assert error.value.code == "INVALID_ARGUMENT"
    assert world.rows == {}


def test_ids_may_have_any_printable_characters(world):
    world.start("a b/c:d@e \u00e4\u4e16\U0001f600\u00ad")
    assert len(world.rows) == 1


def test_events_keep_their_name_order_and_null_input(world):
    """Section 1.2, RaiseEvent; section 3.7."""
    world.start()
    world.raise_event("a", "Go")
    world.raise_event("a", "go", "")
    events = world.begin().events[2:]
    assert [event.eventRaised.name for event in events] == ["Go", "go"]
    assert [event.eventRaised.HasField("input") for event in events] == [False, True]
    assert [event.eventId for event in events] == [-1, -1]


@pytest.mark.parametrize("ask", ["raise_event", "suspend", "resume", "rewind"])
def test_a_missing_instance_is_not_found(world, ask):
    """Section 1.2."""
    request = {
        "raise_event": (requests.raise_event, pb.RaiseEventRequest(instanceId="a", name="e"), ()),
        "suspend": (requests.suspend, pb.SuspendRequest(instanceId="a"), ()),
        "resume": (requests.resume, pb.ResumeRequest(instanceId="a"), ()),
        "rewind": (requests.rewind, pb.RewindInstanceRequest(instanceId="a"), ([],)),
    }
    function, message, rest = request[ask]
    with pytest.raises(HubError) as error:
        world.call(function, "a", message, *rest)
    assert error.value.code == "NOT_FOUND"


def test_terminating_a_missing_instance_is_a_silent_success(world):
    """Section 1.1."""
    assert world.terminate("nobody").messages == []


def test_too_many_waiting_events_are_refused(make_world):
    world = make_world(Limits(inbox_events=2))
    world.start()
    world.raise_event("a", "x")
    world.raise_event("a", "y")
    with pytest.raises(HubError) as error:
        world.raise_event("a", "z")
    assert error.value.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("when", ["pending", "scheduled", "suspended", "in flight", "waiting"])
def test_terminate_works_in_every_state_without_a_worker(world, when):
    """Section 3.10, checklist 7, lesson 50."""
    later = {"scheduledStartTimestamp": Timestamp(seconds=world.now // SECOND + 99)} if when == "scheduled" else {}
    world.start(**later)
    if when in ("suspended", "waiting", "in flight"):
        world.turn(world.activity(1), world.timer(2))
    if when == "suspended":
        world.suspend()
    world.raise_event("a", "e")
    if when == "in flight":
        world.begin()
    commit = world.terminate(output='"why"')
    assert world.status() == "TERMINATED"
    assert world.state().output.value == '"why"'
    assert world.state().HasField("completedTimestamp")
    assert world.shown()[:2] == ["orchestratorStarted", "executionStarted"]
    assert world.shown()[-2:] == ["executionTerminated", "executionCompleted"]
    assert world.shown().count("orchestratorStarted") == (2 if when in ("suspended", "waiting", "in flight") else 1)
    assert (world.tasks, world.inbox) == ({}, {})
    assert commit.finished == [world.live["a"]]
    assert world.live["a"].turn is None
    world.terminate(output='"again"')
    assert world.state().output.value == '"why"'


def test_the_turn_in_flight_of_a_terminated_instance_is_void(world):
    """Section 3.10, checklist 7."""
    world.start()
    token = world.begin().token
    world.terminate()
    response = pb.OrchestratorResponse(instanceId="a", completionToken=token, actions=[world.complete(1)])
    world.apply(turns.complete_turn(world.live["a"], response, world.ctx))
    assert world.status() == "TERMINATED"


@pytest.mark.parametrize(("recursive", "expected"), [(True, "TERMINATED"), (False, "RUNNING")])
def test_terminate_reaches_grandchildren_if_recursive(world, recursive, expected):
    """Section 3.10, checklist 8, lesson 51."""
    world.start()
    world.turn(world.child(1, "b"))
    world.turn(world.child(1, "c"), instance_id="b")
    world.turn(instance_id="c")
    world.terminate("a", '"stop"', recursive)
    assert [world.status(i) for i in "abc"] == ["TERMINATED", expected, expected]
    if recursive:
        assert world.state("c").output.value == '"stop"'
    else:
        world.raise_event("c", "go")
        world.turn(world.complete(1), instance_id="c")
        world.turn(world.complete(2), instance_id="b")
        assert world.status("a") == "TERMINATED"


def test_suspend_is_a_turn_of_its_own_and_holds_everything_until_resume(world):
    """Section 3.9, checklist 6, lesson 24."""
    world.start()
    world.turn(world.activity(1), world.timer(2, seconds=1))
    world.raise_event("a", "before")
    world.suspend(reason="hold")
    world.suspend(reason="again")
    assert world.status() == "SUSPENDED"
    assert world.turn() == ["orchestratorStarted", "executionSuspended"]
    world.raise_event("a", "during")
    world.finish_activity(world.open()[0])
    world.now += 5 * SECOND
    world.fire()
    assert not world.runnable()
    world.resume(reason="on")
    world.resume()
    assert world.status() == "RUNNING"
    assert world.turn() == [
        "orchestratorStarted",
        "executionResumed",
        "eventRaised",
        "eventRaised",
        "taskCompleted",
        "timerFired",
    ]
    assert world.shown().count("executionSuspended") == world.shown().count("executionResumed") == 1
    assert [e.eventRaised.name for e in world.history() if e.HasField("eventRaised")] == ["before", "during"]


def test_suspends_and_resumes_that_pile_up_are_delivered_in_turn(world):
    """Lesson 25."""
    world.start()
    world.turn()
    for _ in range(2):
        world.suspend()
        world.raise_event("a", "e")
        world.resume()
    order = [world.turn()[1:] for _ in range(4)]
    assert order == [
        ["executionSuspended"],
        ["executionResumed"],
        ["executionSuspended"],
        ["executionResumed", "eventRaised", "eventRaised"],
    ]


def test_an_instance_that_has_not_begun_does_not_begin_while_suspended(world):
    """Section 3.9 and 4.6."""
    world.start()
    commit = world.suspend()
    assert commit.finished == [world.live["a"]]
    world.raise_event("a", "e")
    assert not world.runnable()
    world.resume()
    assert world.status() == "PENDING"
    assert world.turn() == ["orchestratorStarted", "executionStarted", "eventRaised"]


def test_a_suspend_during_the_first_turn_is_delivered_after_it(world):
    """Section 3.9."""
    world.start()
    world.begin()
    world.suspend()
    world.answer(world.activity(1))
    assert world.status() == "SUSPENDED"
    assert world.turn() == ["orchestratorStarted", "executionSuspended"]
    world.resume()
    assert world.turn() == ["orchestratorStarted", "executionResumed"]


@pytest.mark.parametrize("status", ALL_LIVE)
def test_purging_a_live_instance_is_an_error_if_it_was_named_and_skipped_if_not(world, status):
    """R24 and lesson 52."""
    bring_to(world, status)
    with pytest.raises(HubError) as error:
        requests.purge(world.live["a"], world.ctx, single=True)
    assert error.value.code == "FAILED_PRECONDITION"
    assert not requests.purge(world.live["a"], world.ctx, single=False).deleted


@pytest.mark.parametrize("status", ALL_TERMINAL)
def test_purge_deletes_everything_of_a_terminal_instance(world, status):
    bring_to(world, status)
    world.apply(requests.purge(world.live["a"], world.ctx, single=True))
    assert (world.rows, world.history_rows) == ({}, {})
    assert not requests.purge(None, world.ctx, single=True).deleted


def restart(world, new_id=None):
    request = pb.RestartInstanceRequest(instanceId="a", restartWithNewInstanceId=new_id is not None)
    target = world.live.get(new_id or "a")
    return world.apply(requests.restart(world.live.get("a"), target, request, new_id or "", world.ctx))


def test_a_restart_copies_name_version_input_and_tags(world):
    """Section 3.13."""
    world.start(version=StringValue(value="1.0"), input=StringValue(value="5"), tags={"k": "v"})
    old = world.live["a"].execution_id
    world.turn(world.complete(1, "FAILED", error="no"))
    restart(world)
    state = world.state()
    assert (state.version.value, state.input.value, dict(state.tags)) == ("1.0", "5", {"k": "v"})
    assert state.executionId.value != old
    assert world.status() == "PENDING"
    assert not state.HasField("failureDetails")


@pytest.mark.parametrize("status", ALL_LIVE)
def test_a_live_instance_can_be_restarted_under_a_new_id_only(world, status):
    """Section 1.2 and checklist 22."""
    bring_to(world, status)
    with pytest.raises(HubError) as error:
        restart(world)
    assert error.value.code == "FAILED_PRECONDITION"
    restart(world, "b")
    assert (world.status("a"), world.status("b")) == (status, "PENDING")


def test_restarting_a_missing_instance_is_not_found(world):
    with pytest.raises(HubError) as error:
        restart(world)
    assert error.value.code == "NOT_FOUND"
