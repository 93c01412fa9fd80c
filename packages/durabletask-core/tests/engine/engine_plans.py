"""Generated orchestrators and generated lives: what the laws of replay are tried on.

A life has one or more generations, each a plan and the way it ends. A plan is a list of entries, carried out in order:
a leaf is one call, a group starts several entries and awaits all or any of them, or cancels what can be cancelled.
"""

from datetime import timedelta
from typing import NamedTuple

from durabletask import task
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import INSTANCE, confirmation, event, failed, started, turn_start
from hypothesis import strategies as st

POLICY = task.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)

BEGIN = {
    "activity": lambda ctx: ctx.call_activity("a", input=1),
    "retried activity": lambda ctx: ctx.call_activity("r", retry_policy=POLICY),
    "child": lambda ctx: ctx.call_sub_orchestrator("c", input=ctx.new_uuid()),
    "retried child": lambda ctx: ctx.call_sub_orchestrator("rc", retry_policy=POLICY, version="2.0"),
    "timer": lambda ctx: ctx.create_timer(timedelta(seconds=3)),
    "long timer": lambda ctx: ctx.create_timer(timedelta(seconds=25)),
    "event": lambda ctx: ctx.wait_for_external_event("E"),
    "send": lambda ctx: ctx.send_event("other", "e", data=ctx.new_uuid()),
    "uuid": lambda ctx: ctx.set_custom_status(ctx.new_uuid()),
    "time": lambda ctx: ctx.set_custom_status(str(ctx.current_utc_datetime)),
}
LEAVES = st.sampled_from([*BEGIN, "retried activity", "retried child"])
ENTRIES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from(["all", "any", "cancel"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)
PLANS = st.one_of(st.lists(ENTRIES, max_size=2), st.lists(ENTRIES, min_size=3, max_size=6))
ENDS = st.sampled_from(["return", "raise", "again", "again without events", "again as version 2.0"])


class Life(NamedTuple):
    """Plans with their ends, one for each generation; and the longest timer that the backend is given."""

    generations: list
    longest_timer: timedelta | None


LIVES = st.builds(
    Life,
    st.lists(st.tuples(PLANS, ENDS), min_size=1, max_size=3),
    st.sampled_from([None, timedelta(seconds=10)]),
)

# What happens from outside: answers to the calls that are open, and what nobody asked for.
HAPPENINGS = st.sampled_from(["answer"] * 5 + ["refuse"] * 4 + ["raise"] * 3 + ["repeat", "suspend", "resume"])
_FATE = st.tuples(HAPPENINGS, st.integers(0, 5), st.integers(1, 3))
FATES = st.one_of(st.lists(_FATE, max_size=10), st.lists(_FATE, min_size=12, max_size=40))


class Turn(NamedTuple):
    """The events of one turn, and what it decided."""

    events: list
    result: object


def prepared(ctx, entry, waits):
    """Start an entry; what is to be awaited, or None."""
    if isinstance(entry, str):
        begun = BEGIN[entry](ctx)
        if entry == "event":
            waits.append(begun)
        return begun
    kind, inner = entry
    tasks = [t for t in (prepared(ctx, each, waits) for each in inner) if t is not None]
    if kind == "cancel":
        for waiting in tasks:
            if isinstance(waiting, task.CancellableTask):
                waiting.cancel()
        tasks = [t for t in tasks if not t.is_complete]
    if kind == "any" and tasks:
        return task.when_any(tasks)
    return task.when_all(tasks)


def ended(ctx, end, number, seen):
    if end == "raise":
        raise ValueError(str(seen))
    if end == "return":
        return seen
    ctx.continue_as_new(
        number + 1, save_events=end != "again without events", new_version="2.0" if "version" in end else None
    )
    return None


def text(ctx, result):
    """A result as text that says the same in every replay; of a winning task only that there was one, and when."""
    if isinstance(result, list):
        return str([text(ctx, each) for each in result])
    return f"won at {ctx.current_utc_datetime}" if isinstance(result, task.Task) else str(result)


def follow(life, waits=None):
    """A generator function and a coroutine function that live this life; ``waits`` gets the waits for events."""
    waits = [] if waits is None else waits

    def generator(ctx, number):
        plan, end = life.generations[number]
        seen = []
        for entry in plan:
            awaited = prepared(ctx, entry, waits)
            if awaited is not None:
                try:
                    seen.append(text(ctx, (yield awaited)))
                except task.TaskFailedError as error:
                    seen.append(str(error))
        return ended(ctx, end, number, seen)

    async def coroutine(ctx, number):
        plan, end = life.generations[number]
        seen = []
        for entry in plan:
            awaited = prepared(ctx, entry, waits)
            if awaited is not None:
                try:
                    seen.append(text(ctx, await awaited))
                except task.TaskFailedError as error:
                    seen.append(str(error))
        return ended(ctx, end, number, seen)

    return generator, coroutine


def new_run(orchestrator, life):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    return OrchestrationRun(INSTANCE, registry, RunOptions(maximum_timer_interval=life.longest_timer))


def flat(turns):
    """The history that turns leave behind."""
    events = []
    for new, result in turns:
        events += new
        events += [c for c in map(confirmation, result.actions) if c is not None]
    return events


def without_stack(result):
    """What a turn decided but for the places in the code, which differ between two functions that do the same."""
    copies = [pb.OrchestratorAction.FromString(a.SerializeToString()) for a in result.actions]
    for action in copies:
        if action.HasField("completeOrchestration"):
            action.completeOrchestration.failureDetails.ClearField("stackTrace")
    return copies, result.custom_status


def completion(result):
    done = [a.completeOrchestration for a in result.actions if a.HasField("completeOrchestration")]
    assert len(done) <= 1
    return done[0] if done else None


class Outside:
    """The rest of the world: answers calls, raises numbered events, and now and then repeats itself."""

    def __init__(self, fate):
        self._fate = list(fate)
        self._open = []
        self._last = None
        self.raised = []

    @property
    def is_over(self):
        return not self._fate

    def has_asked(self, actions):
        self._open += [a for a in actions if a.WhichOneof("orchestratorActionType") in ANSWERS]

    def forgets_the_generation(self):
        self._open, self._last = [], None

    def next_events(self):
        """The events of one more turn; possibly none."""
        size = self._fate[0][2]
        now, self._fate = self._fate[:size], self._fate[size:]
        return [e for e in (self._happen(what, pick) for what, pick, _ in now) if e is not None]

    def _happen(self, what, pick):
        if what == "raise":
            self.raised.append(str(len(self.raised)))
            return event("eventRaised", name="eE"[pick % 2], input=self.raised[-1])
        if what == "suspend":
            return pb.HistoryEvent(eventId=-1, executionSuspended=pb.ExecutionSuspendedEvent())
        if what == "resume":
            return pb.HistoryEvent(eventId=-1, executionResumed=pb.ExecutionResumedEvent())
        if what != "repeat" and self._open:
            action = self._open.pop(pick % len(self._open))
            self._last = ANSWERS[action.WhichOneof("orchestratorActionType")](action, what == "refuse")
        return self._last


def _activity_answer(action, refused):
    done = event("taskCompleted", taskScheduledId=action.id, result="1")
    return failed("taskFailed", action.id, "no") if refused else done


def _child_answer(action, refused):
    done = event("subOrchestrationInstanceCompleted", taskScheduledId=action.id, result="2")
    return failed("subOrchestrationInstanceFailed", action.id, "no") if refused else done


def _timer_answer(action, _):
    fired = event("timerFired", timerId=action.id)
    fired.timerFired.fireAt.CopyFrom(action.createTimer.fireAt)
    return fired


ANSWERS = {"scheduleTask": _activity_answer, "createSubOrchestration": _child_answer, "createTimer": _timer_answer}


def lived(orchestrator, life, outside):
    """The generations of a whole life on warm runs, each a list of turns."""
    generations, clock, number, carried = [], 1_000, 0, []
    while True:
        warm, turns = new_run(orchestrator, life), []
        incoming = [started(str(number)), *carried]
        while not warm.is_complete:
            clock += 1
            new = [turn_start(clock), *incoming]
            result = warm.advance(new)
            warm.confirm()
            turns.append(Turn(new, result))
            outside.has_asked(result.actions)
            if outside.is_over:
                break
            incoming = [] if warm.is_complete else outside.next_events()
        warm.close()
        generations.append(turns)
        done = completion(turns[-1].result)
        again = done is not None and done.orchestrationStatus == pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW
        number += 1
        if not again or number == len(life.generations):
            return generations
        carried = list(done.carryoverEvents)
        outside.forgets_the_generation()
