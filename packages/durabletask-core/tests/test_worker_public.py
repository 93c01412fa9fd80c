"""The public worker against a scripted task hub: what it asks for, what it runs, how it starts and stops."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from durabletask import task
from durabletask.worker import (
    ActivityWorkItemFilter,
    ConcurrencyOptions,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    TaskHubGrpcWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkItemFilters,
)
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from memory_store import MemoryStore

PATIENCE = 10.0


@pytest.fixture
def new_worker(task_hub: Any) -> Iterator[Callable[..., TaskHubGrpcWorker]]:
    workers: list[TaskHubGrpcWorker] = []

    def make(**options: Any) -> TaskHubGrpcWorker:
        worker = TaskHubGrpcWorker(host_address=task_hub.address, **options)
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.stop(0)


def event(**kind: Any) -> pb.HistoryEvent:
    built = pb.HistoryEvent(eventId=-1, **kind)
    built.timestamp.FromJsonString("2026-01-02T03:04:05Z")
    return built


def first_turn(name: str, token: str, *, version: str | None = None, data: Any = None) -> pb.WorkItem:
    started = pb.ExecutionStartedEvent(name=name, orchestrationInstance=pb.OrchestrationInstance(instanceId="i"))
    if version is not None:
        started.version.value = version
    if data is not None:
        started.input.value = json.dumps(data)
    events = [event(orchestratorStarted=pb.OrchestratorStartedEvent()), event(executionStarted=started)]
    return pb.WorkItem(
        orchestratorRequest=pb.OrchestratorRequest(instanceId="i", newEvents=events), completionToken=token
    )


def activity(name: str, token: str, data: Any = None, version: str | None = None) -> pb.WorkItem:
    request = pb.ActivityRequest(name=name, taskId=1, orchestrationInstance=pb.OrchestrationInstance(instanceId="i"))
    if data is not None:
        request.input.value = json.dumps(data)
    if version is not None:
        request.version.value = version
    return pb.WorkItem(activityRequest=request, completionToken=token)


def completion(response: pb.OrchestratorResponse) -> pb.CompleteOrchestrationAction:
    return response.actions[-1].completeOrchestration


def greet(ctx: task.ActivityContext, name: str) -> str:
    return f"Hello {name}!"


async def greet_async(ctx: task.ActivityContext, name: str) -> str:
    return f"Hello {name}, later!"


def two_steps(ctx: task.OrchestrationContext, name: str) -> Any:
    first = yield ctx.call_activity(greet, input=name)
    second = yield ctx.call_activity(greet, input=first)
    return second


# ---- Running user code ----


def test_an_orchestrator_runs_its_first_turn(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    worker = new_worker()
    assert worker.add_orchestrator(two_steps) == "two_steps"
    worker.start()
    task_hub.stream().send(first_turn("two_steps", "t1", data="Ann"))

    response = task_hub.answer()[1]
    assert response.completionToken == "t1"
    assert response.actions[0].scheduleTask.name == "greet"
    assert response.actions[0].scheduleTask.input.value == '"Ann"'


def test_a_warm_turn_gives_the_same_actions_as_a_cold_one(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    task_hub.warm_runs = True
    worker = new_worker()
    worker.add_orchestrator(two_steps)
    worker.start()
    stream = task_hub.stream()
    first = first_turn("two_steps", "t1", data="Ann")
    stream.send(first)
    scheduled = task_hub.answer()[1].actions[0].scheduleTask
    news = [
        event(orchestratorStarted=pb.OrchestratorStartedEvent()),
        event(taskCompleted=pb.TaskCompletedEvent(taskScheduledId=1, result={"value": '"Hello Ann!"'})),
    ]
    warm_turn = pb.WorkItem(
        orchestratorRequest=pb.OrchestratorRequest(instanceId="i", newEvents=news), completionToken="t2"
    )
    warm_turn.orchestratorRequest.properties[warm.BASE].string_value = "t1"
    confirmation = event(taskScheduled=pb.TaskScheduledEvent(name=scheduled.name, input=scheduled.input))
    confirmation.eventId = 1
    cold_turn = pb.WorkItem(
        orchestratorRequest=pb.OrchestratorRequest(
            instanceId="i", pastEvents=[*first.orchestratorRequest.newEvents, confirmation], newEvents=news
        ),
        completionToken="t3",
    )

    stream.send(warm_turn)
    warm_answer = task_hub.answer()[1]
    stream.send(cold_turn)
    cold_answer = task_hub.answer()[1]

    assert not warm_answer.requiresHistory
    assert list(warm_answer.actions) == list(cold_answer.actions)
    assert warm_answer.actions[0].scheduleTask.input.value == '"Hello Ann!"'


@pytest.mark.parametrize(("name", "result"), [("greet", '"Hello Ann!"'), ("greet_async", '"Hello Ann, later!"')])
def test_activities_run(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker], name: str, result: str) -> None:
    """R3: an ``async def`` activity is awaited."""
    worker = new_worker()
    worker.add_activity(greet)
    worker.add_activity(greet_async)
    worker.start()
    task_hub.stream().send(activity(name, "t1", "Ann"))

    assert task_hub.answer()[1].result.value == result


def test_async_activities_share_one_loop(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    """Lesson 43: two activities may use one asyncio object."""
    import asyncio

    ready = asyncio.Event()

    async def wait(ctx: task.ActivityContext, _: Any) -> str:
        await ready.wait()
        return "waited"

    async def release(ctx: task.ActivityContext, _: Any) -> str:
        ready.set()
        return "released"

    worker = new_worker()
    worker.add_activity(wait)
    worker.add_activity(release)
    worker.start()
    task_hub.stream().send(activity("wait", "t1"), activity("release", "t2"))

    assert {task_hub.answer()[1].result.value for _ in range(2)} == {'"waited"', '"released"'}


@pytest.mark.parametrize(
    ("item", "error_type"),
    [
        (first_turn("unknown", "t1"), "durabletask.worker.OrchestratorNotRegisteredError"),
        (activity("unknown", "t1"), "durabletask.worker.ActivityNotRegisteredError"),
    ],
)
def test_unknown_names_fail_with_a_named_error(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker], item: pb.WorkItem, error_type: str
) -> None:
    new_worker().start()
    task_hub.stream().send(item)

    response = task_hub.answer()[1]
    details = (
        response.failureDetails if isinstance(response, pb.ActivityResponse) else completion(response).failureDetails
    )
    assert details.errorType == error_type and "unknown" in details.errorMessage


def test_sys_exit_in_user_code_hurts_only_that_item(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    """R16, lesson 37."""

    def leave(ctx: Any, _: Any) -> None:
        sys.exit(3)

    worker = new_worker()
    worker.add_activity(leave)
    worker.add_orchestrator(leave, name="leaving")
    worker.add_activity(greet)
    worker.start()
    stream = task_hub.stream()
    stream.send(activity("leave", "t1"))
    failed_activity = task_hub.answer()[1]
    stream.send(first_turn("leaving", "t2"))
    failed_orchestration = task_hub.answer()[1]
    stream.send(activity("greet", "t3", "Ann"))

    assert failed_activity.failureDetails.errorType == "builtins.SystemExit"
    assert completion(failed_orchestration).failureDetails.errorType == "builtins.SystemExit"
    assert task_hub.answer()[1].result.value == '"Hello Ann!"'


@pytest.mark.parametrize(
    ("strategy", "rpc"),
    [
        (None, "AbandonTaskOrchestratorWorkItem"),
        (VersionFailureStrategy.REJECT, "AbandonTaskOrchestratorWorkItem"),
        (VersionFailureStrategy.FAIL, "CompleteOrchestratorTask"),
    ],
)
def test_a_version_that_does_not_match_never_hangs(
    task_hub: Any,
    new_worker: Callable[..., TaskHubGrpcWorker],
    strategy: VersionFailureStrategy | None,
    rpc: str,
) -> None:
    """R1, lesson 11."""
    worker = new_worker()
    worker.add_orchestrator(two_steps)
    worker.use_versioning(
        VersioningOptions(version="1.0.0", match_strategy=VersionMatchStrategy.STRICT, failure_strategy=strategy)
    )
    worker.start()
    task_hub.stream().send(first_turn("two_steps", "t1", version="2.0.0"))

    assert task_hub.answer()[0] == rpc


def test_hooks_are_called_around_an_activity(task_hub: Any) -> None:
    seen: list[str] = []

    class Watching(TaskHubGrpcWorker):
        def _on_activity_execution_started(self, req: pb.ActivityRequest) -> None:
            seen.append(f"started {req.name}")
            raise RuntimeError("a hook must not cost the activity")

        def _on_activity_execution_completed(self, req: pb.ActivityRequest) -> None:
            seen.append(f"completed {req.name}")

    worker = Watching(host_address=task_hub.address)
    worker.add_activity(greet)
    with worker:
        worker.start()
        task_hub.stream().send(activity("greet", "t1", "Ann"))
        assert task_hub.answer()[1].result.value == '"Hello Ann!"'
    assert seen == ["started greet", "completed greet"]


@pytest.mark.parametrize("owner", ["the class", "the worker"])
def test_a_hook_may_be_put_in_place_later(task_hub: Any, monkeypatch: pytest.MonkeyPatch, owner: str) -> None:
    seen: list[str] = []
    worker = TaskHubGrpcWorker(host_address=task_hub.address)
    worker.add_activity(greet)
    target: Any = worker if owner == "the worker" else TaskHubGrpcWorker
    monkeypatch.setattr(target, "_on_activity_execution_completed", lambda *arguments: seen.append(arguments[-1].name))
    with worker:
        worker.start()
        task_hub.stream().send(activity("greet", "t1", "Ann"))
        assert task_hub.answer()[1].result.value == '"Hello Ann!"'
    assert seen == ["greet"]


@pytest.mark.parametrize(("level", "tells"), [(logging.DEBUG, True), (logging.INFO, False)])
def test_what_a_turn_did_is_logged_for_those_who_debug(task_hub: Any, level: int, tells: bool) -> None:
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger = logging.Logger("turns", level)
    logger.addHandler(Listener())
    worker = TaskHubGrpcWorker(host_address=task_hub.address, logger=logger)
    worker.add_orchestrator(two_steps)
    with worker:
        worker.start()
        task_hub.stream().send(first_turn("two_steps", "t1", data="Ann"))
        task_hub.answer()
    assert any("orchestrator 'two_steps'" in text for text in told) is tells


@pytest.mark.parametrize("name", ["repeat", "repeat_async"])
def test_large_payloads_go_through_the_store(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker], name: str
) -> None:
    def repeat(ctx: Any, text: str) -> str:
        return text * 2

    async def repeat_async(ctx: Any, text: str) -> str:
        return text * 2

    store = MemoryStore(50, 500)
    token = store.upload(json.dumps("x" * 60).encode())
    worker = new_worker(payload_store=store)
    worker.add_activity(repeat)
    worker.add_activity(repeat_async)
    worker.start()
    item = activity(name, "t1")
    item.activityRequest.input.value = token
    stream = task_hub.stream()
    stream.send(item)

    result = task_hub.answer()[1].result.value
    assert pb.WORKER_CAPABILITY_LARGE_PAYLOADS in stream.request.capabilities
    assert store.data[result] == json.dumps("x" * 120).encode()


def test_a_result_above_the_stores_maximum_fails_the_activity(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    def large(ctx: Any, _: Any) -> str:
        return "x" * 1000

    worker = new_worker(payload_store=MemoryStore(50, 500))
    worker.add_activity(large)
    worker.add_orchestrator(large, name="large_orchestration")
    worker.start()
    stream = task_hub.stream()
    stream.send(activity("large", "t1"))
    assert task_hub.answer()[1].failureDetails.errorType == "builtins.ValueError"
    stream.send(first_turn("large_orchestration", "t2"))

    assert completion(task_hub.answer()[1]).orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED


def test_a_result_above_the_receivers_limit_fails_the_activity(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    """R17, lesson 44: against a real receiver with the default limit of 4 MiB."""

    def large(ctx: Any, _: Any) -> str:
        return "x" * 5_000_000

    worker = new_worker()
    worker.add_activity(large)
    worker.start()
    task_hub.stream().send(activity("large", "t1"))

    details = task_hub.answer()[1].failureDetails
    assert details.errorType == "durabletask.worker.PayloadTooLargeError"
    assert "5000" in details.errorMessage and "4194304" in details.errorMessage


# ---- What is asked for ----


def test_limits_of_all_three_kinds_are_sent(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    new_worker(concurrency_options=ConcurrencyOptions(1, 2, 3)).start()

    request = task_hub.stream().request
    limits = (
        request.maxConcurrentActivityWorkItems,
        request.maxConcurrentOrchestrationWorkItems,
        request.maxConcurrentEntityWorkItems,
    )
    assert limits == (1, 2, 3)


def test_no_more_entity_batches_are_asked_for_than_can_run(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    """Lesson 39: others would wait here, and other workers could not take them."""
    new_worker(concurrency_options=ConcurrencyOptions(None, None, 50, 4)).start()

    assert task_hub.stream().request.maxConcurrentEntityWorkItems == 4


def test_capabilities_are_advertised(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    """R29."""
    worker = new_worker()
    worker.add_capability(77)
    worker.start()

    assert list(task_hub.stream().request.capabilities) == [pb.WORKER_CAPABILITY_HISTORY_STREAMING, 77]


def test_metadata_goes_with_the_stream(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    new_worker(metadata=[("taskhub", "mine")]).start()

    assert task_hub.stream().metadata["taskhub"] == "mine"


def test_a_reconnection_does_not_share_the_old_connection(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    """Lesson 34: gRPC shares connections between channels, and a new channel must not get the broken one back."""
    new_worker().start()
    first = task_hub.stream()
    first.end()
    assert task_hub.stream().peer != first.peer


def test_a_given_channel_is_used_and_survives(task_hub: Any) -> None:
    with grpc.insecure_channel(task_hub.address) as channel:
        with TaskHubGrpcWorker(channel=channel) as worker:
            worker.start()
            task_hub.stream()
        with TaskHubGrpcWorker(channel=channel) as worker:
            worker.start()
            assert task_hub.stream().request.maxConcurrentActivityWorkItems > 0


def test_without_filters_everything_is_taken(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    worker = new_worker()
    worker.use_work_item_filters()
    worker.use_work_item_filters(None)
    worker.start()

    assert not task_hub.stream().request.HasField("workItemFilters")


def test_explicit_filters_are_sent_as_given(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    """Pinned 17"""
    worker = new_worker()
    worker.use_work_item_filters(
        WorkItemFilters(
            orchestrations=[OrchestrationWorkItemFilter("order", ["1.0", ""])],
            activities=[ActivityWorkItemFilter("charge")],
            entities=[EntityWorkItemFilter("Counter")],
        )
    )
    worker.start()

    assert task_hub.stream().request.workItemFilters == pb.WorkItemFilters(
        orchestrations=[pb.OrchestrationFilter(name="order", versions=["1.0", ""])],
        activities=[pb.ActivityFilter(name="charge")],
        entities=[pb.EntityFilter(name="counter")],
    )


STRICT = VersioningOptions(version="3.0", match_strategy=VersionMatchStrategy.STRICT)
OLDER = VersioningOptions(version="3.0", match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER)


@pytest.mark.parametrize(
    ("registered", "versioning", "expected"),
    [
        ([None], None, []),
        ([None], OLDER, []),
        ([None], STRICT, ["3.0"]),
        (["1.0", "2.0"], None, ["1.0", "2.0"]),
        ([None, "2.0"], None, ["", "2.0"]),
        (["2.0"], STRICT, ["3.0"]),
    ],
)
def test_automatic_filters_list_versions_of_orchestrations(
    task_hub: Any,
    new_worker: Callable[..., TaskHubGrpcWorker],
    registered: list[str | None],
    versioning: VersioningOptions | None,
    expected: list[str],
) -> None:
    worker = new_worker()
    for version in registered:
        worker.add_orchestrator(two_steps, version=version)
    if versioning is not None:
        worker.use_versioning(versioning)
    worker.use_work_item_filters()
    worker.start()

    (sent,) = task_hub.stream().request.workItemFilters.orchestrations
    assert (sent.name, list(sent.versions)) == ("two_steps", expected)


@pytest.mark.parametrize(("version", "expected"), [(None, []), ("2.0", ["2.0"])])
def test_automatic_filters_never_put_the_workers_version_on_activities(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker], version: str | None, expected: list[str]
) -> None:
    """R7, lesson 12: activities are scheduled without a version, so such a filter would match nothing."""
    worker = new_worker()
    worker.add_activity(greet, version=version)
    worker.use_versioning(STRICT)
    worker.use_work_item_filters()
    worker.start()

    (sent,) = task_hub.stream().request.workItemFilters.activities
    assert (sent.name, list(sent.versions)) == ("greet", expected)


def test_filters_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="WorkItemFilters"):
        TaskHubGrpcWorker().use_work_item_filters(["order"])


@pytest.mark.parametrize("name", ["", "a@b"])
def test_entity_filter_names_are_checked(name: str) -> None:
    """Pinned 17"""
    with pytest.raises(ValueError, match="entity name"):
        EntityWorkItemFilter(name)


# ---- Registration and life cycle ----


def test_decorators_return_the_function_and_register_name_and_version(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    worker = new_worker()

    @worker.activity(name="upper", version="2")
    def shout(ctx: Any, text: str) -> str:
        return text.upper()

    @worker.orchestrator()
    def quiet(ctx: Any, _: Any) -> str:
        return "done"

    assert shout(None, "a") == "A" and quiet(None, None) == "done"
    worker.start()
    task_hub.stream().send(activity("upper", "t1", "x", version="2"))
    assert task_hub.answer()[1].result.value == '"X"'


@pytest.mark.parametrize("add", ["add_orchestrator", "add_activity"])
def test_a_name_and_version_can_be_registered_once(add: str) -> None:
    register = getattr(TaskHubGrpcWorker(), add)
    register(greet)
    assert register(greet, version="1.0") == "greet"
    with pytest.raises(ValueError, match="already"):
        register(greet)


def test_nothing_can_be_configured_while_running(new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    worker = new_worker()
    worker.start()

    attempts: list[Callable[[], Any]] = [
        lambda: worker.add_orchestrator(two_steps),
        lambda: worker.add_activity(greet),
        lambda: worker.add_entity(greet),
        lambda: worker.add_capability(1),
        lambda: worker.use_versioning(STRICT),
        lambda: worker.use_work_item_filters(),
        worker.configure_scheduled_tasks,
        worker.start,
    ]
    for attempt in attempts:
        with pytest.raises(RuntimeError, match="running"):
            attempt()


def test_a_worker_stops_twice_and_starts_again(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    """Pinned 30"""
    worker = new_worker()
    worker.add_activity(greet)
    worker.stop()
    worker.start()
    first = task_hub.stream()
    worker.stop()
    worker.stop()
    assert first.ended.wait(PATIENCE)
    worker.add_activity(greet_async)
    worker.start()
    task_hub.stream().send(activity("greet_async", "t1", "Ann"))

    assert task_hub.answer()[1].completionToken == "t1"


def test_a_session_leaves_no_thread_behind(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    before = set(threading.enumerate())
    worker = new_worker()
    worker.add_activity(greet)
    worker.add_activity(greet_async)
    worker.start()
    task_hub.stream().send(activity("greet", "t1", "Ann"), activity("greet_async", "t2", "Ann"))
    assert {task_hub.answer()[1].completionToken for _ in range(2)} == {"t1", "t2"}
    own = [thread for thread in threading.enumerate() if thread not in before and "DurableTask" in thread.name]
    assert own

    worker.stop()
    for thread in own:
        thread.join(PATIENCE)

    assert not [thread.name for thread in own if thread.is_alive()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_serves_until_a_signal(task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker], number: int) -> None:
    worker = new_worker()
    former = signal.getsignal(number)
    signaller = threading.Thread(target=lambda: (task_hub.stream(), os.kill(os.getpid(), number)))
    signaller.start()

    worker.run()

    signaller.join(PATIENCE)
    assert signal.getsignal(number) is former
    assert worker.add_activity(greet) == "greet"


def test_run_is_refused_while_running_and_stops_nothing(
    task_hub: Any, new_worker: Callable[..., TaskHubGrpcWorker]
) -> None:
    worker = new_worker()
    worker.add_activity(greet)
    worker.start()
    with pytest.raises(RuntimeError, match="already running"):
        worker.run()

    task_hub.stream().send(activity("greet", "t1", "Ann"))
    assert task_hub.answer()[1].completionToken == "t1"


def test_run_is_refused_off_the_main_thread(new_worker: Callable[..., TaskHubGrpcWorker]) -> None:
    errors: list[RuntimeError] = []

    def run() -> None:
        try:
            new_worker().run()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)

    assert "main thread" in str(errors[0])


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 3),
    reason="this Python starts no thread after the end of the main module (gh-113964, mended in 3.12.3)",
)
def test_a_started_worker_outlives_the_main_module_until_it_is_stopped(task_hub: Any) -> None:
    script = (
        "import sys, threading\n"
        "from durabletask.worker import TaskHubGrpcWorker\n"
        "worker = TaskHubGrpcWorker(host_address=sys.argv[1])\n"
        "worker.add_activity(lambda ctx, _: threading.Timer(0, worker.stop).start(), name='leave')\n"
        "worker.start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, task_hub.address]) as child:
        stream = task_hub.stream()
        assert child.poll() is None
        stream.send(activity("leave", "t1"))
        assert task_hub.answer()[1].completionToken == "t1"
        assert child.wait(PATIENCE) == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_below_one_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConcurrencyOptions(maximum_concurrent_activity_work_items=limit)


def test_unset_limits_follow_the_number_of_processors() -> None:
    options = ConcurrencyOptions()
    cpus = os.cpu_count() or 1
    assert options.maximum_concurrent_orchestration_work_items == 100 * cpus
    assert options.maximum_thread_pool_workers == cpus + 4
    assert options.maximum_cached_orchestrations == 1000
