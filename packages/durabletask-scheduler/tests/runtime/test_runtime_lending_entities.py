"""Batches of entities on lent threads: brief ones share the write of what asked for them, others hold up nobody."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from durabletask import entities
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker
from durabletask_scheduler.channel import InProcessChannel

WAIT = 10.0
PRACTICE = 20
"""Operations after which a worker takes those of an entity for brief."""


class Counting:
    """An entity that counts its operations; one with an input waits for ``go_on``."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.counted = threading.Condition()
        self.counts: dict[str, int] = {}

    def __call__(self, ctx: entities.EntityContext, wait: bool | None) -> None:
        if wait:
            self.entered.set()
            assert self.go_on.wait(3 * WAIT)
        ctx.set_state(ctx.get_state(int, 0) + 1)
        with self.counted:
            self.counts[ctx.entity_id.key] = self.counts.get(ctx.entity_id.key, 0) + 1
            self.counted.notify_all()

    def has_counted(self, key: str, count: int) -> bool:
        with self.counted:
            return self.counted.wait_for(lambda: self.counts.get(key, 0) >= count, WAIT)


class Site:
    """A worker with one entity and one orchestrator in the scheduler's process, and a client."""

    def __init__(self, runtime: Any, stack: contextlib.ExitStack, threads: int) -> None:
        self.counting = Counting()
        self.client = stack.enter_context(TaskHubGrpcClient(channel=InProcessChannel(runtime.service)))
        worker = TaskHubGrpcWorker(
            channel=InProcessChannel(runtime.service),
            concurrency_options=ConcurrencyOptions(maximum_thread_pool_workers=threads),
        )
        stack.callback(worker.stop, timeout=0.5)
        stack.callback(self.counting.go_on.set)
        worker.add_entity(self.counting, name="counting")
        worker.add_orchestrator(calls)
        worker.add_activity(double)
        worker.start()

    def signal(self, key: str, wait: bool | None = None) -> None:
        self.client.signal_entity(entities.EntityInstanceId("counting", key), "count", wait)

    def practise(self) -> None:
        for number in range(PRACTICE):
            self.signal("practice")
            assert self.counting.has_counted("practice", number + 1)

    def orchestrate(self, number: int) -> Any:
        instance_id = self.client.schedule_new_orchestration(calls, input=number)
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED
        return state.get_output()


def double(_: Any, number: int) -> int:
    return 2 * number


def calls(ctx: Any, number: int) -> Any:
    return (yield ctx.call_activity(double, input=number))


@pytest.fixture
def site(runtime: Any) -> Iterator[Callable[..., Site]]:
    with contextlib.ExitStack() as stack:
        yield lambda threads=8: Site(runtime, stack, threads)


def test_a_signal_and_what_comes_of_it_share_one_write(runtime, site):
    """The operation is never written then: it has come and gone within one group."""
    place = site()
    place.practise()
    runtime.storage.groups.clear()
    signals = 50
    for number in range(signals):
        place.signal("a")
        assert place.counting.has_counted("a", number + 1)
    changes = [[commit.entities for commit in group if commit.entities is not None] for group in runtime.storage.groups]
    shared = [
        group
        for group in changes
        if {row.key for one in group for row in one.inbox_added} & {key for one in group for key in one.inbox_removed}
    ]
    # The engine's thread writes by itself when the other is not given the processor for some milliseconds, which on a
    # machine that is busy with other things is often.
    assert len(shared) > signals / 10


def test_a_signal_is_answered_although_its_operation_blocks_for_the_first_time(site):
    place = site()
    place.practise()
    place.signal("a", wait=True)
    assert place.counting.entered.wait(WAIT)
    assert place.counting.counts.get("a") is None
    place.counting.go_on.set()
    assert place.counting.has_counted("a", 1)


@pytest.mark.parametrize("threads", [2, 8])
def test_others_go_on_while_an_operation_that_was_brief_blocks(site, threads):
    """Other entities of the same name, turns and activities, on the same worker."""
    place = site(threads)
    place.practise()
    place.signal("blocked", wait=True)
    assert place.counting.entered.wait(WAIT)
    for number in range(10):
        place.signal("other")
        assert place.counting.has_counted("other", number + 1)
        assert place.orchestrate(number) == 2 * number
    place.signal("blocked")
    place.counting.go_on.set()
    assert place.counting.has_counted("blocked", 2)


def test_batches_that_come_together_with_one_that_blocks_do_not_wait_for_it(runtime, site):
    """One thread finds them all at once, and each of them was brief so far."""
    place = site()
    place.practise()
    others = [f"other {number}" for number in range(20)]
    held, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        runtime.storage.before_write = lambda _: None
        held.set()
        assert go_on.wait(WAIT)

    runtime.storage.before_write = hold
    sending = [threading.Thread(target=place.signal, args=["holds the write"])]
    sending[0].start()
    assert held.wait(WAIT)
    sending += [threading.Thread(target=place.signal, args=["blocked", True])]
    sending += [threading.Thread(target=place.signal, args=[key]) for key in others]
    for thread in sending[1:]:
        thread.start()
    go_on.set()
    assert place.counting.entered.wait(WAIT)
    for key in others:
        assert place.counting.has_counted(key, 1), key
    for thread in sending:
        thread.join(WAIT)
        assert not thread.is_alive()
