"""What made orchestrations hang, forget or lie elsewhere, through client, scheduler and worker."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from durabletask import task
from durabletask.client import OrchestrationState, OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import (
    ActivityWorkItemFilter,
    ConcurrencyOptions,
    OrchestrationWorkItemFilter,
    TaskHubGrpcWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkItemFilters,
)

if TYPE_CHECKING:
    from conftest import Hub

WAIT = 30
QUICK = task.RetryPolicy(first_retry_interval=timedelta(milliseconds=10), max_number_of_attempts=3)


def registering(*orchestrators: Any, activities: tuple[Any, ...] = ()) -> Callable[[TaskHubGrpcWorker], None]:
    def setup(worker: TaskHubGrpcWorker) -> None:
        for orchestrator in orchestrators:
            worker.add_orchestrator(orchestrator)
        for activity in activities:
            worker.add_activity(activity)

    return setup


def ended(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None
    return state


def output(client: TaskHubGrpcClient, instance_id: str) -> Any:
    state = ended(client, instance_id)
    assert state.runtime_status is OrchestrationStatus.COMPLETED, state.failure_details
    return state.get_output()


def failure(client: TaskHubGrpcClient, instance_id: str) -> Any:
    state = ended(client, instance_id)
    assert state.runtime_status is OrchestrationStatus.FAILED, state
    assert state.failure_details is not None
    return state.failure_details


def echo(_: task.ActivityContext, value: Any) -> Any:
    return value


# ---- Nothing hangs ----


def yields_no_task(ctx: task.OrchestrationContext, _: Any) -> Any:
    yield 7


def waits_for_any_of_nothing(ctx: task.OrchestrationContext, _: Any) -> Any:
    yield task.when_any([])


def waits_for_all_of_nothing(ctx: task.OrchestrationContext, _: Any) -> Any:
    return (yield task.when_all([]))


def not_a_number(ctx: task.OrchestrationContext, _: Any) -> Any:
    return float("nan")


def leaves(ctx: task.OrchestrationContext, _: Any) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("orchestrator", "error_type", "text"),
    [
        (yields_no_task, "builtins.TypeError", "7"),
        (waits_for_any_of_nothing, "builtins.ValueError", "when_any"),
        (not_a_number, "JsonEncodeOutputException", "nan"),
        (leaves, "builtins.SystemExit", "3"),
    ],
)
def test_a_mistake_fails_the_orchestration_with_a_text_about_it(
    hub: Hub, orchestrator: Any, error_type: str, text: str
) -> None:
    """R14, R15, R18; lessons 3, 4, 9 and 37"""
    hub.worker(registering(orchestrator, waits_for_all_of_nothing))
    client = hub.client()
    details = failure(client, client.schedule_new_orchestration(orchestrator))
    assert details.error_type.endswith(error_type) and text in details.message
    assert output(client, client.schedule_new_orchestration(waits_for_all_of_nothing)) == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), float("nan")], ids=repr)
def test_an_activity_that_ends_badly_fails_and_its_worker_goes_on(hub: Hub, error: Any) -> None:
    """R16, R18; lessons 9 and 37"""

    def bad(_: task.ActivityContext, __: Any) -> Any:
        if isinstance(error, BaseException):
            raise error
        return error

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        try:
            yield ctx.call_activity(bad)
        except task.TaskFailedError as failed:
            return [failed.details.error_type, (yield ctx.call_activity(echo, input="goes on"))]

    hub.worker(registering(orchestrator, activities=(bad, echo)))
    client = hub.client()
    error_type, after = output(client, client.schedule_new_orchestration(orchestrator))
    expected = "ValueError" if isinstance(error, float) else type(error).__name__
    assert (error_type, after) == (f"builtins.{expected}", "goes on")


@pytest.mark.parametrize("returns_at_once", [True, False])
def test_code_that_became_shorter_is_not_deterministic(hub: Hub, returns_at_once: bool) -> None:
    """R9; lessons 1 and 2"""
    scheduled = threading.Event()

    def block(_: task.ActivityContext, __: Any) -> None:
        scheduled.set()

    def recorded(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_activity(block)
        yield ctx.call_activity(block)
        yield ctx.wait_for_external_event("go")

    def shorter(ctx: task.OrchestrationContext, _: Any) -> Any:
        if not returns_at_once:
            yield ctx.call_activity(block)
        return "done"

    first = hub.worker(lambda w: [w.add_orchestrator(recorded, name="orchestrator"), w.add_activity(block)])
    client = hub.client()
    instance_id = client.schedule_new_orchestration("orchestrator")
    wait_for_results(client, instance_id, 2)
    first.stop()
    hub.worker(lambda w: [w.add_orchestrator(shorter, name="orchestrator"), w.add_activity(block)])
    client.raise_orchestration_event(instance_id, "go")
    details = failure(client, instance_id)
    assert details.error_type == "durabletask.task.NonDeterminismError"
    assert "call_activity('block')" in details.message


def wait_for_results(client: TaskHubGrpcClient, instance_id: str, count: int) -> None:
    """Poll the history, which has nothing to wait for, until ``count`` activities have completed."""
    pause = threading.Event()
    for _ in range(WAIT * 100):
        history = client.get_orchestration_history(instance_id)
        if sum(type(event).__name__ == "TaskCompletedEvent" for event in history) == count:
            return
        pause.wait(0.01)
    raise AssertionError("the activities did not complete in time")


def test_blocked_activities_do_not_hold_up_orchestrations(hub: Hub) -> None:
    """R5, lesson 38"""
    release, blocked = threading.Event(), threading.Event()

    def block(_: task.ActivityContext, __: Any) -> str:
        blocked.set()
        return "released" if release.wait(WAIT) else "late"

    async def quick(_: task.ActivityContext, value: Any) -> Any:
        return value

    def blocks(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield task.when_all([ctx.call_activity(block) for _ in range(4)]))

    def trivial(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_activity(quick, input=1))

    concurrency = ConcurrencyOptions(maximum_thread_pool_workers=1)
    hub.worker(registering(blocks, trivial, activities=(block, quick)), concurrency_options=concurrency)
    client = hub.client()
    blocking = client.schedule_new_orchestration(blocks)
    assert blocked.wait(WAIT)
    assert output(client, client.schedule_new_orchestration(trivial)) == 1
    release.set()
    assert output(client, blocking) == ["released"] * 4


def test_a_stopping_worker_gives_its_work_back_at_once(hub: Hub) -> None:
    """R28, lesson 40"""
    release, runs = threading.Event(), Counter[str]()
    taken = {name: threading.Event() for name in ("first", "second")}

    def serve(name: str) -> TaskHubGrpcWorker:
        def work(_: task.ActivityContext, __: Any) -> str:
            runs[name] += 1
            taken[name].set()
            if name == "first":
                release.wait(WAIT)
            return name

        return hub.worker(lambda w: [w.add_orchestrator(orchestrator), w.add_activity(work, name="work")])

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_activity("work"))

    first = serve("first")
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator)
    assert taken["first"].wait(WAIT)
    serve("second")
    first.stop(0)
    assert output(client, instance_id) == "second"
    release.set()
    assert runs == {"first": 1, "second": 1}


def test_a_child_id_that_is_in_use_does_not_wedge_the_parent(hub: Hub) -> None:
    """Lessons 48 and 49"""

    def child(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.wait_for_external_event("never")

    def parent(ctx: task.OrchestrationContext, child_id: str) -> Any:
        yield ctx.call_sub_orchestrator(child, instance_id=child_id)

    hub.worker(registering(child, parent))
    client = hub.client()
    client.schedule_new_orchestration(child, instance_id="taken")
    for child_id, own_id in (("taken", "parent"), ("itself", "itself")):
        details = failure(client, client.schedule_new_orchestration(parent, instance_id=own_id, input=child_id))
        assert child_id in details.message


# ---- Versions ----


@pytest.mark.parametrize(
    "versioning",
    [
        VersioningOptions(default_version="1.0.0"),
        VersioningOptions(version="1.0.0"),
        VersioningOptions(version="1.0.0", match_strategy=VersionMatchStrategy.NONE),
    ],
    ids=repr,
)
def test_options_without_strategies_run_every_version(hub: Hub, versioning: VersioningOptions) -> None:
    """R1, R2, lesson 11"""

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return ctx.version

    hub.worker(lambda w: [w.use_versioning(versioning), w.add_orchestrator(orchestrator)])
    client = hub.client()
    for version in (None, "2.0.0"):
        assert output(client, client.schedule_new_orchestration(orchestrator, version=version)) == version


def test_a_version_that_no_worker_serves_waits_for_one_that_does(hub: Hub) -> None:
    """R1, R8; lessons 11 and 57: rejected work is tried again with a pause, and elsewhere."""

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return ctx.version

    def serving(version: str) -> Callable[[TaskHubGrpcWorker], Any]:
        options = VersioningOptions(version, match_strategy=VersionMatchStrategy.STRICT)
        return lambda w: [w.use_versioning(options), w.add_orchestrator(orchestrator)]

    old = hub.worker(serving("1.0.0"))
    client = hub.client()
    newer = client.schedule_new_orchestration(orchestrator, version="2.0.0")
    assert output(client, client.schedule_new_orchestration(orchestrator, version="1.0.0")) == "1.0.0"
    state = client.get_orchestration_state(newer)
    assert state is not None and state.runtime_status is OrchestrationStatus.PENDING
    old.stop()
    hub.worker(serving("2.0.0"))
    assert output(client, newer) == "2.0.0"


def test_automatic_filters_of_a_strict_worker_leave_the_rest_pending_and_run_activities(hub: Hub) -> None:
    """R7, lesson 12, pinned 16"""

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_activity(echo, input=ctx.version))

    def setup(worker: TaskHubGrpcWorker) -> None:
        registering(orchestrator, activities=(echo,))(worker)
        strict = VersionMatchStrategy.STRICT
        worker.use_versioning(VersioningOptions("1.0", None, strict, VersionFailureStrategy.FAIL))
        worker.use_work_item_filters()

    hub.worker(setup)
    client = hub.client()
    others = [client.schedule_new_orchestration(orchestrator, version=version) for version in ("2.0", None)]
    assert output(client, client.schedule_new_orchestration(orchestrator, version="1.0")) == "1.0"
    for other in others:
        state = client.get_orchestration_state(other)
        assert state is not None and state.runtime_status is OrchestrationStatus.PENDING


def test_a_kind_of_work_without_names_in_the_filters_is_not_delivered(hub: Hub) -> None:
    """Pinned 17"""
    ran_here = Counter[str]()

    def serve(name: str, filters: WorkItemFilters) -> None:
        def work(_: task.ActivityContext, __: Any) -> str:
            ran_here[name] += 1
            return name

        def setup(worker: TaskHubGrpcWorker) -> None:
            worker.add_orchestrator(orchestrator)
            worker.add_activity(work)
            worker.use_work_item_filters(filters)

        hub.worker(setup)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield task.when_all([ctx.call_activity("work") for _ in range(5)]))

    serve("orchestrations", WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("orchestrator")]))
    serve("activities", WorkItemFilters(activities=[ActivityWorkItemFilter("work")]))
    client = hub.client()
    assert output(client, client.schedule_new_orchestration(orchestrator)) == ["activities"] * 5
    assert ran_here == {"activities": 5}


def test_the_versions_in_flight_can_be_seen(hub: Hub) -> None:
    """R25: "when the last old instance has ended" is a question to the client."""

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.wait_for_external_event("go")

    hub.worker(registering(orchestrator))
    client = hub.client()
    ids = [client.schedule_new_orchestration(orchestrator, version=version) for version in ("1.0.0", "2.0.0")]
    for instance_id in ids:
        client.wait_for_orchestration_start(instance_id, timeout=WAIT)
    running = {s.version: s.instance_id for s in client.get_all_orchestration_states()}
    assert running == dict(zip(("1.0.0", "2.0.0"), ids, strict=True))


# ---- Retries, generations, events ----


def test_retries_of_a_child_and_of_its_activity_multiply(hub: Hub) -> None:
    """Pinned 2"""
    calls = Counter[str]()

    def fails(_: task.ActivityContext, __: Any) -> None:
        calls["activity"] += 1
        raise ValueError("Kah-BOOOOM!!!")

    def child(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_activity(fails, retry_policy=QUICK)

    def parent(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_sub_orchestrator(child, retry_policy=QUICK)

    hub.worker(registering(child, parent, activities=(fails,)))
    client = hub.client()
    details = failure(client, client.schedule_new_orchestration(parent))
    assert calls["activity"] == 9
    assert details.error_type == "durabletask.task.TaskFailedError" and details.stack_trace is not None
    assert details.message.startswith("Sub-orchestration task #1 failed:")
    assert details.message.endswith("Activity task #1 failed: Kah-BOOOOM!!!")


def test_events_are_carried_over_one_generation_each_in_order(hub: Hub) -> None:
    """Pinned 5 and 6; lessons 16 and 17"""
    fresh: list[Any] = []

    def orchestrator(ctx: task.OrchestrationContext, seen: list[int]) -> Any:
        seen.append((yield ctx.wait_for_external_event("my_event")))
        if not ctx.is_replaying:
            fresh.append(seen[-1])
        if len(seen) == 5:
            return seen
        ctx.continue_as_new(seen, save_events=True)

    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator, input=[])
    for n in range(5):
        client.raise_orchestration_event(instance_id, "My_Event", data=n)
    hub.worker(registering(orchestrator))
    state = ended(client, instance_id)
    assert (state.serialized_output, state.serialized_input) == ("[0, 1, 2, 3, 4]", "[0, 1, 2, 3]")
    assert fresh == [0, 1, 2, 3, 4]


def test_a_sent_event_arrives_once_and_one_that_cannot_arrive_is_dropped(hub: Hub) -> None:
    """Pinned 10"""

    def receiver(ctx: task.OrchestrationContext, _: Any) -> Any:
        first = yield ctx.wait_for_external_event("note")
        again = ctx.wait_for_external_event("note")
        winner = yield task.when_any([again, ctx.wait_for_external_event("end")])
        return [first, winner is again]

    def sender(ctx: task.OrchestrationContext, _: Any) -> Any:
        ctx.send_event("receiver", "NOTE", data={"n": 0})
        for nowhere in ("nobody", ctx.instance_id, "finished"):
            ctx.send_event(nowhere, "note")
        yield ctx.call_activity(echo)
        yield ctx.call_activity(echo)
        return "sent"

    hub.worker(registering(receiver, sender, activities=(echo,)))
    client = hub.client()
    client.schedule_new_orchestration(receiver, instance_id="receiver")
    client.schedule_new_orchestration("echo_nothing", instance_id="finished")
    ended(client, "finished")
    assert output(client, client.schedule_new_orchestration(sender, instance_id="sender")) == "sent"
    client.raise_orchestration_event("receiver", "end")
    assert output(client, "receiver") == [{"n": 0}, False]
    finished = client.get_orchestration_state("sender")
    assert finished is not None and finished.runtime_status is OrchestrationStatus.COMPLETED


def test_none_is_no_payload_and_others_are_the_text_of_json(hub: Hub) -> None:
    """Pinned 5, lesson 8"""

    def orchestrator(ctx: task.OrchestrationContext, given: Any) -> Any:
        ctx.set_custom_status(given)
        return given

    hub.worker(registering(orchestrator))
    client = hub.client()
    for value, text in ((None, None), ({"a": [1, "é"], "b": None}, '{"a": [1, "\\u00e9"], "b": null}')):
        state = ended(client, client.schedule_new_orchestration(orchestrator, input=value))
        assert (state.serialized_input, state.serialized_custom_status, state.serialized_output) == (text,) * 3


# ---- Rewinding and purging ----


class Flaky:
    """An activity that fails as often as it is told to, and counts its calls by input."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = Counter[str]()

    def __call__(self, _: task.ActivityContext, name: str) -> str:
        self.calls[name] += 1
        if name == "bad" and self.calls[name] <= self.failures:
            raise RuntimeError(f"failure {self.calls[name]}")
        return name


