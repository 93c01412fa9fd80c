"""The orchestrators and activities of the catalogue."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Generator
from datetime import timedelta
from typing import Any

from durabletask import task

Steps = Generator[task.Task[Any], Any, Any]
SHORT = timedelta(milliseconds=100)


class Attempts:
    """Counts how often something was tried, by key, across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def next(self, key: str) -> int:
        with self._lock:
            self._counts[key] += 1
            return self._counts[key]


attempts = Attempts()


def add_one(_: task.ActivityContext, number: int) -> int:
    return number + 1


def echo(_: task.ActivityContext, given: Any) -> Any:
    return given


def swell(_: task.ActivityContext, size: int) -> str:
    return "x" * size


def fail(_: task.ActivityContext, message: str) -> None:
    raise ValueError(message)


def fail_until(ctx: task.ActivityContext, given: list[Any]) -> list[int]:
    """Fail until the given attempt; the task id and the number of the attempt."""
    key, successful = given
    attempt = attempts.next(key)
    if attempt < successful:
        raise RuntimeError(f"attempt {attempt}")
    return [ctx.task_id, attempt]


def hold_where_told(_: task.ActivityContext, __: Any) -> str:
    """Never end in a worker whose environment says so; its output tells that it has begun."""
    if os.environ.get("INTEROP_HOLD"):
        print("held", flush=True)
        threading.Event().wait()
    return "let go"


def held(ctx: task.OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.call_activity(hold_where_told))


def chain(ctx: task.OrchestrationContext, length: int) -> Steps:
    value = 0
    for _ in range(length):
        value = yield ctx.call_activity(add_one, input=value)
    return value


def fan_out(ctx: task.OrchestrationContext, width: int) -> Steps:
    return (yield task.when_all([ctx.call_activity(add_one, input=number) for number in range(width)]))


def echo_through_activity(ctx: task.OrchestrationContext, given: Any) -> Steps:
    ctx.set_custom_status(given)
    return (yield ctx.call_activity(echo, input=given))


def pass_on(ctx: task.OrchestrationContext, given: Any) -> Steps:
    return (yield ctx.call_activity(echo, input=given))


def length_of_result(ctx: task.OrchestrationContext, size: int) -> Steps:
    return len((yield ctx.call_activity(swell, input=size)))


def timers(ctx: task.OrchestrationContext, _: Any) -> Steps:
    """A timer of a duration, one of a time that is past, and one that wins over an event."""
    begin = ctx.current_utc_datetime
    yield ctx.create_timer(timedelta(milliseconds=300))
    waited = ctx.current_utc_datetime - begin
    yield ctx.create_timer(begin)
    timer = ctx.create_timer(SHORT)
    winner = yield task.when_any([timer, ctx.wait_for_external_event("never")])
    return [waited >= timedelta(milliseconds=300), winner == timer]


def event_beats_timer(ctx: task.OrchestrationContext, _: Any) -> Steps:
    timer = ctx.create_timer(timedelta(days=30))
    event = ctx.wait_for_external_event("approval")
    winner = yield task.when_any([timer, event])
    timer.cancel()
    return [winner == event, event.get_result()]


def long_timer(ctx: task.OrchestrationContext, seconds: float) -> Steps:
    yield ctx.create_timer(timedelta(seconds=seconds))
    return "rang"


def three_events(ctx: task.OrchestrationContext, _: Any) -> Steps:
    """Events that are there before anybody waits for them, under a name in another case."""
    yield ctx.create_timer(SHORT)
    values = []
    for _ in range(3):
        values.append((yield ctx.wait_for_external_event("approval")))
    return values


def one_event(ctx: task.OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_external_event("go"))


def events_by_name(ctx: task.OrchestrationContext, _: Any) -> Steps:
    second = yield ctx.wait_for_external_event("second")
    first = yield ctx.wait_for_external_event("first")
    return [first, second]


def teller(ctx: task.OrchestrationContext, listener: str) -> Steps:
    for number in range(3):
        ctx.send_event(listener, "approval", data=number)
    yield ctx.create_timer(timedelta(0))
    return "told"


def about_itself(ctx: task.OrchestrationContext, given: Any) -> list[Any]:
    return [ctx.instance_id, ctx.parent_instance_id, ctx.version, given]


def parent(ctx: task.OrchestrationContext, child_id: str | None) -> Steps:
    return (yield ctx.call_sub_orchestrator(about_itself, input="hello", instance_id=child_id))


def failing_child(ctx: task.OrchestrationContext, message: str) -> Steps:
    yield ctx.call_activity(fail, input=message)


