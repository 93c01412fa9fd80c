"""Laws over generated orchestrations: however a history is cut, cold or warm, the outcome is the same."""

from datetime import timedelta

from durabletask import task
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_histories import INSTANCE, confirmation, event, failed, started, turn_start
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = task.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)
LEAVES = st.sampled_from(["activity", "retried", "child", "timer", "long timer", "event", "send", "uuid", "status"])
GROUPS = st.tuples(st.sampled_from(["all", "any", "cancel"]), st.lists(LEAVES, min_size=1, max_size=3))
PLANS = st.lists(st.one_of(LEAVES, GROUPS), max_size=6)
# Each choice answers one open call, or raises an event; numbers pick which.
CHOICES = st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(1, 3)), max_size=25)


def begin(ctx, leaf):
    calls = {
        "activity": lambda: ctx.call_activity("a", input=1),
        "retried": lambda: ctx.call_activity("r", retry_policy=POLICY),
        "child": lambda: ctx.call_sub_orchestrator("c"),
        "timer": lambda: ctx.create_timer(timedelta(seconds=3)),
        "long timer": lambda: ctx.create_timer(timedelta(seconds=25)),
        "event": lambda: ctx.wait_for_external_event("E"),
        "send": lambda: ctx.send_event("other", "e", data=ctx.new_uuid()),
        "uuid": lambda: ctx.set_custom_status(ctx.new_uuid()),
        "status": lambda: ctx.set_custom_status(str(ctx.current_utc_datetime)),
    }
    return calls[leaf]()


def follow(plan):
    """A generator and a coroutine that carry out a plan."""

    def generator(ctx, _):
        seen = []
        for entry in plan:
            awaited = prepared(ctx, entry)
            if awaited is None:
                continue
            try:
                result = yield awaited
                seen.append(ctx.current_utc_datetime if isinstance(result, task.Task) else result)
            except task.TaskFailedError as error:
                seen.append(str(error))
        return [str(x) for x in seen]

    async def coroutine(ctx, _):
        seen = []
        for entry in plan:
            awaited = prepared(ctx, entry)
            if awaited is None:
                continue
            try:
                result = await awaited
                seen.append(ctx.current_utc_datetime if isinstance(result, task.Task) else result)
            except task.TaskFailedError as error:
                seen.append(str(error))
        return [str(x) for x in seen]

    return generator, coroutine


def prepared(ctx, entry):
    if isinstance(entry, str):
        return begin(ctx, entry)
    kind, leaves = entry
    tasks = [t for t in (begin(ctx, leaf) for leaf in leaves) if t is not None]
    if not tasks:
        return None
    if kind == "cancel":
        for waiting in tasks:
            if isinstance(waiting, task.CancellableTask):
                waiting.cancel()
        tasks = [t for t in tasks if not t.is_complete]
        return task.when_all(tasks)
    return task.when_all(tasks) if kind == "all" else task.when_any(tasks)


def answer(action, fails):
    kind = action.WhichOneof("orchestratorActionType")
    if kind == "scheduleTask":
        done = event("taskCompleted", taskScheduledId=action.id, result="1")
        return failed("taskFailed", action.id, "no") if fails else done
    if kind == "createSubOrchestration":
        done = event("subOrchestrationInstanceCompleted", taskScheduledId=action.id, result="2")
        return failed("subOrchestrationInstanceFailed", action.id, "no") if fails else done
    fired = event("timerFired", timerId=action.id)
    fired.timerFired.fireAt.CopyFrom(action.createTimer.fireAt)
    return fired


def events_of(choices, open_actions):
    for pick, fails, _ in choices:
        if pick == 0 or not open_actions:
            yield event("eventRaised", name="e", input="5")
        elif pick == 7:
            yield pb.HistoryEvent(eventId=-1, executionSuspended=pb.ExecutionSuspendedEvent())
        elif pick == 6:
            yield pb.HistoryEvent(eventId=-1, executionResumed=pb.ExecutionResumedEvent())
        else:
            yield answer(open_actions.pop(pick % len(open_actions)), fails)


def new_run(orchestrator):
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="orch")
    return OrchestrationRun(INSTANCE, registry, RunOptions(maximum_timer_interval=timedelta(seconds=10)))


def lived(orchestrator, choices):
    """The turns of a whole life on a warm run: the events of each, and what it decided."""
    warm = new_run(orchestrator)
    turns, open_actions, incoming, clock = [], [], [started(None)], 1_000
    choices = list(choices)
    while incoming and not warm.is_complete:
        clock += 1
        new = [turn_start(clock), *incoming]
        result = warm.advance(new)
        warm.confirm()
        turns.append((new, result))
        open_actions += [a for a in result.actions if a.WhichOneof("orchestratorActionType") in ANSWERED]
        size = choices[0][2] if choices else 0
        taken, choices = choices[:size], choices[size:]
        incoming = list(events_of(taken, open_actions))
    warm.close()
    return turns


ANSWERED = ("scheduleTask", "createSubOrchestration", "createTimer")


def flat(turns):
    events = []
    for new, result in turns:
        events += new
        events += [c for c in map(confirmation, result.actions) if c is not None]
    return events


def same(left, right):
    return (left.actions, left.custom_status) == (right.actions, right.custom_status)


@settings(max_examples=120, deadline=None)
@given(plan=PLANS, choices=CHOICES)
def test_a_cold_replay_at_every_turn_decides_what_the_warm_run_decided(plan, choices):
    generator, _ = follow(plan)
    turns = lived(generator, choices)
    for n, (new, result) in enumerate(turns):
        cold = new_run(generator)
        cold.replay(flat(turns[:n]))
        assert same(cold.advance(new), result)
        cold.close()


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, choices=CHOICES)
def test_replaying_twice_and_replaying_as_one_turn_give_the_same_state(plan, choices):
    generator, _ = follow(plan)
    turns = lived(generator, choices)
    history = flat(turns)
    results = []
    for cut in range(len(history)):
        run = new_run(generator)
        run.replay(history[:cut])
        results.append(run.advance(history[cut:]))
        run.close()
    assert all(same(result, results[0]) for result in results)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, choices=CHOICES)
def test_a_coroutine_lives_as_the_generator_does(plan, choices):
    generator, coroutine = follow(plan)
    first, second = lived(generator, choices), lived(coroutine, choices)
    assert len(first) == len(second)
    for (_, left), (_, right) in zip(first, second):
        assert same(left, right)
