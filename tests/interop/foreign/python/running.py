"""Workloads: what an orchestration can do."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import functions as given
from durabletask.client import AsyncTaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions
from stage import WAIT, Stage, end, new_id

BIG = GrpcChannelOptions(max_receive_message_length=64 << 20, max_send_message_length=64 << 20)


def chain(stage: Stage) -> Any:
    return end(stage.run(given.chain, input=10))


def fan_out(stage: Stage) -> Any:
    status, output = end(stage.run(given.fan_out, input=200))
    return [status, output == list(range(1, 201))]


def fan_out_of_two_on_an_idle_hub(stage: Stage) -> Any:
    """The outcome and whether the median of seven takes less than 90 ms."""
    seconds = []
    for _ in range(7):
        begin = time.monotonic()
        outcome = end(stage.run(given.fan_out, input=2))
        seconds.append(time.monotonic() - begin)
    return [*outcome, statistics.median(seconds) < 0.09]


def falsy_values(stage: Stage) -> Any:
    def told(value: Any) -> Any:
        state = stage.run(given.echo_through_activity, input=value)
        return [state.serialized_input, state.serialized_output, state.serialized_custom_status]

    return [told(value) for value in (0, "", False, [], {}, None)]


def timers(stage: Stage) -> Any:
    return end(stage.run(given.timers))


def event_beats_timer(stage: Stage) -> Any:
    instance_id = stage.started(given.event_beats_timer)
    stage.client.raise_orchestration_event(instance_id, "Approval", data={"by": "me"})
    return end(stage.ended(instance_id))


def activity_that_may_be_held(stage: Stage) -> Any:
    return end(stage.run(given.held))


def long_timer_in_chunks(stage: Stage) -> Any:
    """The SDK cuts a timer of 1 s into pieces of at most 0.3 s: how many there were."""
    interval = timedelta(seconds=0.3)
    with stage.hub_worker("timers", given.long_timer, maximum_timer_interval=interval) as worker:
        worker.start()
        client = stage.hub_client("timers")
        begin = time.monotonic()
        instance_id = client.schedule_new_orchestration(given.long_timer, input=1.0)
        state = client.wait_for_orchestration_completion(instance_id, timeout=20)
        history = client.get_orchestration_history(instance_id)
        kinds = [type(event).__name__ for event in history]
        lasted = time.monotonic() - begin >= 1
        return [*end(state), lasted, kinds.count("TimerCreatedEvent"), kinds.count("TimerFiredEvent")]


def events_keep_their_order_and_ignore_case(stage: Stage) -> Any:
    instance_id = stage.client.schedule_new_orchestration(given.three_events)
    for number, name in enumerate(["approval", "APPROVAL", "Approval"]):
        stage.client.raise_orchestration_event(instance_id, name, data=number)
    ended = end(stage.ended(instance_id))
    names = [event.name for event in stage.client.get_orchestration_history(instance_id) if hasattr(event, "name")]
    return [*ended, [name for name in names if name.lower() == "approval"]]


def event_without_data(stage: Stage) -> Any:
    instance_id = stage.started(given.one_event)
    stage.client.raise_orchestration_event(instance_id, "go")
    return end(stage.ended(instance_id))


def events_wait_for_their_name(stage: Stage) -> Any:
    instance_id = stage.started(given.events_by_name)
    for name in ("first", "second"):
        stage.client.raise_orchestration_event(instance_id, name, data=name)
    return end(stage.ended(instance_id))


def events_from_another_orchestration(stage: Stage) -> Any:
    listener = stage.started(given.three_events)
    teller = stage.run(given.teller, input=listener)
    return [end(teller), end(stage.ended(listener))]


def child_with_a_given_id(stage: Stage) -> Any:
    instance_id, child_id = new_id("parent"), new_id("child")
    status, output = end(stage.run(given.parent, input=child_id, instance_id=instance_id))
    return [status, output == [child_id, instance_id, None, "hello"]]


def child_with_the_default_id(stage: Stage) -> Any:
    instance_id = new_id("parent")
    status, output = end(stage.run(given.parent, instance_id=instance_id))
    return [status, output == [f"{instance_id}:0001", instance_id, None, "hello"]]


def failing_child(stage: Stage) -> Any:
    state = stage.run(given.parent_of_failing_child, input="no tea")
    status, (kind, message) = end(state)
    return [status, [kind, message.replace(state.instance_id, "ID")]]


def eternal_parent_with_default_child_ids(stage: Stage) -> Any:
    return end(stage.run(given.eternal_parent, input=[]))


def child_under_the_id_of_a_live_instance(stage: Stage) -> Any:
    taken = stage.started(given.one_event)
    state = stage.run(given.parent, input=taken)
    stage.client.raise_orchestration_event(taken, "go", data="untouched")
    failure = state.failure_details
    return [str(state.runtime_status), f"'{taken}' already exists" in failure.message, end(stage.ended(taken))]


def activity_retries_reuse_the_task_id(stage: Stage) -> Any:
    instance_id = new_id("retry")
    ended = end(stage.run(given.activity_retries, input=3, instance_id=instance_id))
    return [*ended, [kind for kind in stage.kinds(instance_id) if "#" in kind]]


def activity_retries_exhausted(stage: Stage) -> Any:
    _, kind, message = end(stage.run(given.activity_retries, input=4))
    return [kind, message.split(": ", 1)[1]]


def child_retries(stage: Stage) -> Any:
    return end(stage.run(given.child_retries, input=3, instance_id=new_id("retry")))


def continue_as_new_carries_events_over(stage: Stage) -> Any:
    """Ten events, some raised before the first turn, some while generations change."""
    instance_id = stage.client.schedule_new_orchestration(given.collector, input=[])
    for number in range(10):
        stage.client.raise_orchestration_event(instance_id, "number", data=number)
    state = stage.ended(instance_id)
    return [*end(state), state.get_input()]


def continue_as_new_keeps_the_custom_status(stage: Stage) -> Any:
    instance_id = new_id("countdown")
    state = stage.run(given.countdown, input=3, instance_id=instance_id)
    return [*end(state), state.get_custom_status(), state.get_input(), stage.kinds(instance_id)]


def custom_status(stage: Stage) -> Any:
    instance_id = stage.started(given.reporter)
    running = stage.client.get_orchestration_state(instance_id)
    stage.client.raise_orchestration_event(instance_id, "go")
    return [running.get_custom_status(), stage.ended(instance_id).get_custom_status()]


def failure_details(stage: Stage) -> Any:
    failure = stage.run(given.deep_failure, instance_id=new_id("failure")).failure_details
    inner = failure.inner_failure
    return {
        "type": failure.error_type,
        "message": failure.message.split(": ", 1)[1],
        "stack trace": "deep_failure" in (failure.stack_trace or ""),
        "inner": [inner.error_type, inner.message, "fail_with_cause" in (inner.stack_trace or "")],
    }


def unknown_orchestrator(stage: Stage) -> Any:
    return end(stage.run("nobody knows it"))[:2]


def unknown_activity(stage: Stage) -> Any:
    failure = stage.run(given.activity_not_registered).failure_details
    return [failure.error_type, failure.inner_failure.error_type]


def tags(stage: Stage) -> Any:
    instance_id = stage.client.schedule_new_orchestration(given.with_tags, tags={"owner": "me", "": "empty"})
    stage.ended(instance_id)
    events = {type(event).__name__: event for event in stage.client.get_orchestration_history(instance_id)}
    return [events["ExecutionStartedEvent"].tags, events["TaskScheduledEvent"].tags]


def scheduled_start(stage: Stage) -> Any:
    """Status before its time, whether it began in time, its end; and one that is terminated before its time."""
    start_at = datetime.now(timezone.utc) + timedelta(seconds=1)
    instance_id = stage.client.schedule_new_orchestration(given.chain, input=1, start_at=start_at)
    before = stage.status(instance_id)
    state = stage.ended(instance_id)
    in_time = state.last_updated_at.replace(tzinfo=timezone.utc) >= start_at
    never = stage.client.schedule_new_orchestration(given.chain, input=1, start_at=start_at + timedelta(days=1))
    stage.client.terminate_orchestration(never, output="too late")
    past = stage.run(given.chain, input=1, start_at=start_at - timedelta(days=1))
    return [before, in_time, end(state), end(stage.ended(never)), end(past)]


def history_layout(stage: Stage) -> Any:
    instance_id = new_id("layout")
    stage.run(given.activity_timer_child, instance_id=instance_id)
    return stage.kinds(instance_id)


def large_payload(stage: Stage) -> Any:
    """3 MB through client, orchestrator and activity, with the limits of the SDK's channels raised."""
    with stage.hub_worker("large", given.pass_on, given.echo, channel_options=BIG) as worker:
        worker.start()
        client = stage.hub_client("large", channel_options=BIG)
        text = "x" * 3_000_000
        state = client.wait_for_orchestration_completion(
            client.schedule_new_orchestration(given.pass_on, input=text), timeout=30
        )
        return [str(state.runtime_status), state.get_output() == text]


