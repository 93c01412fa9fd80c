"""Laws over random sequences of signals, calls, critical sections, endings, failures and crashes.

Whatever happens in whatever order: no operation is lost or executed twice, what one sender has sent
runs in order, no lock outlives its owner, nobody who is locked out is served, nobody waits for ever
for a lock, and memory agrees with what is stored.
"""

import contextlib

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import entity_batches, entity_requests
from durabletask_scheduler.hub.model import HubError, TaskKind
from durabletask_scheduler.hub.times import SECOND
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# Shrinking a sequence of this kind takes minutes.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
ENTITIES = ("@c@1", "@c@2", "@c@3")
IDS = ("a", "b", "c")
OPS = [
    *["turn"] * 8,
    *["batch"] * 5,
    *["begin_batch", "answer_batch", "signal"] * 2,
    *["start", "terminate", "lose_batch", "abandon_batch", "time", "crash", "purge_entity"],
]


class Run:
    """Drives a world. Operations have unique names that tell sender and number; entities remember what ran."""

    def __init__(self, world, data):
        self.world = world
        self.data = data
        self.serial = 0
        self.sent = {}  # (entity, sender) -> names of the operations in the order of sending
        self.ran = {}  # entity -> names of the operations in the order in which they were committed
        self.inner_deliver, world.deliver = world.deliver, self.deliver

    def deliver(self, message):
        kind = message.event.WhichOneof("eventType")
        if kind in ("entityOperationCalled", "entityOperationSignaled"):
            self.note(message.target, message.sender, getattr(message.event, kind).operation)
        return self.inner_deliver(message)

    def note(self, entity, sender, name):
        self.sent.setdefault((entity, sender), []).append(name)

    def one(self, values):
        return self.data.draw(st.sampled_from(values))

    def number(self):
        self.serial += 1
        return self.serial

    def live(self, i):
        instance = self.world.live.get(i)
        return instance if instance is not None and not instance.is_terminal else None

    # --- what may happen

    def start(self, i):
        if not self.live(i):
            self.world.start(i)

    def signal(self, i):
        entity, name = self.one(ENTITIES), f"op{self.number()}"
        self.world.signal(entity, name)
        self.note(entity, "client", name)

    def terminate(self, i):
        self.world.terminate(i)

    def turn(self, i):
        if not self.live(i):
            self.world.start(i)
        if not self.world.runnable(i):
            self.world.raise_event(i, "e")
        if self.world.runnable(i):
            self.world.begin(i)
            self.world.answer(*self.actions(i), instance_id=i)

    def actions(self, i):
        made = []
        for _ in range(self.data.draw(st.integers(0, 3))):
            made.append(self.operation(self.one(["call", "signal"])))
        if self.data.draw(st.booleans()):
            made.append(self.section(i))
        ending = self.one([None] * 6 + ["COMPLETED", "FAILED", "CONTINUED_AS_NEW"])
        if ending is not None:
            made.append(self.world.complete(self.number(), ending))
        return [action for action in made if action is not None]

    def operation(self, kind):
        number = self.number()
        make = self.world.entity_call if kind == "call" else self.world.entity_signal
        return make(number, self.one(ENTITIES), f"op{number}")

    def section(self, i):
        """As SDKs do: at most one critical section at a time; its entities may be released one by one."""
        instance = self.world.live[i]
        open_ = [
            task for task in instance.open_tasks.values() if task.kind in (TaskKind.LOCK, TaskKind.CRITICAL_SECTION)
        ]
        if not open_:
            wanted = self.data.draw(st.permutations(ENTITIES))[: self.data.draw(st.integers(1, 3))]
            return self.world.lock(self.number(), *wanted, section=f"s{self.serial}")
        section, *entities = open_[0].target.split("\n")
        if open_[0].kind is TaskKind.LOCK:
            return None
        return self.world.unlock(self.number(), self.one(entities), section)

    def begin_batch(self, i, entity=None):
        entity = entity or self.one(ENTITIES)
        if self.world.batch_waits(entity):
            batch = self.world.begin_batch(entity)
            lock = self.world.entities[entity].lock
            if lock is not None:
                assert {entry.sender for entry in batch.operations} == {lock.owner}, "served although locked out"

    def answer_batch(self, i, entity=None, failures=True):
        entity = entity or self.one(ENTITIES)
        found = self.world.entities.get(entity)
        if found is None or found.batch is None:
            return
        batch, names = found.batch, self.world.operations(found.batch)
        failed = failures and self.one([False, False, False, True])
        done = len(names) if not failures else self.data.draw(st.integers(0, len(names)))
        results = [self.one([self.world.success(), self.world.failed()]) for _ in range(done)]
        state = self.one(["1", "2", None])
        before = self.world.entities[entity].state
        self.world.answer_batch(*results, entity=entity, state=state, error="no" if failed else None)
        found = self.world.entities.get(entity)
        # After ten attempts the rest fails, which counts as done.
        gone = [name for name, e in zip(names, batch.operations) if found is None or e.key not in found.inbox]
        assert len(gone) in (done if done or not failures else 0, len(names))
        self.ran.setdefault(entity, []).extend(gone)
        if failed:
            assert (None if found is None else found.state) == before, "a failed batch changed the state"

    def batch(self, i):
        entity = self.one(ENTITIES)
        self.begin_batch(i, entity)
        self.answer_batch(i, entity)

    def lose_batch(self, i):
        for entity in self.world.entities.values():
            entity_batches.release_batch(entity)

    def abandon_batch(self, i):
        for entity in self.world.entities.values():
            if entity.batch is not None:
                entity_batches.abandon_batch(entity, self.world.ctx)

    def purge_entity(self, i):
        self.world.apply(entity_requests.purge(self.world.entities.get(self.one(ENTITIES)), self.world.ctx))

    def time(self, i):
        self.world.now += 90 * SECOND

    def crash(self, i):
        self.world.crash()

    def step(self):
        with contextlib.suppress(HubError):
            getattr(self, self.one(OPS))(self.one(IDS))
        self.check()

    def settle(self):
        """Every orchestration goes on without new actions until it has all it waits for, then completes."""
        for _ in range(40):
            self.world.now += 90 * SECOND
            for entity in list(self.world.entities):
                self.begin_batch("a", entity)
                self.answer_batch("a", entity, failures=False)
            for i in list(self.world.live):
                if self.live(i) and self.world.runnable(i):
                    self.world.begin(i)
                    self.world.answer(instance_id=i)
                if self.live(i) and not self.waits(i):
                    self.world.raise_event(i, "e")
                    self.world.turn(self.world.complete(self.number()), instance_id=i)
            self.check()

    def waits(self, i):
        """Whoever waits, in a critical section, for the result of a call made before may wait for ever."""
        kinds = {task.kind for task in self.world.live[i].open_tasks.values()}
        return TaskKind.LOCK in kinds or (TaskKind.CALL in kinds and TaskKind.CRITICAL_SECTION not in kinds)

    # --- the laws

    def check(self):
        for entity in self.world.entities.values():
            stored = self.world.stored_entity(entity.key)
            entries = {**{e.key: e for e in entity.scheduled}, **entity.inbox}
            assert sorted(entries) == [*stored.inbox, *(e.key for e in stored.scheduled)]
            assert (stored.state, stored.lock) == (entity.state, entity.lock)
            assert not entity.is_empty
            self.check_lock(entity)
        assert {row.entity_key for row in self.world.entity_inbox.values()} <= self.world.entity_rows.keys()

    def check_lock(self, entity):
        """No lock, and no request of one, outlives its owner, unless it was given back in good order.

        Then it ends with the last operation that the owner has sent before.
        """
        waiting = entity.inbox.values()
        owners = [e.sender for e in waiting if e.event.HasField("entityLockRequested")]
        given_back = {e.sender for e in waiting if e.event.HasField("entityUnlockSent")}
        if entity.lock is not None and entity.lock.owner not in given_back:
            owners.append(entity.lock.owner)
        for owner in owners:
            instance = self.world.live[owner.instance_id]
            assert not instance.is_terminal and instance.execution_id == owner.execution_id
        front = next(iter(entity.inbox.values()), None)
        if entity.lock is None and front is not None:
            assert not front.event.HasField("entityLockRequested"), "nobody holds it and somebody waits for it"

    def check_operations(self):
        for (entity, _), names in self.sent.items():
            ran = [name for name in self.ran.get(entity, []) if name in set(names)]
            assert ran == names, f"{entity}: sent {names}, ran {ran}"
        assert sum(map(len, self.ran.values())) == sum(map(len, self.sent.values()))


@pytest.mark.timeout(100)
@settings(max_examples=150, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_operation_is_lost_or_doubled_and_no_lock_outlives_its_owner(make_world, data):
    """Lessons 62 to 65; checklist 9 to 12; headline set "lock"."""
    run = Run(make_world(), data)
    for _ in range(data.draw(st.integers(1, 60))):
        run.step()
    run.settle()
    run.check_operations()
    assert not [e.instance_id for e in run.world.entities.values() if e.lock is not None or e.backlog]
    assert not [i for i in run.world.live if run.live(i)], "somebody waits for ever"


def test_the_empty_answer_is_no_answer(world):
    """A worker that answers nothing at all cannot make an entity spin."""
    world.signal(ENTITIES[0])
    world.begin_batch(ENTITIES[0])
    world.apply(
        entity_batches.complete_batch(
            world.entities[ENTITIES[0]],
            pb.EntityBatchResult(completionToken=world.entities[ENTITIES[0]].batch.token),
            world.ctx,
        )
    )
    assert not world.batch_waits(ENTITIES[0])
    assert world.entities[ENTITIES[0]].backlog == 1
