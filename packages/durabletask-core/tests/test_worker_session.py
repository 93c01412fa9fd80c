"""One run of a worker against a scripted task hub, with scripted user code in place of the engine."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from durabletask._worker.activities import ActivityCode
from durabletask._worker.options import ConcurrencyOptions
from durabletask._worker.session import Intake, Server, Session, UserCode
from durabletask.activities import ActivityOptions
from durabletask.grpc_options import GrpcWorkerResiliencyOptions
from durabletask.registry import Registration
from durabletask.transport.completions import RetryDelays
from durabletask.transport.stream import StreamOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm

PATIENCE = 10.0
LOGGER = logging.getLogger("durabletask-test")


@dataclass
class Result:
    actions: list[pb.OrchestratorAction]
    custom_status: str | None = None
    observations: tuple[Any, ...] = ()


class CountingRun:
    """A run that answers each turn with one timer, numbered by the events it has seen."""

    def __init__(self, code: "ScriptedCode", instance_id: str) -> None:
        self._code = code
        self.name = f"orchestrator-of-{instance_id}"
        self.is_complete = False
        self.seen = 0
        self.confirmed = 0
        self.closed = False

    def replay(self, past_events: Iterable[pb.HistoryEvent]) -> None:
        self.seen += len(list(past_events))

    def advance(self, new_events: Iterable[pb.HistoryEvent]) -> Result:
        self._code.before_turn()
        self.seen += len(list(new_events))
        self.is_complete = self._code.completes
        return Result([pb.OrchestratorAction(id=self.seen)], "status")

    def confirm(self) -> None:
        self.confirmed += 1

    def close(self) -> None:
        self.closed = True


class WrongVersion(Exception):
    pass


def _nothing() -> None:
    pass


def _echo(request: pb.ActivityRequest) -> pb.ActivityResponse:
    response = pb.ActivityResponse(instanceId=request.orchestrationInstance.instanceId, taskId=request.taskId)
    response.result.value = request.name
    return response


def _registered(name: str, version: str | None) -> Registration:
    return Registration(_nothing, name, version, None, None, is_async=name.startswith("async"))


@dataclass
class ScriptedCode:
    """User code under the control of a test."""

    activity: Callable[[pb.ActivityRequest], pb.ActivityResponse] = _echo
    before_turn: Callable[[], None] = _nothing
    completes: bool = False
    kinds: frozenset[str] = frozenset()
    runs: list[CountingRun] = field(default_factory=list)
    hooks: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)

    def open_run(self, instance_id: str) -> CountingRun:
        run = CountingRun(self, instance_id)
        self.runs.append(run)
        return run

    async def run_async(self, request: pb.ActivityRequest) -> pb.ActivityResponse:
        await asyncio.sleep(0)
        return self.activity(request)

    def user_code(self) -> UserCode:
        return UserCode(
            open_run=self.open_run,
            rejections=(WrongVersion,),
            report=lambda instance_id, result: None,
            activities=ActivityCode(
                find=_registered,
                options=ActivityOptions(),
                run=lambda registration, request, options: self.activity(request),
                run_async=lambda registration, request, options: self.run_async(request),
                started=lambda request: self.hooks.put(f"started {request.name}"),
                completed=lambda request: self.hooks.put(f"completed {request.name}"),
            ),
            run_batch=lambda item, host: pb.EntityBatchResult(entityState=item.entityRequestV2.entityState),
            batch_kinds=self.kinds,
            payload_store=None,
            turn_warning=0.05,
        )


QUICK = GrpcWorkerResiliencyOptions(reconnect_backoff_base_seconds=0.01, reconnect_backoff_cap_seconds=0.05)


class Sessions:
    """Starts sessions and stops them at the end of a test."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._started: list[Session] = []
        self.channels: list[grpc.Channel] = []
        self.fresh: list[bool] = []

    def _open_channel(self, fresh: bool) -> grpc.Channel:
        self.fresh.append(fresh)
        # gRPC backs off by itself after a failed connection; a channel per test must not inherit that.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 20)]
        channel = grpc.insecure_channel(self._hub.address, options)
        self.channels.append(channel)
        return channel

    def start(
        self,
        code: ScriptedCode,
        *,
        concurrency: ConcurrencyOptions | None = None,
        stream: StreamOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> Session:
        session = Session(
            Server(
                address=self._hub.address,
                open_channel=self._open_channel,
                channel=channel,
                stream=stream or StreamOptions(QUICK),
                delays=RetryDelays(base=0.01, cap=0.02),
            ),
            Intake(concurrency or ConcurrencyOptions(), frozenset({1}), None),
            code.user_code(),
            LOGGER,
        )
        session.start()
        self._started.append(session)
        return session

    def stop(self) -> None:
        for session in self._started:
            session.stop(0.0)


@pytest.fixture
def sessions(task_hub: Any) -> Iterator[Sessions]:
    sessions = Sessions(task_hub)
    yield sessions
    sessions.stop()


def turn(instance_id: str, token: str, *, past: int = 0, new: int = 1, base: str | None = None) -> pb.WorkItem:
    request = pb.OrchestratorRequest(
        instanceId=instance_id,
        pastEvents=[pb.HistoryEvent(eventId=-1) for _ in range(past)],
        newEvents=[pb.HistoryEvent(eventId=-1) for _ in range(new)],
    )
    if base is not None:
        request.properties[warm.BASE].string_value = base
    return pb.WorkItem(orchestratorRequest=request, completionToken=token)


def activity(name: str, token: str, task_id: int = 1) -> pb.WorkItem:
    request = pb.ActivityRequest(
        name=name, taskId=task_id, orchestrationInstance=pb.OrchestrationInstance(instanceId="i")
    )
    return pb.WorkItem(activityRequest=request, completionToken=token)


def batch(token: str) -> pb.WorkItem:
    return pb.WorkItem(entityRequestV2=pb.EntityRequest(instanceId="@counter@a"), completionToken=token)


PING = pb.WorkItem(healthPing=pb.HealthPing())


# ---- Answers ----


def test_a_turn_is_answered_with_its_actions_status_and_token(task_hub: Any, sessions: Sessions) -> None:
    sessions.start(ScriptedCode())
    task_hub.stream().send(turn("a", "t1", past=3, new=2))

    rpc, response = task_hub.answer()

    assert rpc == "CompleteOrchestratorTask"
    assert (response.instanceId, response.completionToken) == ("a", "t1")
    assert [action.id for action in response.actions] == [5]
    assert response.customStatus.value == "status"


@pytest.mark.parametrize("name", ["plain", "async_one"])
def test_an_activity_is_answered_with_its_result_and_token(task_hub: Any, sessions: Sessions, name: str) -> None:
    code = ScriptedCode()
    sessions.start(code)
    task_hub.stream().send(activity(name, "t1", task_id=7))

    rpc, response = task_hub.answer()

    assert rpc == "CompleteActivityTask"
    assert (response.taskId, response.completionToken, response.result.value) == (7, "t1", name)
    assert [code.hooks.get(timeout=PATIENCE) for _ in range(2)] == [f"started {name}", f"completed {name}"]


@pytest.mark.parametrize("fault", [SystemExit(3), KeyboardInterrupt(), RuntimeError("bad")])
@pytest.mark.parametrize("name", ["plain", "async_one"])
def test_whatever_an_activity_raises_hurts_only_that_activity(
    task_hub: Any, sessions: Sessions, name: str, fault: BaseException
) -> None:
    """R16, lesson 37: a SystemExit that gets past the engine still ends as that activity's failure."""

    def fail_once(request: pb.ActivityRequest) -> pb.ActivityResponse:
        if request.taskId == 1:
            raise fault
        return _echo(request)

    sessions.start(ScriptedCode(activity=fail_once))
    stream = task_hub.stream()
    stream.send(activity(name, "t1", task_id=1))
    failed = task_hub.answer()[1]
    stream.send(activity(name, "t2", task_id=2))

    assert failed.failureDetails.errorType == f"builtins.{type(fault).__name__}"
    assert task_hub.answer()[1].result.value == name


def test_a_rejected_version_is_abandoned(task_hub: Any, sessions: Sessions) -> None:
    def reject() -> None:
        raise WrongVersion("version 2 is not mine")

    sessions.start(ScriptedCode(before_turn=reject))
    task_hub.stream().send(turn("a", "t1"))

    rpc, request = task_hub.answer()
    assert (rpc, request.completionToken) == ("AbandonTaskOrchestratorWorkItem", "t1")


def test_an_entity_batch_without_the_add_on_is_abandoned_and_the_package_named(
    task_hub: Any, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    sessions.start(ScriptedCode())
    task_hub.stream().send(batch("t1"), batch("t2"))

    assert {task_hub.answer()[1].completionToken for _ in range(2)} == {"t1", "t2"}
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1 and "durabletask-entities" in errors[0].getMessage()


def test_an_entity_batch_is_answered_by_the_add_on(task_hub: Any, sessions: Sessions) -> None:
    sessions.start(ScriptedCode(kinds=frozenset({"entityRequestV2"})))
    task_hub.stream().send(batch("t1"))

    rpc, result = task_hub.answer()
    assert (rpc, result.completionToken) == ("CompleteEntityTask", "t1")


def entity_batch(token: str, *, state: str | None = None, base: str | None = None) -> pb.WorkItem:
    item = batch(token)
    if state is not None:
        item.entityRequestV2.entityState.value = state
    if base is not None:
        item.entityRequestV2.executionId = warm.ENTITY_BASE + base
    return item


def test_a_warm_batch_goes_on_from_the_state_of_the_batch_before(task_hub: Any, sessions: Sessions) -> None:
    """The add-on of this test answers with the state that it was given."""
    task_hub.warm_runs = True
    sessions.start(ScriptedCode(kinds=frozenset({"entityRequestV2"})))
    stream = task_hub.stream()
    assert {warm.CAPABILITY, warm.ENTITY_CAPABILITY} <= set(stream.request.capabilities)
    stream.send(entity_batch("t1", state="7"))
    assert task_hub.answer()[1].entityState.value == "7"
    stream.send(entity_batch("t2", base="t1"))
    result = task_hub.answer()[1]
    assert (result.completionToken, result.entityState.value, result.requiresState) == ("t2", "7", False)


@pytest.mark.parametrize("base", ["t0", ""], ids=["another batch", "no batch"])
def test_a_warm_batch_without_its_state_asks_for_it(task_hub: Any, sessions: Sessions, base: str) -> None:
    task_hub.warm_runs = True
    sessions.start(ScriptedCode(kinds=frozenset({"entityRequestV2"})))
    stream = task_hub.stream()
    stream.send(entity_batch("t1", state="7"))
    task_hub.answer()
    stream.send(entity_batch("t2", base=base))
    rpc, result = task_hub.answer()
    assert (rpc, result.completionToken, result.requiresState) == ("CompleteEntityTask", "t2", True)
    assert not result.HasField("entityState") and not result.results
    stream.send(entity_batch("t3", base="t1"))
    assert task_hub.answer()[1].requiresState, "the state was dropped with the batch that did not fit it"


def test_the_state_of_a_batch_whose_answer_was_refused_is_dropped(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    task_hub.refuse("CompleteEntityTask", grpc.StatusCode.INVALID_ARGUMENT)
    sessions.start(ScriptedCode(kinds=frozenset({"entityRequestV2"})))
    stream = task_hub.stream()
    stream.send(entity_batch("t1", state="7"))
    assert task_hub.answer()[0] == "AbandonTaskEntityWorkItem"
    stream.send(entity_batch("t2", base="t1"))
    assert task_hub.answer()[1].requiresState


def test_no_state_of_an_entity_survives_a_reconnect(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    sessions.start(ScriptedCode(kinds=frozenset({"entityRequestV2"})))
    stream = task_hub.stream()
    stream.send(entity_batch("t1", state="7"))
    task_hub.answer()
    stream.end()
    task_hub.stream().send(entity_batch("t2", base="t1"))
    assert task_hub.answer()[1].requiresState


@pytest.mark.parametrize(
    ("warm_runs", "kinds", "concurrency"),
    [
        (False, {"entityRequestV2"}, None),
        (True, set(), None),
        (True, {"entityRequestV2"}, ConcurrencyOptions(maximum_cached_orchestrations=0)),
    ],
    ids=["the server does not know it", "no add-on", "no cache"],
)
def test_warm_entities_are_offered_only_where_they_can_be(
    task_hub: Any, sessions: Sessions, warm_runs: bool, kinds: set[str], concurrency: ConcurrencyOptions | None
) -> None:
    task_hub.warm_runs = warm_runs
    sessions.start(ScriptedCode(kinds=frozenset(kinds)), concurrency=concurrency)
    assert warm.ENTITY_CAPABILITY not in task_hub.stream().request.capabilities


def test_a_work_item_of_an_unknown_kind_is_survived(task_hub: Any, sessions: Sessions) -> None:
    sessions.start(ScriptedCode())
    task_hub.stream().send(pb.WorkItem(completionToken="future"), turn("a", "t1"))

    assert task_hub.answer()[1].completionToken == "t1"


def test_a_streamed_history_is_downloaded_and_replayed(task_hub: Any, sessions: Sessions) -> None:
    """R29, lesson 45."""
    task_hub.history = [pb.HistoryChunk(events=[pb.HistoryEvent(eventId=n) for n in range(3)]) for _ in range(2)]
    item = turn("a", "t1", new=2)
    item.orchestratorRequest.requiresHistoryStreaming = True
    sessions.start(ScriptedCode())
    task_hub.stream().send(item)

    rpc, request = task_hub.answer()
    assert (rpc, request.instanceId, request.forWorkItemProcessing) == ("StreamInstanceHistory", "a", True)
    assert [action.id for action in task_hub.answer()[1].actions] == [8]


# ---- Limits ----


def test_blocked_activities_do_not_delay_turns_or_async_activities(task_hub: Any, sessions: Sessions) -> None:
    """R5, lesson 38: every thread is taken, and a turn still completes."""
    release = threading.Event()

    def block(request: pb.ActivityRequest) -> pb.ActivityResponse:
        if request.name == "block":
            release.wait(PATIENCE)
        return _echo(request)

    sessions.start(ScriptedCode(activity=block), concurrency=ConcurrencyOptions(10, maximum_thread_pool_workers=2))
    stream = task_hub.stream()
    stream.send(*(activity("block", f"b{n}", n) for n in range(5)), turn("a", "t1"), activity("async_one", "a1"))

    assert {task_hub.answer()[1].completionToken for _ in range(2)} == {"t1", "a1"}
    release.set()
    assert {task_hub.answer()[1].completionToken for _ in range(5)} == {f"b{n}" for n in range(5)}


class CountingCode(ScriptedCode):
    """Every activity is held back until ``release``; ``most`` is how many were under way at once."""

    def __init__(self) -> None:
        super().__init__(activity=self.counted)
        self.started: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.release = threading.Event()
        self.most = 0
        self._lock = threading.Lock()
        self._running = 0

    def counted(self, request: pb.ActivityRequest) -> pb.ActivityResponse:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        self.started.put(request.name)
        self.release.wait(PATIENCE)
        with self._lock:
            self._running -= 1
        return _echo(request)

    async def run_async(self, request: pb.ActivityRequest) -> pb.ActivityResponse:
        return await asyncio.to_thread(self.counted, request)


@pytest.mark.parametrize("name", ["plain", "async_one"])
def test_no_more_than_the_limit_run_although_the_server_delivers_more(
    task_hub: Any, sessions: Sessions, name: str
) -> None:
    """Lesson 39, pinned 30"""
    code = CountingCode()
    sessions.start(
        code, concurrency=ConcurrencyOptions(maximum_concurrent_activity_work_items=2, maximum_thread_pool_workers=8)
    )
    task_hub.stream().send(*(activity(name, f"t{n}", n) for n in range(20)), turn("a", "behind them"))

    assert task_hub.answer()[1].completionToken == "behind them"  # so all twenty have been taken
    for _ in range(2):
        code.started.get(timeout=PATIENCE)
    code.release.set()
    assert len({task_hub.answer()[1].completionToken for _ in range(20)}) == 20
    assert code.most == 2


# ---- Completions ----


def test_a_completion_is_sent_again_after_a_passing_error(task_hub: Any, sessions: Sessions) -> None:
    task_hub.refuse("CompleteActivityTask", grpc.StatusCode.UNAVAILABLE, times=3)
    sessions.start(ScriptedCode())
    task_hub.stream().send(activity("plain", "t1"))

    assert task_hub.answer()[1].completionToken == "t1"
    assert task_hub.calls["CompleteActivityTask"] == 4


def test_a_completion_that_cannot_be_delivered_is_abandoned(task_hub: Any, sessions: Sessions) -> None:
    task_hub.refuse("CompleteOrchestratorTask", grpc.StatusCode.PERMISSION_DENIED)
    sessions.start(ScriptedCode())
    task_hub.stream().send(turn("a", "t1"))

    rpc, request = task_hub.answer()
    assert (rpc, request.completionToken) == ("AbandonTaskOrchestratorWorkItem", "t1")


TOO_LARGE = "SERVER: Received message larger than max (5242900 vs. 4194304)"


def test_a_result_too_large_for_the_task_hub_fails_the_activity(task_hub: Any, sessions: Sessions) -> None:
    """R17, lesson 44: the failure names size and limit, and nothing is redelivered."""
    task_hub.refuse("CompleteActivityTask", grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE)
    sessions.start(ScriptedCode())
    task_hub.stream().send(activity("plain", "t1", task_id=9))

    rpc, response = task_hub.answer()
    assert (rpc, response.completionToken, response.taskId) == ("CompleteActivityTask", "t1", 9)
    assert response.failureDetails.errorType == "durabletask.worker.PayloadTooLargeError"
    assert "bytes" in response.failureDetails.errorMessage and "4194304" in response.failureDetails.errorMessage


def test_a_turn_too_large_for_the_task_hub_fails_the_orchestration(task_hub: Any, sessions: Sessions) -> None:
    task_hub.refuse("CompleteOrchestratorTask", grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE)
    code = ScriptedCode()
    task_hub.warm_runs = True
    sessions.start(code)
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))

    response = task_hub.answer()[1]
    completion = response.actions[0].completeOrchestration
    assert completion.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert "4194304" in completion.failureDetails.errorMessage
    stream.send(turn("a", "t2", base="t1"))
    assert task_hub.answer()[1].requiresHistory


# ---- Warm runs ----


def test_a_warm_turn_continues_the_kept_run(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    code = ScriptedCode()
    sessions.start(code)
    stream = task_hub.stream()
    stream.send(turn("a", "t1", past=3, new=2))
    task_hub.answer()
    stream.send(turn("a", "t2", new=1, base="t1"))

    response = task_hub.answer()[1]

    assert warm.CAPABILITY in stream.request.capabilities
    assert [action.id for action in response.actions] == [6] and not response.requiresHistory
    assert len(code.runs) == 1 and code.runs[0].confirmed == 1


def test_a_warm_turn_behind_another_base_asks_for_history(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    code = ScriptedCode()
    sessions.start(code)
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))
    task_hub.answer()
    stream.send(turn("a", "t3", base="t2"))

    response = task_hub.answer()[1]

    assert response.requiresHistory and not response.actions
    assert response.completionToken == "t3"
    assert code.runs[0].closed


def test_a_full_turn_replaces_the_kept_run(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    code = ScriptedCode()
    sessions.start(code)
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))
    task_hub.answer()
    stream.send(turn("a", "t2", past=4, new=1))

    assert [action.id for action in task_hub.answer()[1].actions] == [5]
    assert code.runs[0].closed and not code.runs[1].closed


def test_a_complete_run_is_not_kept(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    code = ScriptedCode(completes=True)
    sessions.start(code)
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))
    task_hub.answer()
    stream.send(turn("a", "t2", base="t1"))

    assert task_hub.answer()[1].requiresHistory
    assert code.runs[0].closed