def rewind(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    client.rewind_orchestration(instance_id, reason="repaired")
    return ended(client, instance_id)


def test_an_instance_can_be_rewound_more_than_once(hub: Hub) -> None:
    """Pinned 15, lesson 15"""
    flaky = Flaky(failures=2)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        good = yield ctx.call_activity("flaky", input="good")
        bad = yield ctx.call_activity("flaky", input="bad")
        return [good, bad]

    hub.worker(lambda w: [w.add_orchestrator(orchestrator), w.add_activity(flaky, name="flaky")])
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator)
    assert "failure 1" in failure(client, instance_id).message
    client.rewind_orchestration(instance_id)
    assert "failure 2" in failure(client, instance_id).message
    state = rewind(client, instance_id)
    assert state.get_output() == ["good", "bad"] and state.failure_details is None
    assert flaky.calls == {"good": 1, "bad": 3}


def test_failed_children_are_rewound_with_their_parent(hub: Hub) -> None:
    """Pinned 15, lesson 15"""
    flaky = Flaky(failures=1)

    def leaf(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.call_activity("flaky", input="good")
        return (yield ctx.call_activity("flaky", input="bad"))

    def middle(ctx: task.OrchestrationContext, _: Any) -> Any:
        try:
            return (yield ctx.call_sub_orchestrator(leaf, instance_id="leaf"))
        finally:
            ctx.set_custom_status("left")

    def top(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_sub_orchestrator(middle, instance_id="middle"))

    hub.worker(lambda w: [registering(leaf, middle, top)(w), w.add_activity(flaky, name="flaky")])
    client = hub.client()
    failure(client, client.schedule_new_orchestration(top, instance_id="top"))
    assert rewind(client, "top").get_output() == "bad"
    assert {ended(client, name).runtime_status for name in ("middle", "leaf")} == {OrchestrationStatus.COMPLETED}
    assert flaky.calls == {"good": 1, "bad": 2}


def test_a_failure_that_a_clean_up_followed_can_be_rewound(hub: Hub) -> None:
    """R20, lesson 15"""
    flaky = Flaky(failures=1)

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        try:
            return (yield ctx.call_activity("flaky", input="bad"))
        except task.TaskFailedError:
            yield ctx.call_activity("flaky", input="clean")
            raise

    hub.worker(lambda w: [w.add_orchestrator(orchestrator), w.add_activity(flaky, name="flaky")])
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator)
    failure(client, instance_id)
    state = rewind(client, instance_id)
    assert state.get_output() == "bad", state.failure_details
    assert flaky.calls == {"bad": 2, "clean": 1}


