"""Laws over random sequences of requests, answers and crashes on a small world.

Whatever happens in whatever order: no external event, result or timer is lost or doubled, the
history is well formed and agrees with the status, and memory agrees with what is stored.
"""

import contextlib
import dataclasses

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import requests, turns
from durabletask_scheduler.hub.model import HubError, TaskKind
from durabletask_scheduler.hub.times import SECOND
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# Shrinking a sequence of this kind takes minutes.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
IDS = ("a", "a", "b", "c")
CONFIRMATIONS = {
    "taskScheduled": TaskKind.ACTIVITY,
    "timerCreated": TaskKind.TIMER,
    "subOrchestrationInstanceCreated": TaskKind.CHILD,
}
RESULTS = {
    "taskCompleted": (TaskKind.ACTIVITY, "taskScheduledId"),
    "taskFailed": (TaskKind.ACTIVITY, "taskScheduledId"),
    "timerFired": (TaskKind.TIMER, "timerId"),
    "subOrchestrationInstanceCompleted": (TaskKind.CHILD, "taskScheduledId"),
    "subOrchestrationInstanceFailed": (TaskKind.CHILD, "taskScheduledId"),
}
OPS = [
    *["turn"] * 6,
    *["raise", "activity", "begin", "answer"] * 2,
    *["start", "suspend", "resume", "terminate", "activity_again", "time", "abandon", "release", "crash"],
    *["purge", "rewind", "restart"],
]