def test_a_reconnection_forgets_every_run(task_hub: Any, sessions: Sessions) -> None:
    task_hub.warm_runs = True
    sessions.start(ScriptedCode())
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))
    task_hub.answer()
    stream.end()
    task_hub.stream().send(turn("a", "t2", base="t1"))

    assert task_hub.answer()[1].requiresHistory


def test_a_server_without_warm_runs_never_hears_of_them(task_hub: Any, sessions: Sessions) -> None:
    code = ScriptedCode()
    sessions.start(code)
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))
    task_hub.answer()

    assert list(stream.request.capabilities) == [1]
    assert code.runs[0].closed


# ---- Connections ----


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,
    ],
)
def test_a_stream_that_ends_is_opened_again(task_hub: Any, sessions: Sessions, code: grpc.StatusCode) -> None:
    """Lessons 34 and 36."""
    sessions.start(ScriptedCode())
    task_hub.stream().end(code, "scripted")
    task_hub.stream().send(turn("a", "t1"))

    assert task_hub.answer()[1].completionToken == "t1"


def test_a_task_hub_that_starts_later_is_found_and_reported_once(
    task_hub: Any, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    task_hub.stop()
    code = ScriptedCode()
    caplog.set_level(logging.DEBUG)
    failed = _count_records(lambda record: "Cannot get work items" in record.getMessage(), 3)
    sessions.start(code)
    failed.wait(PATIENCE)
    task_hub.start()
    task_hub.stream().send(turn("a", "t1"))

    assert task_hub.answer()[1].completionToken == "t1"
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert task_hub.address in warnings[0].getMessage() and "scheduler" in warnings[0].getMessage()
    assert warnings[0].exc_info is None


def _count_records(wanted: Callable[[logging.LogRecord], bool], count: int) -> threading.Event:
    reached, seen = threading.Event(), queue.SimpleQueue[None]()

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if wanted(record):
                seen.put(None)
                if seen.qsize() >= count:
                    reached.set()

    LOGGER.addHandler(Counter(logging.DEBUG))
    return reached


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    yield
    LOGGER.handlers.clear()


def test_hello_without_an_implementation_is_tolerated(task_hub: Any, sessions: Sessions) -> None:
    task_hub.hello_code = grpc.StatusCode.UNIMPLEMENTED
    sessions.start(ScriptedCode())
    task_hub.stream().send(turn("a", "t1"))

    assert task_hub.answer()[1].completionToken == "t1"


def test_a_silent_stream_is_replaced(task_hub: Any, sessions: Sessions) -> None:
    """Lesson 34: a half-open connection delivers nothing and no error either."""
    resiliency = replace(QUICK, silent_disconnect_timeout_seconds=0.1)
    sessions.start(ScriptedCode(), stream=StreamOptions(resiliency, always_expect_pings=True))
    silent = task_hub.stream()
    task_hub.stream()

    assert silent.ended.wait(PATIENCE)


def test_silence_counts_only_after_a_first_ping(task_hub: Any, sessions: Sessions) -> None:
    """Some servers never ping; an idle stream of theirs is not dead."""
    resiliency = replace(QUICK, silent_disconnect_timeout_seconds=0.05)
    sessions.start(ScriptedCode(), stream=StreamOptions(resiliency))
    stream = task_hub.stream()
    assert not stream.ended.wait(0.3)

    stream.send(PING)

    assert stream.ended.wait(PATIENCE)


def test_a_long_turn_is_not_silence(task_hub: Any, sessions: Sessions) -> None:
    release = threading.Event()
    resiliency = replace(QUICK, silent_disconnect_timeout_seconds=0.05)
    sessions.start(
        ScriptedCode(before_turn=lambda: _discard(release.wait(PATIENCE))),
        stream=StreamOptions(resiliency, always_expect_pings=True),
    )
    stream = task_hub.stream()
    stream.send(turn("a", "t1"))
    assert not stream.ended.wait(0.3)

    release.set()
    assert task_hub.answer()[1].completionToken == "t1"


def _discard(_: bool) -> None:
    return None


def test_own_channels_are_renewed_and_closed_but_never_the_users(task_hub: Any, sessions: Sessions) -> None:
    """Pinned 29 and 30. A graceful end means: come back on a fresh connection."""
    with grpc.insecure_channel(task_hub.address) as users:
        session = sessions.start(ScriptedCode(), channel=users)
        task_hub.stream().end()
        task_hub.stream()
        session.stop(PATIENCE)
        assert not sessions.channels
        assert grpc.channel_ready_future(users).result(PATIENCE) is None

    own = sessions.start(ScriptedCode())
    task_hub.stream().end()
    task_hub.stream()
    assert sessions.fresh == [False, True]
    own.stop(PATIENCE)
    with pytest.raises(ValueError, match="closed channel"):
        sessions.channels[1].unary_unary("/x/y")(b"")


def test_hello_without_an_answer_is_given_up_and_tried_again(task_hub: Any, sessions: Sessions) -> None:
    """Lesson 35"""
    task_hub.hello_gate.clear()
    sessions.start(ScriptedCode(), stream=StreamOptions(replace(QUICK, hello_timeout_seconds=0.2)))
    deadlines = [task_hub.hello_deadlines.get(timeout=PATIENCE) for _ in range(2)]
    # gRPC counts in whole milliseconds and rounds up at each end.
    assert all(deadline is not None and deadline <= 0.205 for deadline in deadlines)
    task_hub.hello_gate.set()
    task_hub.stream().send(turn("a", "t1"))
    assert task_hub.answer()[1].completionToken == "t1"


def test_a_task_hub_that_dies_and_comes_back_gets_what_was_under_way(task_hub: Any, sessions: Sessions) -> None:
    """Lesson 34, pinned 30: the connection is reset in the middle of an activity, whose answer is not lost."""
    started, release = threading.Event(), threading.Event()

    def block(request: pb.ActivityRequest) -> pb.ActivityResponse:
        started.set()
        release.wait(PATIENCE)
        return _echo(request)

    sessions.start(ScriptedCode(activity=block))
    task_hub.stream().send(activity("slow", "t1"))
    assert started.wait(PATIENCE)
    task_hub.stop()
    task_hub.start()
    task_hub.stream()
    release.set()
    assert task_hub.answer()[1].completionToken == "t1"


def test_the_answers_of_work_under_way_survive_a_new_channel(task_hub: Any, sessions: Sessions) -> None:
    """Pinned 30: work that was taken over the old channel is answered, also when that one is retired."""
    task_hub.gate.clear()
    sessions.start(ScriptedCode())
    stream = task_hub.stream()
    stream.send(activity("quick", "t1"))
    _wait_for(lambda: task_hub.calls["CompleteActivityTask"] == 1)
    stream.end()
    task_hub.stream()
    assert sessions.fresh == [False, True]
    task_hub.gate.set()
    assert task_hub.answer()[1].completionToken == "t1"
    assert task_hub.calls["CompleteActivityTask"] == 1


def _wait_for(condition: Callable[[], bool]) -> None:
    """Poll for what the scripted task hub counts without an event."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.005)


# ---- Watchdog ----


def test_a_turn_that_blocks_is_reported_by_name(
    task_hub: Any, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    release = _count_records(lambda record: "holds up" in record.getMessage(), 1)
    sessions.start(ScriptedCode(before_turn=lambda: _discard(release.wait(PATIENCE))))
    task_hub.stream().send(turn("a", "t1"))

    assert task_hub.answer()[1].completionToken == "t1"
    warnings = [record.getMessage() for record in caplog.records if "holds up" in record.getMessage()]
    assert len(warnings) == 1 and "orchestrator-of-a" in warnings[0]


# ---- Stopping ----


def test_stopping_lets_running_work_finish(task_hub: Any, sessions: Sessions) -> None:
    started, release = threading.Event(), threading.Event()

    def block(request: pb.ActivityRequest) -> pb.ActivityResponse:
        started.set()
        release.wait(PATIENCE)
        return _echo(request)

    session = sessions.start(ScriptedCode(activity=block))
    stream = task_hub.stream()
    stream.send(activity("plain", "t1"))
    assert started.wait(PATIENCE)
    stopper = threading.Thread(target=session.stop, args=(PATIENCE,))
    stopper.start()
    assert stream.ended.wait(PATIENCE)
    release.set()
    stopper.join(PATIENCE)

    rpc, response = task_hub.answer()
    assert (rpc, response.completionToken) == ("CompleteActivityTask", "t1")


def test_stopping_gives_back_what_waits_at_once_and_the_rest_at_the_deadline(task_hub: Any, sessions: Sessions) -> None:
    """R28, lesson 40."""
    started, release = threading.Event(), threading.Event()

    def block(request: pb.ActivityRequest) -> pb.ActivityResponse:
        started.set()
        release.wait(PATIENCE)
        return _echo(request)

    session = sessions.start(ScriptedCode(activity=block), concurrency=ConcurrencyOptions(1))
    task_hub.stream().send(activity("plain", "running", 1), activity("plain", "waiting", 2), turn("a", "t1"))
    assert started.wait(PATIENCE)
    assert task_hub.answer()[1].completionToken == "t1"
    session.stop(0.1)
    release.set()

    given_back = [task_hub.answer() for _ in range(2)]
    assert [(rpc, request.completionToken) for rpc, request in given_back] == [
        ("AbandonTaskActivityWorkItem", "waiting"),
        ("AbandonTaskActivityWorkItem", "running"),
    ]


def test_stopping_is_bounded_when_the_server_is_gone(task_hub: Any, sessions: Sessions) -> None:
    """Lesson 40: a scheduler that cannot be reached must not block the exit."""
    code = ScriptedCode()
    session = sessions.start(code)
    stream = task_hub.stream()
    task_hub.gate.clear()
    stream.send(activity("plain", "t1"))
    assert [code.hooks.get(timeout=PATIENCE) for _ in range(2)]
    task_hub.stop()

    begun = time.monotonic()
    session.stop(0.2)

    assert time.monotonic() - begun < 5


def test_stopping_while_the_server_was_never_there_is_prompt(task_hub: Any, sessions: Sessions) -> None:
    task_hub.stop()
    session = sessions.start(ScriptedCode())

    begun = time.monotonic()
    session.stop(PATIENCE)

    assert time.monotonic() - begun < 5


def test_an_answer_after_the_item_was_given_back_is_dropped(
    task_hub: Any, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson 41: nothing is done to the thread, which ends by itself; nobody hears of its result."""
    started, release = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def block(request: pb.ActivityRequest) -> pb.ActivityResponse:
        threads.append(threading.current_thread())
        started.set()
        release.wait(PATIENCE)
        return _echo(request)

    session = sessions.start(ScriptedCode(activity=block))
    task_hub.stream().send(activity("slow", "t1"))
    assert started.wait(PATIENCE)
    session.stop(0)
    assert task_hub.answer()[0] == "AbandonTaskActivityWorkItem"
    release.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
    assert task_hub.calls["CompleteActivityTask"] == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
