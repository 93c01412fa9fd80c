"""Locks of entities: one order, exclusive use, and nothing that outlives its owner (backend semantics, 5.6)."""

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import entity_batches, entity_requests
from durabletask_scheduler.hub.model import HubError, TaskKind
from durabletask_scheduler.hub.times import SECOND, to_timestamp

A, B, C = "@counter@a", "@counter@b", "@counter@c"


def hold(world, *entities, instance_id="a", section="s"):
    """An orchestration that has entered a critical section."""
    world.start(instance_id)
    world.turn(world.lock(1, *entities, section=section), instance_id=instance_id)
    assert world.turn(instance_id=instance_id)[1:] == ["entityLockGranted"]


def held(world):
    return {entity.instance_id: entity.lock.owner.instance_id for entity in world.entities.values() if entity.lock}


def test_a_lock_set_is_acquired_in_the_order_of_the_server_and_kept_as_sent(world):
    world.start()
    world.turn(world.lock(1, "@Counter@b", A, B))
    sent = world.history()[-1]
    assert sent.eventId == 1
    assert list(sent.entityLockRequested.lockSet) == ["@Counter@b", A, B]
    assert sent.entityLockRequested.position == 0
    assert held(world) == {A: "a", B: "a"}
    assert world.turn() == ["orchestratorStarted", "entityLockGranted"]
    granted = world.history()[-1]
    assert (granted.eventId, granted.entityLockGranted.criticalSectionId) == (-1, "s")


def test_opposite_lock_sets_do_not_deadlock(world):
    """Checklist 9."""
    hold(world, A, B)
    for name, lock_set in (("b", (B, A)), ("c", (A, B))):
        world.start(name)
        world.turn(world.lock(1, *lock_set, section=name), instance_id=name)
    for owner, heir in (("a", "b"), ("b", "c")):
        assert held(world) == {A: owner, B: owner}
        world.raise_event(owner, "e")
        section = "s" if owner == "a" else owner
        world.turn(world.unlock(2, B, section), world.unlock(3, A, section), instance_id=owner)
        assert world.turn(instance_id=heir)[1:] == ["entityLockGranted"]


def test_only_the_owner_is_served_and_ahead_of_others(world):
    hold(world, A)
    world.signal(operation="client")
    world.start("b")
    world.turn(world.entity_call(1, operation="other"), world.lock(2, A, section="b"), instance_id="b")
    assert not world.batch_waits()
    world.raise_event("a", "e")
    world.turn(world.entity_call(2, operation="own call"), world.entity_signal(3, operation="own signal"))
    world.crash()
    assert world.run_batch() == ["own call", "own signal"]
    world.turn(world.unlock(4, A))
    assert world.run_batch() == ["client", "other"]
    assert world.owner() == "b"


def test_a_lock_request_does_not_come_up_before_a_due_signal_after_a_restart(world):
    world.signal(operation="later", scheduledTime=to_timestamp(world.now + SECOND))
    world.now += SECOND
    assert world.batch_waits()
    world.start()
    world.turn(world.lock(1, A))
    assert world.owner() is None
    world.crash()
    assert world.run_batch() == ["later"]
    assert world.owner() == "a"


def test_an_unlock_does_not_come_up_before_a_due_signal_of_its_owner_after_a_restart(world):
    hold(world, A)
    world.signal(operation="client")
    world.raise_event("a", "e")
    later = world.entity_signal(2, operation="later")
    later.sendEntityMessage.entityOperationSignaled.scheduledTime.CopyFrom(to_timestamp(world.now + 60 * SECOND))
    world.turn(later)
    assert not world.batch_waits()
    world.now += 60 * SECOND
    assert world.batch_waits()
    world.raise_event("a", "e")
    world.turn(world.unlock(3, A))
    assert world.owner() == "a"
    world.crash()
    assert world.run_batch() == ["later"]
    assert world.owner() is None
    assert world.run_batch() == ["client"]


def test_a_batch_stops_before_a_lock_request(world):
    world.signal(operation="before")
    world.start()
    world.turn(world.lock(1, A))
    world.signal(operation="after")
    assert world.owner() is None
    assert world.run_batch() == ["before"]
    assert world.owner() == "a"
    assert not world.batch_waits()


def test_an_unlock_takes_effect_after_what_the_owner_sent_before(world):
    hold(world, A)
    world.signal(operation="client")
    world.raise_event("a", "e")
    world.turn(world.entity_signal(2, operation="last"), world.unlock(3, A), world.complete(4))
    assert world.owner() == "a"
    assert world.run_batch() == ["last"]
    assert world.owner() is None
    assert world.run_batch() == ["client"]