def turn_larger_than_the_worker_accepts(stage: Stage) -> Any:
    """A result of 5 MB for a worker that takes 4 MB: it fails and says why, and others are served again."""
    hub = "oversized"
    with stage.hub_worker(hub, given.length_of_result, given.swell, given.chain, given.add_one) as worker:
        worker.start()
        client = stage.hub_client(hub)
        large = client.schedule_new_orchestration(given.length_of_result, input=5_000_000)
        status, *failure = end(client.wait_for_orchestration_completion(large, timeout=WAIT))
        small = client.schedule_new_orchestration(given.chain, input=2)
        served = end(client.wait_for_orchestration_completion(small, timeout=WAIT))
        return [status, "4194304 bytes" in str(failure), served]


def async_client(stage: Stage) -> Any:
    async def use() -> Any:
        client = AsyncTaskHubGrpcClient(host_address=stage.address, logger=logging.getLogger("quiet"))
        async with client:
            ids = [await client.schedule_new_orchestration(given.one_event) for _ in range(20)]
            waits = [client.wait_for_orchestration_completion(instance_id, timeout=30) for instance_id in ids]
            gathered = asyncio.gather(*waits)
            for number, instance_id in enumerate(ids):
                await client.raise_orchestration_event(instance_id, "go", data=number)
            return [state.get_output() for state in await gathered] == list(range(20))

    return asyncio.run(use())


ALONE = [fan_out_of_two_on_an_idle_hub]
TOGETHER = [
    activity_retries_exhausted,
    activity_retries_reuse_the_task_id,
    activity_that_may_be_held,
    async_client,
    chain,
    child_retries,
    child_under_the_id_of_a_live_instance,
    child_with_a_given_id,
    child_with_the_default_id,
    continue_as_new_carries_events_over,
    continue_as_new_keeps_the_custom_status,
    custom_status,
    eternal_parent_with_default_child_ids,
    event_beats_timer,
    event_without_data,
    events_from_another_orchestration,
    events_keep_their_order_and_ignore_case,
    events_wait_for_their_name,
    failing_child,
    failure_details,
    falsy_values,
    fan_out,
    history_layout,
    large_payload,
    long_timer_in_chunks,
    scheduled_start,
    tags,
    timers,
    turn_larger_than_the_worker_accepts,
    unknown_activity,
    unknown_orchestrator,
]
