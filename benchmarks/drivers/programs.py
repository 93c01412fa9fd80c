"""The orchestrators, activities and entities of the workloads; plain API, so both SDKs of the family run them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from datetime import timedelta, timezone
from typing import Any

from durabletask import task

from drivers.counts import Count

Orchestration = Generator[Any, Any, Any]
GO = "go"
"""The event for which ``waiting`` waits."""

waiters = Count()
"""Orchestrations that have reached their wait."""

advanced = Count()
"""Runs of the activity ``advance``."""

lateness: list[float] = []
"""How late each ``sleeper`` went on, in seconds."""


def echo(_: task.ActivityContext, value: Any) -> Any:
    return value


def advance(_: task.ActivityContext, value: Any) -> Any:
    advanced.add()
    return value


def single(ctx: task.OrchestrationContext, value: Any) -> Orchestration:
    result = yield ctx.call_activity(echo, input=value)
    return result


def chain(ctx: task.OrchestrationContext, length: int) -> Orchestration:
    for number in range(length):
        yield ctx.call_activity(echo, input=number)
    return length


def fan(ctx: task.OrchestrationContext, width: int) -> Orchestration:
    results = yield task.when_all([ctx.call_activity(echo, input=number) for number in range(width)])
    return len(results)


def relay(ctx: task.OrchestrationContext, order: dict[str, Any]) -> Orchestration:
    """Pass a payload through ``times`` activities."""
    value = order["payload"]
    for _ in range(order["times"]):
        value = yield ctx.call_activity(echo, input=value)
    return value


def waiting(ctx: task.OrchestrationContext, _: Any) -> Orchestration:
    if not ctx.is_replaying:
        waiters.add()
    value = yield ctx.wait_for_external_event(GO)
    return value


def stepper(ctx: task.OrchestrationContext, steps: int) -> Orchestration:
    """A chain that waits for an event before each activity."""
    if not ctx.is_replaying:
        waiters.add()
    for number in range(steps):
        yield ctx.wait_for_external_event(GO)
        yield ctx.call_activity(advance, input=number)
    return steps


def sleeper(ctx: task.OrchestrationContext, _: Any) -> Orchestration:
    due = ctx.current_utc_datetime + timedelta(seconds=1)
    yield ctx.create_timer(due)
    if not ctx.is_replaying:
        lateness.append(time.time() - due.replace(tzinfo=timezone.utc).timestamp())
    return None


def counter(ctx: Any, amount: int) -> int:
    """An entity that adds."""
    total: int = (ctx.get_state(int, 0) or 0) + amount
    ctx.set_state(total)
    return total


def hot(ctx: Any, kib: int) -> int:
    """An entity that counts in a large state: it is filled with ``kib`` KiB by its first operation."""
    state = ctx.get_state() or {"count": -1, "filling": "x" * (kib * 1024)}
    state["count"] += 1
    ctx.set_state(state)
    return int(state["count"])


ORCHESTRATORS: tuple[Callable[..., Any], ...] = (single, chain, fan, relay, waiting, stepper, sleeper)
ACTIVITIES: tuple[Callable[..., Any], ...] = (echo, advance)