@pytest.mark.parametrize(("section", "instance_id"), [("other", "a"), ("s", "b")])
def test_an_unlock_of_somebody_else_is_ignored(world, section, instance_id):
    hold(world, A)
    if instance_id == "b":
        world.start("b")
    else:
        world.raise_event("a", "e")
    world.turn(world.unlock(5, A, section), instance_id=instance_id)
    assert world.owner() == "a"


def test_a_repeated_lock_request_is_dropped(world):
    world.start()
    world.turn(world.lock(1, A))
    world.begin()
    world.answer(world.lock(1, A))
    world.raise_event("a", "e")
    world.turn(world.lock(1, A))
    assert world.shown().count("entityLockRequested") == 1
    assert len(world.open("a", TaskKind.CRITICAL_SECTION)) == 1


@pytest.mark.parametrize("released", [(A,), (A, B), (A, B, C)])
def test_entities_released_in_the_last_turn_leave_no_task_behind(world, released):
    hold(world, A, B, C)
    world.raise_event("a", "e")
    world.turn(*[world.unlock(number, entity) for number, entity in enumerate(released, 2)], world.complete(9))
    assert world.tasks == {} and held(world) == {}


def test_entities_are_released_one_by_one(world):
    hold(world, A, B, C)
    for number, entity in enumerate((B, A, C), 2):
        world.raise_event("a", "e")
        world.turn(world.unlock(number, entity))
        world.crash()
        assert entity not in held(world)
        assert len(world.tasks) == (number < 4)
    assert held(world) == {}


def test_an_empty_lock_set_fails_the_orchestration(world):
    world.start()
    world.turn(world.lock(1))
    assert "at least one entity" in world.state().failureDetails.errorMessage


