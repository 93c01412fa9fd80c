"""Laws over generated orchestrations: however a history is cut, cold or warm, the outcome is the same."""

from collections import Counter
from itertools import chain

from durabletask.replay.options import COMPLETED, FAILED, FIRED, RETRYING
from durabletask_proto import orchestrator_service_pb2 as pb
from engine_plans import FATES, LIVES, Outside, completion, flat, follow, lived, new_run, without_stack
from hypothesis import given, settings


def same(left, right):
    return (left.actions, left.custom_status) == (right.actions, right.custom_status)


def generations_of(life, fate):
    generator, _ = follow(life)
    return generator, lived(generator, life, Outside(fate))


@settings(max_examples=120, deadline=None)
@given(life=LIVES, fate=FATES)
def test_another_worker_that_takes_over_at_any_turn_decides_what_the_first_decided(life, fate):
    """Replayed whole at every turn, then kept warm to the end."""
    generator, generations = generations_of(life, fate)
    for turns in generations:
        for n in range(len(turns)):
            successor = new_run(generator, life)
            successor.replay(flat(turns[:n]))
            for new, result in turns[n:]:
                assert same(successor.advance(new), result)
                successor.confirm()
            successor.close()


@settings(max_examples=60, deadline=None)
@given(life=LIVES, fate=FATES)
def test_a_history_cut_anywhere_into_past_and_new_gives_the_same_state(life, fate):
    generator, generations = generations_of(life, fate)
    for turns in generations:
        history = flat(turns)
        decided = completion(turns[-1].result)
        for cut in range(len(history)):
            run = new_run(generator, life)
            run.replay(history[:cut])
            result = run.advance(history[cut:])
            run.close()
            # Everything but the end is in the history: it is confirmed, and not asked for again.
            assert [a.completeOrchestration for a in result.actions] == ([] if decided is None else [decided])
            assert result.custom_status == turns[-1].result.custom_status


@settings(max_examples=60, deadline=None)
@given(life=LIVES, fate=FATES)
def test_a_life_interrupted_at_every_event_ends_as_one_that_was_not(life, fate):
    """One event at a time, each on a run that has replayed all events before it, and on one that was kept warm."""
    generator, generations = generations_of(life, fate)
    for turns in generations:
        history = flat(turns)
        warm = new_run(generator, life)
        for n, each in enumerate(history):
            cold = new_run(generator, life)
            cold.replay(history[:n])
            result = cold.advance([each])
            cold.close()
            assert same(warm.advance([each]), result)
        warm.close()
        assert completion(result) == completion(turns[-1].result)
        assert result.custom_status == turns[-1].result.custom_status


@settings(max_examples=60, deadline=None)
@given(life=LIVES, fate=FATES)
def test_a_coroutine_lives_as_the_generator_does(life, fate):
    generator, coroutine = follow(life)
    first, second = (lived(orchestrator, life, Outside(fate)) for orchestrator in (generator, coroutine))
    assert [len(turns) for turns in first] == [len(turns) for turns in second]
    for left, right in zip(chain(*first), chain(*second)):
        assert without_stack(left.result) == without_stack(right.result)


@settings(max_examples=200, deadline=None)
@given(life=LIVES, fate=FATES)
def test_no_event_is_lost_or_delivered_twice_or_out_of_turn(life, fate):
    """Lessons 16 and 17, over all generations that hand their events on."""
    keeping = [(plan, "again" if end == "again without events" else end) for plan, end in life.generations]
    life = life._replace(generations=keeping)
    waits, outside = [], Outside(fate)
    generator, _ = follow(life, waits)
    generations = lived(generator, life, outside)
    received = [str(w.get_result()) for w in waits if w.is_complete and not w.is_cancelled]
    assert received == outside.raised[: len(received)]
    last = completion(generations[-1][-1].result)
    if last is not None and last.orchestrationStatus == pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW:
        handed_on = [e.eventRaised.input.value for e in last.carryoverEvents]
        held_back = len(outside.raised) - len(received) - len(handed_on)
        assert handed_on == outside.raised[len(received) : len(received) + len(handed_on)]
        assert held_back == 0


CALLS = ("call_activity", "call_sub_orchestrator")
TRIED = {
    *("taskScheduled", "timerCreated", "subOrchestrationInstanceCreated", "eventRaised", "eventSent"),
    *("executionSuspended", "executionResumed", "generations after the first", "carried events"),
    *(f"{kind} {call}" for kind in (COMPLETED, FAILED, RETRYING) for call in CALLS),
    *(f"ORCHESTRATION_STATUS_{status}" for status in ("COMPLETED", "FAILED", "CONTINUED_AS_NEW")),
    f"{FIRED} create_timer",
}


def test_the_lives_that_are_tried_have_everything_in_them():
    """The laws say nothing about what is never generated."""
    met = Counter()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(life=LIVES, fate=FATES)
    def look(life, fate):
        _, generations = generations_of(life, fate)
        met["generations after the first"] += len(generations) - 1
        for turns in generations:
            done = completion(turns[-1].result)
            if done is not None:
                met[pb.OrchestrationStatus.Name(done.orchestrationStatus)] += 1
                met["carried events"] += len(done.carryoverEvents)
            for each in flat(turns):
                met[each.WhichOneof("eventType")] += 1
            for noted in chain(*(turn.result.observations for turn in turns)):
                met[f"{noted.kind} {noted.method}"] += 1

    look()
    assert {kind: met[kind] for kind in TRIED if met[kind] < 5} == {}
