"""Entities as users write them: functions and classes, their state, and what their operations send."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from datetime import datetime, timedelta, timezone
from typing import Any, TypedDict

import pytest
from durabletask.entities import DurableEntity, EntityContext, EntityInstanceId
from durabletask.entities.testing import EntityFixture, SentSignal, StartedOrchestration
from durabletask.serialization import JsonDataConverter

OTHER = EntityInstanceId("Other", "k")


@dataclasses.dataclass
class Money:
    amount: int
    currency: str = "EUR"


def counter(ctx: EntityContext, input: int) -> Any:
    state = ctx.get_state(int, 0)
    if ctx.operation == "add":
        ctx.set_state(state + input)
    elif ctx.operation == "get":
        return state
    elif ctx.operation == "whoami":
        return [ctx.orchestration_id, str(ctx.entity_id), ctx.operation]
    return None


def store(ctx: EntityContext, input: Any) -> bool:
    """Keeps any value; says whether there was one."""
    had_state = ctx.has_state
    if ctx.operation == "set":
        ctx.set_state(input)
    return had_state


class Counter(DurableEntity):
    def __init__(self) -> None:
        self.set_state(0)

    def add(self, amount: int) -> None:
        self.set_state(self.get_state(int, 0) + amount)

    def get(self) -> int:
        return self.get_state(int, 0)


class Calls(DurableEntity):
    kind = "calls"

    def nothing(self) -> str:
        return "nothing"

    def optional(self, number: int = 7) -> int:
        return number

    def required(self, value: Any) -> Any:
        return [value]

    def typed(self, price: Money) -> str:
        return f"{type(price).__name__} {price.amount}"

    async def later(self, number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    @staticmethod
    def static(price: Money) -> int:
        return price.amount


def test_a_function_runs_every_operation() -> None:
    entity = EntityFixture(counter)
    entity.run("add", 5)
    assert entity.run("get") == 5
    entity.run("add", -2)
    assert (entity.run("get"), entity.state) == (3, 3)
    assert entity.run("whoami") == ["@counter@test", "@counter@test", "whoami"]


def test_a_class_sets_its_initial_state_in_its_constructor_and_then_keeps_its_state() -> None:
    entity = EntityFixture(Counter)
    assert entity.run("get") == 0
    entity.run("add", 5)
    entity.run("add", 2)
    assert (entity.run("get"), entity.state) == (7, 7)
    assert EntityFixture(Counter, state=10).run("get") == 10


def test_the_default_delete_clears_the_state_and_the_entity_begins_anew() -> None:
    entity = EntityFixture(Counter, state=3)
    entity.run("delete")
    assert entity.state is None
    assert entity.run("get") == 0


def test_delete_may_be_overridden() -> None:
    class Archive(DurableEntity):
        def delete(self, input: Any = None) -> str:
            super().delete(input)
            return f"deleted {input}"

    entity = EntityFixture(Archive, state=1)
    assert entity.run("delete", "by test") == "deleted by test"
    assert entity.state is None


@pytest.mark.parametrize("value", [0, 0.0, "", [], {}, False])
def test_a_falsy_state_persists(value: Any) -> None:
    """pinned 19, lesson 66"""
    entity = EntityFixture(store)
    entity.run("set", value)
    assert entity.run("look") is True
    assert entity.state == value and type(entity.state) is type(value)


def test_only_none_deletes() -> None:
    """pinned 19"""
    entity = EntityFixture(store, state=1)
    assert entity.run("set", None) is True
    assert entity.run("look") is False


OPERATIONS = [
    ("nothing", None, "nothing"),
    ("optional", None, 7),
    ("optional", 8, 8),
    ("required", None, [None]),
    ("required", 0, [0]),
    ("typed", {"amount": 3}, "Money 3"),
    ("later", 1, 2),
    ("static", {"amount": 4}, 4),
]


@pytest.mark.parametrize(("operation", "data", "result"), OPERATIONS)
def test_a_method_gets_its_input(operation: str, data: Any, result: Any) -> None:
    """pinned 21"""
    assert EntityFixture(Calls).run(operation, data) == result


BAD_OPERATIONS = [
    ("missing", None, AttributeError, "'@calls@test' does not have operation 'missing'"),
    ("Nothing", None, AttributeError, "Nothing"),
    ("kind", None, TypeError, "not a method of Calls but a value of type str"),
    ("entity_context", None, TypeError, "not a method"),
    ("__init__", None, AttributeError, "__init__"),
    ("nothing", 5, TypeError, "argument"),
]


@pytest.mark.parametrize(("operation", "data", "error", "message"), BAD_OPERATIONS)
def test_what_is_no_operation_is_an_error(operation: str, data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EntityFixture(Calls).run(operation, data)


async def test_async_operations_run_also_in_an_async_test() -> None:
    async def entity(ctx: EntityContext, input: int) -> int:
        await asyncio.sleep(0)
        ctx.set_state(input)
        return input * 2

    fixture = EntityFixture(entity)
    assert fixture.run("any", 4) == 8
    assert fixture.state == 4


def test_a_callable_object_is_an_entity_under_its_declared_name() -> None:
    class Greeter:
        __durable_entity_name__ = "Greeter"

        def __call__(self, ctx: EntityContext, price: Money) -> str:
            return f"{ctx.entity_id} {price.currency}"

    assert EntityFixture(Greeter()).run("greet", {"amount": 1}) == "@greeter@test EUR"


class TestTypes:
    def test_a_type_builds_a_new_value_on_every_call(self) -> None:
        """pinned 19, lesson 66"""
        entity = EntityFixture(self.wallet, state={"amount": 1})
        assert entity.run("change in place") == [False, 1]
        assert entity.state == {"amount": 1}

    @staticmethod
    def wallet(ctx: EntityContext, _: Any) -> list[Any]:
        first, second = ctx.get_state(Money), ctx.get_state(Money)
        assert first is not None and second is not None
        first.amount = 99
        return [first is second, second.amount]

    @pytest.mark.parametrize(("state", "kind"), [("x", int), ([1], dict), ({"no": 1}, Money)])
    def test_a_state_of_another_form_is_an_error(self, state: Any, kind: type) -> None:
        """pinned 19"""

        def entity(ctx: EntityContext, _: Any) -> Any:
            return ctx.get_state(kind)

        with pytest.raises(TypeError, match=f"'@entity@test'.*cannot become {kind.__name__}"):
            EntityFixture(entity, state=state).run("get")
        with pytest.raises(TypeError, match=f"cannot become {kind.__name__}"):
            EntityFixture(entity, state=state).get_state(kind)

    @pytest.mark.parametrize("kind", [list[int], TypedDict("Shape", {"a": int}), Any, None])
    def test_types_that_cannot_check_a_value_let_it_pass(self, kind: Any) -> None:
        def entity(ctx: EntityContext, _: Any) -> Any:
            return ctx.get_state(kind)

        assert EntityFixture(entity, state={"a": 1}).run("get") == {"a": 1}

    def test_a_state_that_cannot_be_encoded_fails_its_operation_only(self) -> None:
        def entity(ctx: EntityContext, bad: bool) -> None:
            ctx.set_state(object() if bad else "good")

        outcomes = EntityFixture(entity).run_batch([("a", False), ("b", True), ("c", False)])
        assert [type(outcome.error) for outcome in outcomes] == [type(None), TypeError, type(None)]


class TestMessages:
    def test_signals_carry_input_and_time(self) -> None:
        moment = datetime(2026, 5, 6, 7, 8, 9, 123456)
        eastern = moment.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=-5)))

        def entity(ctx: EntityContext, _: Any) -> None:
            ctx.signal_entity(OTHER, "add", 0)
            ctx.signal_entity(ctx.entity_id, "tick", signal_time=moment)
            ctx.signal_entity(OTHER, "tock", signal_time=eastern)

        fixture = EntityFixture(entity)
        fixture.run("go")
        due = moment.replace(tzinfo=timezone.utc)
        assert fixture.signals == [
            SentSignal(OTHER, "add", 0),
            SentSignal(fixture.entity_id, "tick", signal_time=due),
            SentSignal(OTHER, "tock", signal_time=due),
        ]

    @pytest.mark.parametrize(
        ("target", "operation", "signal_time", "error", "message"),
        [
            (None, "add", None, TypeError, "signal_entity() needs an EntityInstanceId, got None of type NoneType."),
            ("other", "add", None, ValueError, "An entity id begins with '@'"),
            (OTHER, "", None, ValueError, "signal_entity() needs the name of an operation, got ''."),
            (OTHER, 5, None, ValueError, "signal_entity() needs the name of an operation, got 5."),
            (OTHER, "add", "tomorrow", AttributeError, "'str' object has no attribute 'tzinfo'"),
        ],
    )
    def test_a_signal_that_no_entity_could_get_is_refused_and_leaves_nothing_behind(
        self, target: Any, operation: Any, signal_time: Any, error: type[Exception], message: str
    ) -> None:
        """A task hub refuses the whole batch for such a signal, and its callers would wait for minutes."""

        def entity(ctx: EntityContext, _: Any) -> None:
            with pytest.raises(error, match=re.escape(message)):
                ctx.signal_entity(target, operation, signal_time=signal_time)

        fixture = EntityFixture(entity)
        fixture.run("go")
        assert fixture.signals == []

    def test_a_signal_may_be_sent_to_the_text_of_an_id(self) -> None:
        def entity(ctx: EntityContext, _: Any) -> None:
            ctx.signal_entity(str(OTHER), "add")  # type: ignore[arg-type]

        fixture = EntityFixture(entity)
        fixture.run("go")
        assert fixture.signals == [SentSignal(OTHER, "add")]

    def test_an_orchestration_without_a_name_is_refused(self) -> None:
        def entity(ctx: EntityContext, _: Any) -> None:
            ctx.schedule_new_orchestration("")

        with pytest.raises(ValueError, match=re.escape("schedule_new_orchestration() needs the name")):
            EntityFixture(entity).run("go")

    VERSIONS = [("2.0.0", None, "2.0.0"), ("2.0.0", "3.0.0", "3.0.0"), (None, None, None), ("2.0.0", "", None)]

    @pytest.mark.parametrize(("default", "asked", "expected"), VERSIONS)
    def test_a_started_orchestration_has_the_workers_default_version(
        self, default: Any, asked: Any, expected: Any
    ) -> None:
        """R6, lesson 13"""

        def entity(ctx: EntityContext, _: Any) -> str:
            return ctx.schedule_new_orchestration("order", {"n": 1}, "order-1", version=asked)

        fixture = EntityFixture(entity, default_version=default)
        assert fixture.run("go") == "order-1"
        assert fixture.orchestrations == [StartedOrchestration("order", "order-1", {"n": 1}, expected)]

    def test_a_started_orchestration_gets_an_id_of_its_own(self) -> None:
        class Starter(DurableEntity):
            def start(self) -> str:
                return self.schedule_new_orchestration(order)

        def order(ctx: Any, _: Any) -> None: ...

        fixture = EntityFixture(Starter)
        ids = [fixture.run("start"), fixture.run("start")]
        assert [(o.name, o.instance_id) for o in fixture.orchestrations] == [("order", ids[0]), ("order", ids[1])]
        assert len({*ids}) == 2 and all(len(i) == 32 for i in ids)

    def test_an_id_of_an_entity_is_refused_for_an_orchestration(self) -> None:
        def entity(ctx: EntityContext, _: Any) -> None:
            ctx.schedule_new_orchestration("order", instance_id="@order@1")

        with pytest.raises(ValueError, match="must not begin with '@'"):
            EntityFixture(entity).run("go")

    def test_a_version_that_is_no_text_is_refused_for_an_orchestration(self) -> None:
        def entity(ctx: EntityContext, _: Any) -> None:
            ctx.schedule_new_orchestration("order", version=2)  # type: ignore[arg-type]

        with pytest.raises(TypeError, match="version must be a text or None, found 2 of type int"):
            EntityFixture(entity).run("go")


def test_a_failed_operation_takes_back_its_state_and_its_messages_and_nothing_else() -> None:
    """pinned 21, lesson 66"""

    class Ledger(DurableEntity):
        def add(self, amount: int) -> int:
            self.set_state(self.get_state(int, 0) + amount)
            self.signal_entity(OTHER, "added", amount)
            self.schedule_new_orchestration("audit", amount, f"audit-{amount}")
            if amount < 0:
                raise ValueError("negative")
            return self.get_state(int, 0)

    fixture = EntityFixture(Ledger)
    outcomes = fixture.run_batch([("add", 1), ("add", -5), ("add", 2)])
    assert [outcome.result for outcome in outcomes] == [1, None, 3]
    assert [str(outcome.error) for outcome in outcomes] == ["None", "negative", "None"]
    assert fixture.state == 3
    assert [signal.input for signal in fixture.signals] == [1, 2]
    assert [o.instance_id for o in fixture.orchestrations] == ["audit-1", "audit-2"]


def test_a_constructor_that_fails_fails_its_operation() -> None:
    """lesson 62"""

    class Fragile(DurableEntity):
        def __init__(self) -> None:
            self.set_state("half done")
            raise RuntimeError("no luck")

        def get(self) -> None: ...

    fixture = EntityFixture(Fragile)
    with pytest.raises(RuntimeError, match="no luck"):
        fixture.run("get")
    assert fixture.state is None


def test_an_entity_object_outside_of_an_operation_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="in a test, use"):
        Counter()


@pytest.mark.parametrize(("entity", "error"), [(5, TypeError), (dict, TypeError), (None, ValueError)])
def test_what_is_no_entity_is_refused(entity: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="entity"):
        EntityFixture(entity)


def test_a_lambda_has_no_name() -> None:
    with pytest.raises(ValueError, match="lambda"):
        EntityFixture(lambda ctx, _: None)


class Binary(JsonDataConverter):
    """Makes bytes that are no text."""

    def serialize(self, value: Any) -> Any:
        return None if value is None else b"\xff" if value == "bad" else super().serialize(value)


def spoiled(ctx: EntityContext, input: Any) -> Any:
    """Keeps its input, or returns it, or sends it."""
    if ctx.operation == "return":
        ctx.set_state("changed")
        return "bad"
    if ctx.operation == "signal":
        ctx.signal_entity(OTHER, "op", "bad")
    else:
        ctx.set_state("bad")
    return None


@pytest.mark.parametrize("operation", ["set", "return", "signal"])
def test_what_a_converter_makes_no_text_of_fails_the_operation(operation: str) -> None:
    """The others of the batch are not touched by it, and its own changes are taken back."""
    entity = EntityFixture(spoiled, state="old", data_converter=Binary())
    with pytest.raises(ValueError, match="Binary"):
        entity.run(operation)
    assert (entity.state, entity.signals) == ("old", [])