def parent_of_failing_child(ctx: task.OrchestrationContext, message: str) -> Steps:
    try:
        yield ctx.call_sub_orchestrator(failing_child, input=message)
    except task.TaskFailedError as error:
        return [error.details.error_type, str(error)]


def eternal_parent(ctx: task.OrchestrationContext, seen: list[str]) -> Steps:
    """Three generations, each with a child under the same default id."""
    child = yield ctx.call_sub_orchestrator(about_itself)
    seen.append(child[0].removeprefix(ctx.instance_id))
    if len(seen) < 3:
        ctx.continue_as_new(seen)
    return seen


def parent_of_sleepers(ctx: task.OrchestrationContext, given: list[Any]) -> Steps:
    """A tree of orchestrations that wait: each has one child until the depth is 0."""
    instance_id, depth = given
    if depth:
        child = f"{instance_id}-{depth}"
        yield ctx.call_sub_orchestrator(parent_of_sleepers, input=[child, depth - 1], instance_id=child)
    yield ctx.wait_for_external_event("wake")


def retry_policy(tries: int) -> task.RetryPolicy:
    return task.RetryPolicy(first_retry_interval=timedelta(milliseconds=50), max_number_of_attempts=tries)


def activity_retries(ctx: task.OrchestrationContext, successful: int) -> Steps:
    given = [ctx.instance_id, successful]
    return (yield ctx.call_activity(fail_until, input=given, retry_policy=retry_policy(3)))


def child_that_fails_until(ctx: task.OrchestrationContext, given: list[Any]) -> Steps:
    result = yield ctx.call_activity(fail_until, input=given)
    return [ctx.instance_id, result[1]]


def child_retries(ctx: task.OrchestrationContext, successful: int) -> Steps:
    given = [ctx.instance_id, successful]
    child = yield ctx.call_sub_orchestrator(child_that_fails_until, input=given, retry_policy=retry_policy(3))
    return [child[0].removeprefix(ctx.instance_id), child[1]]


def collector(ctx: task.OrchestrationContext, seen: list[int]) -> Steps:
    """One event a generation; those that came meanwhile are carried over."""
    seen.append((yield ctx.wait_for_external_event("number")))
    if len(seen) < 10:
        ctx.continue_as_new(seen, save_events=True)
    return seen


def countdown(ctx: task.OrchestrationContext, number: int) -> Steps:
    if number == 3:
        ctx.set_custom_status("set by the first generation")
    yield ctx.create_timer(timedelta(0))
    if number:
        ctx.continue_as_new(number - 1)
    return "over"


def reporter(ctx: task.OrchestrationContext, _: Any) -> Steps:
    ctx.set_custom_status({"waiting": True})
    yield ctx.wait_for_external_event("go")
    ctx.set_custom_status([1, "two", None])


def fail_once(ctx: task.OrchestrationContext, times: int) -> Steps:
    before = yield ctx.call_activity(add_one, input=1)
    result = yield ctx.call_activity(fail_until, input=[ctx.instance_id, times + 1])
    return [before, result[1]]


def parent_of_fail_once(ctx: task.OrchestrationContext, times: int) -> Steps:
    return (yield ctx.call_sub_orchestrator(fail_once, input=times, instance_id=f"{ctx.instance_id}-child"))


def activity_timer_child(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield ctx.call_activity(add_one, input=1)
    yield ctx.create_timer(SHORT)
    yield ctx.call_sub_orchestrator(about_itself)
    return "laid out"


def with_tags(ctx: task.OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.call_activity(add_one, input=1, tags={"kind": "activity"}))


def fail_with_cause(_: task.ActivityContext, __: Any) -> None:
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise ValueError("the effect") from error


def deep_failure(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield ctx.call_activity(fail_with_cause)


def activity_not_registered(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield ctx.call_activity("nobody knows it")


ACTIVITIES = [add_one, echo, fail, fail_until, fail_with_cause, hold_where_told, swell]
ORCHESTRATORS = [
    about_itself,
    activity_not_registered,
    activity_retries,
    activity_timer_child,
    chain,
    child_retries,
    child_that_fails_until,
    collector,
    countdown,
    deep_failure,
    echo_through_activity,
    eternal_parent,
    event_beats_timer,
    events_by_name,
    fail_once,
    failing_child,
    fan_out,
    held,
    length_of_result,
    long_timer,
    one_event,
    parent,
    parent_of_fail_once,
    parent_of_failing_child,
    parent_of_sleepers,
    pass_on,
    reporter,
    teller,
    three_events,
    timers,
    with_tags,
]
