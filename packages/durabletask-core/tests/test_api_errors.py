"""Which error bad input raises: the types that code written for the API catches."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from durabletask import grpc_options, task
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.payload import LargePayloadStorageOptions, PayloadStore, externalize_payloads
from durabletask.serialization import JsonDataConverter
from durabletask.worker import EntityWorkItemFilter, TaskHubGrpcWorker, VersioningOptions
from durabletask_proto import orchestrator_service_pb2 as pb

SECOND = timedelta(seconds=1)
LOGGER, HANDLER, FORMATTER = logging.getLogger("mine"), logging.NullHandler(), logging.Formatter()
RETRIES: dict[str, Any] = {"first_retry_interval": SECOND, "max_number_of_attempts": 3}
retry_policy = partial(task.RetryPolicy, **RETRIES)
failure = task.FailureDetails("no", "builtins.ValueError", None)


def named(ctx: Any, _: Any) -> None: ...


def twice(method: str, fn: Any) -> Callable[[], object]:
    def call() -> None:
        add = getattr(TaskHubGrpcWorker(), method)
        add(fn)
        add(fn)

    return call


def started(act: Callable[[TaskHubGrpcWorker], object]) -> Callable[[], object]:
    def call() -> None:
        worker = TaskHubGrpcWorker(host_address="localhost:1")
        worker.start()
        try:
            act(worker)
        finally:
            worker.stop(0)

    return call


def done(fn: Callable[[Any], object], task_: Any, *, failed: bool = False) -> Callable[[], object]:
    def call() -> None:
        if failed:
            task_.fail("no", ValueError("no"))
        else:
            task_.complete(1)
        fn(task_)

    return call


class Store(PayloadStore):
    """Keeps nothing: what is asked of it here is refused before it is called."""

    options = LargePayloadStorageOptions(threshold_bytes=1, max_stored_payload_bytes=2)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        raise AssertionError("called")

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        raise AssertionError("called")

    def download(self, token: str) -> bytes:
        raise AssertionError("called")

    async def download_async(self, token: str) -> bytes:
        raise AssertionError("called")

    def is_known_token(self, value: str) -> bool:
        return False


def too_large() -> None:
    externalize_payloads(pb.CreateInstanceRequest(input={"value": "abc"}), Store())  # type: ignore[arg-type]


def closed_client() -> None:
    client = TaskHubGrpcClient(host_address="localhost:1")
    client.close()
    client.get_orchestration_state("i")


CASES: list[tuple[str, type[Exception], Callable[[], object]]] = [
    # durabletask.task
    ("the name of a lambda", ValueError, lambda: task.get_name(lambda ctx, _: None)),
    ("the name of a partial", AttributeError, lambda: task.get_name(partial(named))),
    ("a result that is not there yet", ValueError, lambda: task.CompletableTask[int]().get_result()),
    ("the exception of a task that has not failed", ValueError, lambda: task.CompletableTask[int]().get_exception()),
    ("a second completion", ValueError, done(lambda t: t.complete(2), task.CompletableTask[int]())),
    ("a failure after the completion", ValueError, done(lambda t: t.fail("", OSError()), task.CompletableTask[int]())),
    (
        "the result of a failed task",
        task.TaskFailedError,
        done(lambda t: t.get_result(), task.CompletableTask[int](), failed=True),
    ),
    ("a negative first interval", ValueError, lambda: retry_policy(first_retry_interval=-SECOND)),
    ("no attempt at all", ValueError, lambda: retry_policy(max_number_of_attempts=0)),
    ("a coefficient below one", ValueError, lambda: retry_policy(backoff_coefficient=0.5)),
    ("a negative maximum interval", ValueError, lambda: retry_policy(max_retry_interval=-SECOND)),
    ("a negative retry timeout", ValueError, lambda: retry_policy(retry_timeout=-SECOND)),
    ("a policy by position", TypeError, lambda: task.RetryPolicy(SECOND, 3)),  # type: ignore[call-arg]
    ("a policy without attempts", TypeError, lambda: task.RetryPolicy(first_retry_interval=SECOND)),  # type: ignore[call-arg]
    ("a cause that is no exception type", TypeError, lambda: failure.is_caused_by(int)),  # type: ignore[arg-type]
    ("a cause that is no type", TypeError, lambda: failure.is_caused_by(7)),  # type: ignore[arg-type]
    # durabletask.client
    ("a client with logger and handler", ValueError, lambda: TaskHubGrpcClient(logger=LOGGER, log_handler=HANDLER)),
    ("the same for asyncio", ValueError, lambda: AsyncTaskHubGrpcClient(logger=LOGGER, log_formatter=FORMATTER)),
    ("a purge without time", ValueError, lambda: TaskHubGrpcClient().purge_orchestrations_by(timeout=timedelta(0))),
    ("a call on a closed client", RuntimeError, closed_client),
    (
        "a server that is not there",
        grpc.RpcError,
        lambda: TaskHubGrpcClient(host_address="localhost:1").get_orchestration_state("i"),
    ),
    # durabletask.worker
    ("a worker with logger and handler", ValueError, lambda: TaskHubGrpcWorker(logger=LOGGER, log_handler=HANDLER)),
    ("an orchestrator None", ValueError, lambda: TaskHubGrpcWorker().add_orchestrator(None)),  # type: ignore[arg-type]
    ("an activity None", ValueError, lambda: TaskHubGrpcWorker().add_activity(None)),  # type: ignore[arg-type]
    ("an orchestrator twice", ValueError, twice("add_orchestrator", named)),
    ("an activity twice", ValueError, twice("add_activity", named)),
    ("an empty name in an entity filter", ValueError, lambda: EntityWorkItemFilter("")),
    ("an at sign in an entity filter", ValueError, lambda: EntityWorkItemFilter("a@b")),
    ("filters of another type", TypeError, lambda: TaskHubGrpcWorker().use_work_item_filters([])),
    ("an orchestrator while running", RuntimeError, started(lambda w: w.add_orchestrator(named))),
    ("an activity while running", RuntimeError, started(lambda w: w.add_activity(named))),
    ("an entity while running", RuntimeError, started(lambda w: w.add_entity(named))),
    ("a capability while running", RuntimeError, started(lambda w: w.add_capability(2))),
    ("schedules while running", RuntimeError, started(lambda w: w.configure_scheduled_tasks())),
    ("versioning while running", RuntimeError, started(lambda w: w.use_versioning(VersioningOptions()))),
    ("filters while running", RuntimeError, started(lambda w: w.use_work_item_filters())),
    ("a second start", RuntimeError, started(lambda w: w.start())),
    # durabletask.grpc_options
    ("one attempt", ValueError, lambda: grpc_options.GrpcRetryPolicyOptions(max_attempts=1)),
    ("no backoff", ValueError, lambda: grpc_options.GrpcRetryPolicyOptions(initial_backoff_seconds=0)),
    ("a maximum below the first", ValueError, lambda: grpc_options.GrpcRetryPolicyOptions(max_backoff_seconds=0.01)),
    ("no multiplier", ValueError, lambda: grpc_options.GrpcRetryPolicyOptions(backoff_multiplier=0)),
    ("no status codes", ValueError, lambda: grpc_options.GrpcRetryPolicyOptions(retryable_status_codes=[])),
    (
        "a backoff that rounds to zero",
        ValueError,
        lambda: grpc_options.GrpcRetryPolicyOptions(initial_backoff_seconds=1e-12),
    ),
    ("no time for the greeting", ValueError, lambda: grpc_options.GrpcWorkerResiliencyOptions(hello_timeout_seconds=0)),
    (
        "a negative silence",
        ValueError,
        lambda: grpc_options.GrpcWorkerResiliencyOptions(silent_disconnect_timeout_seconds=-1),
    ),
    (
        "a cap below the base",
        ValueError,
        lambda: grpc_options.GrpcWorkerResiliencyOptions(reconnect_backoff_cap_seconds=0.5),
    ),
    (
        "a negative threshold",
        ValueError,
        lambda: grpc_options.GrpcClientResiliencyOptions(channel_recreate_failure_threshold=-1),
    ),
    (
        "a negative interval",
        ValueError,
        lambda: grpc_options.GrpcClientResiliencyOptions(min_recreate_interval_seconds=-1),
    ),
    ("options by position", TypeError, lambda: grpc_options.GrpcChannelOptions(1)),  # type: ignore[call-arg]
    # durabletask.serialization, durabletask.payload
    ("a value that is not JSON", TypeError, lambda: JsonDataConverter().serialize(object())),
    ("a payload above the maximum", ValueError, too_large),
]
WITH_ENTITIES: list[tuple[str, type[Exception], Callable[[], object]]] = [
    ("an entity twice", ValueError, twice("add_entity", named)),
    ("an entity name with an at sign", ValueError, lambda: TaskHubGrpcWorker().add_entity(named, name="a@b")),
    ("an empty entity name", ValueError, lambda: TaskHubGrpcWorker().add_entity(named, name="")),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("error", "act"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_raises_the_error_it_always_raised(error: type[Exception], act: Callable[[], object]) -> None:
    with pytest.raises(error):
        act()


@pytest.mark.parametrize(
    ("error", "act"), [case[1:] for case in WITH_ENTITIES], ids=[case[0] for case in WITH_ENTITIES]
)
def test_bad_entities_raise_the_error_they_always_raised(error: type[Exception], act: Callable[[], object]) -> None:
    pytest.importorskip("durabletask.entities")
    with pytest.raises(error):
        act()
