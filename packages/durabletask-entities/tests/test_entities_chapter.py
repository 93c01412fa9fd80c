"""What the feature overview promises about entities, promise by promise and in its syntax."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from durabletask import entities, task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler

WAIT = 20
Steps = Generator[task.Task[Any], Any, Any]
entity_id = entities.EntityInstanceId("my_entity_function", "myEntityId")
entity_id_1, entity_id_2 = (entities.EntityInstanceId("Counter", key) for key in "12")


# Function-based entity
def my_entity_function(ctx: entities.EntityContext, input: int) -> Any:
    state = ctx.get_state(int, 0)
    if ctx.operation == "add":
        state += input
        ctx.set_state(state)
    elif ctx.operation == "get":
        return state
    elif ctx.operation == "tell":
        ctx.signal_entity(entity_id_1, "add", state)
        ctx.schedule_new_orchestration("told", state)
    elif ctx.operation == "delete":
        ctx.set_state(None)
    return None


# Class-based entity
class Counter(entities.DurableEntity):
    def __init__(self) -> None:
        self.set_state(0)
        self.seen = 0

    def add(self, amount: int) -> None:
        self.seen += 1
        self.set_state(self.get_state(int, 0) + amount)

    def get(self) -> int:
        return self.get_state(int, 0)

    def get_seen(self) -> int:
        return self.seen


class Kept(Counter):
    def delete(self, input: Any = None) -> None:
        self.set_state("deleted, as far as its user is concerned")


class Site:
    def __init__(self, database: Path) -> None:
        self._scheduler = Scheduler(database)
        self._scheduler.start()
        self.client = TaskHubGrpcClient(channel=self._scheduler.channel())
        self._worker: TaskHubGrpcWorker | None = None

    def run(self, orchestrator: Callable[..., Any], *more: Callable[..., Any]) -> Any:
        """The result of an orchestrator, or the failure that it ended with."""
        worker = self._worker = TaskHubGrpcWorker(channel=self._scheduler.channel())
        for each in (orchestrator, *more):
            worker.add_orchestrator(each)
        for entity in (my_entity_function, Counter, Kept):
            worker.add_entity(entity)
        worker.start()
        state = self.wait(self.client.schedule_new_orchestration(orchestrator))
        return state.failure_details or state.get_output()

    def wait(self, instance_id: str) -> Any:
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None
        return state

    def close(self) -> None:
        if self._worker is not None:
            self._worker.stop()
        self.client.close()
        self._scheduler.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "hub.db")
    yield site
    site.close()


def test_each_entity_has_its_own_identity_and_state(site: Site) -> None:
    names = [entities.EntityInstanceId(name, key) for name in ("Counter", "my_entity_function") for key in ("a", "A")]

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        for number, one in enumerate(names):
            yield ctx.call_entity(one, "add", 10**number)
        found = []
        for one in names:
            found.append((yield ctx.call_entity(one, "get")))
        return found

    assert site.run(orchestrator) == [1, 10, 100, 1000]
    assert len(site.client.get_all_entities()) == 4


def test_a_client_signals_and_orchestrators_signal_and_call(site: Site) -> None:
    c = site.client
    c.signal_entity(entity_id, "do_nothing")
    c.signal_entity(entity_id, "add", 1)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        # Signal an entity (fire-and-forget)
        ctx.signal_entity(entity_id, operation_name="add", input=5)
        # Call an entity (wait for result)
        result = yield ctx.call_entity(entity_id, operation="get")
        return result

    assert site.run(orchestrator) == 6


def test_attributes_of_class_based_entities_are_not_preserved_and_the_state_is(site: Site) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        yield ctx.call_entity(entity_id_1, "add", 2)
        yield ctx.call_entity(entity_id_1, "add", 3)
        return [(yield ctx.call_entity(entity_id_1, "get_seen")), (yield ctx.call_entity(entity_id_1, "get"))]

    assert site.run(orchestrator) == [0, 5]


def test_entities_signal_entities_and_start_orchestrations(site: Site) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        yield ctx.call_entity(entity_id, "add", 7)
        ctx.signal_entity(entity_id, "tell")
        # A call after a signal: when it is answered the signal has been processed, and what it sent is on its way.
        yield ctx.call_entity(entity_id, "get")
        return (yield ctx.call_entity(entity_id_1, "get"))

    def told(ctx: task.OrchestrationContext, number: int) -> int:
        return number

    assert site.run(orchestrator, told) == 7
    (started,) = [one for one in site.client.get_all_orchestration_states() if one.name == "told"]
    assert site.wait(started.instance_id).get_output() == 7


def test_a_critical_section_has_its_entities_for_itself(site: Site) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        with (yield ctx.lock_entities([entity_id_1, entity_id_2])):
            yield ctx.call_entity(entity_id_1, "add", 1)
            return (yield ctx.call_entity(entity_id_2, "get"))

    assert site.run(orchestrator) == 0
    assert [one.get_locked_by() for one in site.client.get_all_entities()] == [None, None]


@pytest.mark.parametrize(
    ("forbidden", "message"),
    [
        (lambda ctx: ctx.signal_entity(entity_id_1, "add", 1), "Must not signal a locked entity"),
        (lambda ctx: [ctx.call_entity(entity_id_1, "add", 1) for _ in range(2)], "while another call to it"),
        (lambda ctx: ctx.call_entity(entity_id_2, "add", 1), "not one of the locked entities"),
        (lambda ctx: ctx.lock_entities([entity_id_2]), "another critical section"),
    ],
    ids=["a signal to a locked entity", "two calls at once", "a call to another entity", "a lock in a lock"],
)
def test_a_critical_section_refuses(site: Site, forbidden: Callable[[Any], Any], message: str) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        with (yield ctx.lock_entities([entity_id_1])):
            forbidden(ctx)
        return "not refused"

    failure = site.run(orchestrator)
    assert message in failure.message and failure.error_type == "builtins.RuntimeError"


@pytest.mark.parametrize(
    ("name", "left"),
    [("Counter", None), ("my_entity_function", None), ("Kept", "deleted, as far as its user is concerned")],
)
def test_an_entity_is_gone_when_its_state_is_empty(site: Site, name: str, left: Any) -> None:
    """A dashboard deletes with the operation ``delete``: a class has it, may override it, and a function codes it."""
    one = entities.EntityInstanceId(name, "to delete")

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        yield ctx.call_entity(one, "add", 1)
        yield ctx.call_entity(one, "delete")

    assert site.run(orchestrator) is None
    found = site.client.get_entity(one)
    assert (None if found is None else found.get_typed_state()) == left
    assert len(site.client.get_all_entities()) == (left is not None)


def test_what_runs_is_an_orchestration_of_its_own_and_entities_are_none(site: Site) -> None:
    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Steps:
        yield ctx.call_entity(entity_id, "add", 1)

    site.run(orchestrator)
    states = site.client.get_all_orchestration_states()
    assert [state.runtime_status for state in states] == [OrchestrationStatus.COMPLETED]