class Run:
    """Drives a world, and remembers what must not be lost."""

    def __init__(self, world, data):
        self.world = world
        self.data = data
        self.serial = 0
        self.sent = {}  # event name -> key of the instance row that accepted it
        self.seen = {}  # event name -> how many committed turns of that row have consumed it
        self.rewound = set()  # keys of rows that were terminal once: what waited then is gone

        self.inner_deliver, world.deliver = world.deliver, self.deliver

    def deliver(self, message):
        """An event sent to an instance that is live when it arrives counts as raised."""
        if message.event.HasField("eventRaised") and self.live(message.target):
            self.sent[message.event.eventRaised.name] = self.world.live[message.target].key
        return self.inner_deliver(message)

    def draw(self, strategy):
        return self.data.draw(strategy)

    def one(self, values):
        return self.data.draw(st.sampled_from(values))

    def new_name(self):
        self.serial += 1
        return f"e{self.serial}"

    def live(self, instance_id):
        instance = self.world.live.get(instance_id)
        return instance if instance is not None and not instance.is_terminal else None

    def start(self, i):
        self.world.start(i)

    def raise_(self, i):
        name = self.new_name()
        self.world.raise_event(i, name)
        if self.live(i):
            self.sent[name] = self.world.live[i].key

    def suspend(self, i):
        self.world.suspend(i)

    def resume(self, i):
        self.world.resume(i)

    def terminate(self, i):
        self.world.terminate(i, None, self.draw(st.booleans()))

    def begin(self, i):
        if self.live(i) and self.world.runnable(i):
            self.world.begin(i)

    def turn(self, i):
        """A turn during which events arrive."""
        self.raise_or_not(i)
        self.begin(i)
        self.raise_or_not(i)
        self.answer(i)

    def raise_or_not(self, i):
        if self.live(i) and self.draw(st.booleans()):
            self.raise_(i)

    def answer(self, i):
        instance = self.live(i)
        if instance is None or instance.turn is None:
            return
        turn = instance.turn
        names = [e.eventRaised.name for e in turn.events if e.HasField("eventRaised")]
        actions, carried = self.actions(names)
        self.world.answer(*actions, instance_id=i)
        for name in names:
            if name not in carried:
                self.seen[name] = self.seen.get(name, 0) + 1

    def actions(self, names):
        world, made = self.world, []
        for number in self.draw(st.lists(st.integers(1, 6), max_size=4)):
            kind = self.one(["activity", "timer", "child", "send"])
            if kind == "send":
                made.append(world.send(number, self.one(IDS), self.new_name()))
            elif kind == "child":
                made.append(world.child(number, self.one(IDS)))
            else:
                made.append(getattr(world, kind)(number))
        carried = []
        ending = self.one([None, None, None, "CONTINUED_AS_NEW", "CONTINUED_AS_NEW", "COMPLETED", "FAILED"])
        if ending == "CONTINUED_AS_NEW":
            carried = names[len(names) // 2 :]
        if ending is not None:
            events = [pb.HistoryEvent(eventId=-1, eventRaised=pb.EventRaisedEvent(name=n)) for n in carried]
            made.insert(0, world.complete(9, ending, carryoverEvents=events))
        return made, carried

    def activity(self, i):
        if self.live(i) and self.world.open(i):
            error = self.one([None, "boom"])
            self.world.finish_activity(self.one(self.world.open(i)), error=error, instance_id=i)

    def activity_again(self, i):
        if self.live(i) and self.world.open(i):
            task = self.one(self.world.open(i))
            self.world.finish_activity(task, instance_id=i)
            assert not self.world.finish_activity(task, instance_id=i).inbox_added

    def time(self, i):
        self.world.now += 30 * SECOND
        for each in self.world.live:
            self.world.fire(each)

    def abandon(self, i):
        if self.live(i):
            turns.abandon_turn(self.world.live[i], self.world.ctx)

    def release(self, i):
        if self.live(i):
            turns.release_turn(self.world.live[i])

    def crash(self, i):
        self.world.crash()

    def purge(self, i):
        self.world.apply(requests.purge(self.world.live.get(i), self.world.ctx, single=False))

    def rewind(self, i):
        if i in self.world.live:
            ended = {instance.key for instance in self.world.live.values() if instance.is_terminal}
            self.world.rewind(i)
            self.rewound |= {x.key for x in self.world.live.values() if x.key in ended and not x.is_terminal}

    def restart(self, i):
        request = pb.RestartInstanceRequest(instanceId=i)
        source = self.world.live.get(i)
        self.world.apply(requests.restart(source, source, request, "", self.world.ctx))

    def step(self):
        operation, instance_id = self.one(OPS), self.one(IDS)
        # A refusal changes nothing, which check() verifies against the store.
        with contextlib.suppress(HubError):
            getattr(self, "raise_" if operation == "raise" else operation)(instance_id)
        self.check()

    def settle(self):
        """Let everything that can happen without new actions happen."""
        for _ in range(40):
            self.world.now += 120 * SECOND
            for i in list(self.world.live):
                self.world.resume(i)
                self.world.fire(i)
                for task in self.world.open(i):
                    self.world.finish_activity(task, instance_id=i)
                if self.live(i) and self.world.live[i].turn is None and self.world.runnable(i):
                    self.world.begin(i)
                if self.live(i) and self.world.live[i].turn is not None:
                    names = [e.eventRaised.name for e in self.world.live[i].turn.events if e.HasField("eventRaised")]
                    self.world.answer(instance_id=i)
                    for name in names:
                        self.seen[name] = self.seen.get(name, 0) + 1
            self.check()

    # --- the laws

    def check(self):
        for instance in self.world.live.values():
            check_history(self.world, instance)
            check_store(self.world, instance)

    def check_nothing_is_lost(self):
        for name, key in self.sent.items():
            owner = next((x for x in self.world.live.values() if x.key == key), None)
            count = self.seen.get(name, 0)
            assert count <= 1, f"{name} was delivered {count} times"
            if owner is not None and not owner.is_terminal and key not in self.rewound:
                assert count == 1, f"{name} was lost"


def check_history(world, instance):
    history = world.history(instance.instance_id)
    kinds = world.kinds(history)
    assert ("executionCompleted" in kinds) == instance.is_terminal
    if not history:
        assert instance.event_count == 0
        return
    assert instance.event_count == len(history)
    assert kinds[:2] == ["orchestratorStarted", "executionStarted"]
    assert kinds.count("executionStarted") == 1
    if instance.is_terminal:
        assert kinds.count("executionCompleted") == 1
        assert history[-1].executionCompleted.orchestrationStatus == instance.status
    clocks = [e.timestamp.ToNanoseconds() for e in history if e.HasField("orchestratorStarted")]
    assert clocks == sorted(set(clocks))
    unresolved = check_results(history, kinds)
    waiting = {(t.kind, t.task_id) for t in instance.open_tasks.values()}
    for entry in instance.inbox:
        kind = entry.event.WhichOneof("eventType")
        if kind in RESULTS:
            waiting.add((RESULTS[kind][0], getattr(getattr(entry.event, kind), RESULTS[kind][1])))
    if not instance.is_terminal:
        assert unresolved == waiting, "what the history waits for is open, or its result is in the inbox"
    suspended = 0
    for kind in kinds:
        suspended += (kind == "executionSuspended") - (kind == "executionResumed")
        assert suspended in (0, 1)


def check_results(history, kinds):
    unresolved = set()
    for event, kind in zip(history, kinds):
        if kind in CONFIRMATIONS:
            assert (CONFIRMATIONS[kind], event.eventId) not in unresolved
            unresolved.add((CONFIRMATIONS[kind], event.eventId))
        elif kind in RESULTS:
            task_kind, field = RESULTS[kind]
            key = (task_kind, getattr(getattr(event, kind), field))
            assert key in unresolved, f"{kind} without a task"
            unresolved.discard(key)
    return unresolved


def check_store(world, instance):
    stored = world.stored(instance.key)
    for field in dataclasses.fields(instance):
        if field.compare and field.name not in ("clock", "turn", "abandoned", "not_before", "open_tasks", "inbox"):
            assert getattr(stored, field.name) == getattr(instance, field.name), field.name
    assert stored.open_tasks.keys() == instance.open_tasks.keys()
    assert [e.key for e in stored.inbox] == sorted(e.key for e in instance.inbox if e.key)


@pytest.mark.timeout(100)
@settings(max_examples=200, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_is_lost_or_doubled_and_status_agrees_with_history(make_world, data):
    """Lessons 16, 17, 20, 24, 25, 47, 50, 58; headline set "event loss"."""
    run = Run(make_world(), data)
    run.start("a")
    for _ in range(data.draw(st.integers(1, 40))):
        run.step()
    run.settle()
    run.check_nothing_is_lost()
    assert not any(run.world.runnable(i) for i in run.world.live)


def test_the_same_context_gives_the_same_commits(make_world):
    """The hub is deterministic: time and ids come from outside."""

    def play():
        world = make_world()
        world.start()
        world.turn(world.activity(1), world.timer(2), world.child(3))
        world.finish_activity(world.open()[0])
        world.turn(world.complete(4, "CONTINUED_AS_NEW"))
        world.turn(world.complete(1))
        return [dataclasses.asdict(commit) | {"runnable": 0} for commit in world.commits]

    assert repr(play()) == repr(play())