ENDINGS = {
    "completes": lambda world: world.turn(world.complete(9)),
    "fails": lambda world: world.turn(world.complete(9, "FAILED", error="x")),
    "continues as new": lambda world: world.turn(world.complete(9, "CONTINUED_AS_NEW")),
    "is not understood": lambda world: world.turn(pb.OrchestratorAction(id=9)),
    "is terminated": lambda world: world.terminate(),
    "is replaced": lambda world: world.start(
        orchestrationIdReusePolicy=pb.OrchestrationIdReusePolicy(
            replaceableStatus=[pb.ORCHESTRATION_STATUS_RUNNING, pb.ORCHESTRATION_STATUS_TERMINATED]
        )
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_stays_locked_when_its_owner(world, ending):
    """Lessons 62, 64 and checklist 10, while holding: in the same transaction, without a worker."""
    hold(world, A, B)
    world.start("next")
    world.turn(world.lock(1, B, A, section="n"), instance_id="next")
    world.raise_event("a", "e")
    ENDINGS[ending](world)
    assert held(world) == {A: "next", B: "next"}
    assert world.turn(instance_id="next")[1:] == ["entityLockGranted"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_that_it_has_asked_to_hold_stays_asked_when_its_owner(world, ending):
    """Checklist 10, between request and grant: it holds A and waits for B."""
    hold(world, B, instance_id="first")
    world.start()
    world.turn(world.lock(1, A, B))
    assert held(world) == {A: "a", B: "first"}
    world.raise_event("a", "e")
    assert world.entities[B].backlog == 1
    ENDINGS[ending](world)
    assert held(world) == {B: "first"}
    assert world.entities[B].backlog == 0 and world.entity_inbox == {}
    world.terminate("first")
    assert held(world) == {} and world.entity_inbox == {}
    assert world.entities == {}, "entities that nothing is left of are removed"


def test_a_request_is_not_passed_on_when_its_owner_ends_together_with_the_holder(world):
    """Its parent holds the first entity: to end both sets that free, but not for the dead one."""
    hold(world, C, instance_id="long", section="l")
    hold(world, B, instance_id="short", section="t")
    hold(world, A)
    world.raise_event("a", "e")
    world.turn(world.child(2, "child"))
    world.turn(world.lock(1, A, B, C, section="c"), instance_id="child")
    world.terminate(recursive=True)
    assert held(world) == {B: "short", C: "long"}
    world.raise_event("short", "e")
    world.turn(world.unlock(2, B, "t"), instance_id="short")
    assert held(world) == {C: "long"}


def test_a_generation_that_ends_asks_for_no_lock(world):
    world.start()
    world.turn(world.lock(1, A), world.complete(2))
    assert world.entities == {}


def test_a_grant_that_comes_too_late_lets_the_entities_go(world):
    """Checklist 10: a recursive terminate reaches the heir in the commit that made it the holder."""
    world.start("parent")
    world.turn(world.child(1, "a"), world.child(2, "b"), instance_id="parent")
    world.turn(world.lock(1, A, B), instance_id="a")
    world.turn(instance_id="a")
    world.turn(world.lock(1, A, B, section="t"), instance_id="b")
    world.terminate("parent", recursive=True)
    assert {world.status(i) for i in ("parent", "a", "b")} == {"TERMINATED"}
    assert world.entities == {} and world.entity_inbox == {}


def test_a_restart_in_the_middle_of_an_acquisition_goes_on_where_it_was(world):
    """Lesson 63."""
    hold(world, B, instance_id="first")
    world.start()
    world.turn(world.lock(1, A, B))
    world.crash()
    world.terminate("first")
    world.crash()
    assert held(world) == {A: "a", B: "a"}
    assert world.turn()[1:] == ["entityLockGranted"]
    world.raise_event("a", "e")
    world.crash()
    world.turn(world.complete(2))
    assert held(world) == {}


def test_a_lock_changes_hands_while_the_former_owner_s_batch_is_out(world):
    hold(world, A)
    world.start("b")
    world.turn(world.lock(1, A, section="b"), instance_id="b")
    world.raise_event("a", "e")
    world.turn(world.entity_call(2, operation="slow"))
    world.begin_batch()
    world.terminate("a")
    assert world.owner() == "b"
    entity_batches.release_batch(world.entities[A])
    world.crash()
    assert not world.batch_waits(), "what the former owner sent waits like everything else"
    world.terminate("b")
    assert world.run_batch() == ["slow"]


def test_purging_a_locked_entity_leaves_it_to_its_owner(world):
    hold(world, A)
    world.apply(entity_requests.purge(world.entities[A], world.ctx))
    assert world.owner() == "a"


class TestForce:
    def test_the_next_one_gets_what_is_taken_by_force(self, world):
        hold(world, A)
        world.start("b")
        world.turn(world.lock(1, A, section="b"), instance_id="b")
        world.apply(entity_requests.force_unlock(world.entities[A], A, world.ctx))
        assert world.owner() == "b"
        world.raise_event("a", "e")
        world.turn(world.unlock(2, A), world.complete(3))
        assert world.owner() == "b"

    def test_there_must_be_something_to_take(self, world):
        with pytest.raises(HubError, match="there is no entity") as missing:
            entity_requests.force_unlock(None, A, world.ctx)
        world.signal()
        with pytest.raises(HubError, match="not locked") as unlocked:
            entity_requests.force_unlock(world.entities[A], A, world.ctx)
        assert (missing.value.code, unlocked.value.code) == ("NOT_FOUND", "FAILED_PRECONDITION")


class TestRewind:
    """Section 3.11: the failure had released the entities."""

    def fail_inside(self, world):
        hold(world, A, B)
        world.raise_event("a", "e")
        world.turn(world.activity(2))
        world.finish_activity(world.open()[0], error="boom")
        world.turn(world.unlock(3, A), world.unlock(4, B), world.complete(5, "FAILED", error="boom"))
        assert held(world) == {}

    def test_the_critical_section_is_entered_again_before_anything_else(self, world):
        self.fail_inside(world)
        hold(world, B, instance_id="b", section="b")
        world.rewind()
        world.raise_event("a", "other")
        assert not world.runnable()
        world.crash()
        assert not world.runnable()
        world.terminate("b")
        assert held(world) == {A: "a", B: "a"}
        assert world.turn(world.activity(2)) == ["orchestratorStarted", "eventRaised"]
        assert world.shown().count("entityLockGranted") == 1
        world.finish_activity(world.open()[0])
        world.turn(world.unlock(3, A), world.unlock(4, B), world.complete(5))
        assert held(world) == {} and world.status() == "COMPLETED"

    def test_terminating_it_meanwhile_leaves_nothing_locked(self, world):
        self.fail_inside(world)
        hold(world, B, instance_id="b", section="b")
        world.rewind()
        assert world.owner(A) == "a"
        world.terminate()
        world.terminate("b")
        assert held(world) == {} and world.entities == {}

    def test_a_section_that_was_left_is_not_entered_again(self, world):
        hold(world, A)
        world.raise_event("a", "e")
        world.turn(world.unlock(2, A), world.activity(3))
        world.finish_activity(world.open()[0], error="boom")
        world.turn(world.complete(4, "FAILED", error="boom"))
        world.rewind()
        assert held(world) == {}
        assert world.runnable()