def test_a_purged_child_is_made_again_by_a_rewind(hub: Hub) -> None:
    """Pinned 15"""
    flaky = Flaky(failures=1)

    def child(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_activity("flaky", input="bad"))

    def parent(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_sub_orchestrator(child, instance_id="child"))

    hub.worker(lambda w: [registering(child, parent)(w), w.add_activity(flaky, name="flaky")])
    client = hub.client()
    instance_id = client.schedule_new_orchestration(parent)
    failure(client, instance_id)
    assert client.purge_orchestration("child").deleted_instance_count == 1
    assert rewind(client, instance_id).get_output() == "bad"


def test_only_a_failed_instance_can_be_rewound_and_only_an_ended_one_purged(hub: Hub) -> None:
    """Pinned 15; R24, lesson 52"""

    def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
        yield ctx.wait_for_external_event("go")

    hub.worker(registering(orchestrator))
    client = hub.client()
    instance_id = client.schedule_new_orchestration(orchestrator)
    client.wait_for_orchestration_start(instance_id, timeout=WAIT)
    refusals = [
        (lambda: client.rewind_orchestration("nobody"), grpc.StatusCode.NOT_FOUND),
        (lambda: client.rewind_orchestration(instance_id), grpc.StatusCode.FAILED_PRECONDITION),
        (lambda: client.purge_orchestration(instance_id), grpc.StatusCode.FAILED_PRECONDITION),
    ]
    for act, code in refusals:
        with pytest.raises(grpc.RpcError) as refusal:
            act()
        assert refusal.value.code() is code  # type: ignore[attr-defined]
    client.raise_orchestration_event(instance_id, "go")
    assert output(client, instance_id) is None
