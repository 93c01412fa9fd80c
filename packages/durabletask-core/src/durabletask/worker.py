"""The worker: takes work items from a task hub and runs orchestrators, activities and entities.

    with TaskHubGrpcWorker(host_address="localhost:8080") as worker:
        worker.add_orchestrator(order)
        worker.add_activity(charge)
        worker.start()
        ...

or, in a script that does nothing else, ``worker.run()``.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import import_module
from typing import Any, Final, TypeVar

import grpc
from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask._tracing import worker_tracing
from durabletask._worker.activities import Hook
from durabletask._worker.engine import Engine, Hooks, add_entity, feature_filter_names
from durabletask._worker.filters import (
    ActivityWorkItemFilter,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    WorkItemFilters,
    from_registry,
    to_message,
)
from durabletask._worker.options import ConcurrencyOptions
from durabletask._worker.processes import ActivityProcessDiedError
from durabletask._worker.refused import PayloadTooLargeError
from durabletask._worker.session import Intake, Server, Session, UserCode
from durabletask._worker.signals import StopSignals
from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.grpc_options import GrpcChannelOptions, GrpcWorkerResiliencyOptions
from durabletask.internal.distributions import refuse_foreign_distribution
from durabletask.internal.texts import require_version
from durabletask.logging_options import resolve_logger
from durabletask.payload import PayloadStore
from durabletask.registry import (
    ActivityNotRegisteredError,
    EntityNotRegisteredError,
    OrchestratorNotRegisteredError,
    Registry,
)
from durabletask.replay import RunOptions
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter
from durabletask.transport.channels import ChannelSettings, default_host_address, open_channel
from durabletask.transport.completions import RetryDelays
from durabletask.transport.stream import StreamOptions
from durabletask.versioning import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy

__all__ = [
    "ActivityNotRegisteredError",
    "ActivityProcessDiedError",
    "ActivityWorkItemFilter",
    "ConcurrencyOptions",
    "EntityNotRegisteredError",
    "EntityWorkItemFilter",
    "ExecutionResults",
    "OrchestrationWorkItemFilter",
    "OrchestratorNotRegisteredError",
    "PayloadTooLargeError",
    "TaskHubGrpcWorker",
    "VersionFailureStrategy",
    "VersionMatchStrategy",
    "VersioningOptions",
    "WorkItemFilters",
]

DATETIME_STRING_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
DEFAULT_MAXIMUM_TIMER_INTERVAL: Final = timedelta(days=3)
DEFAULT_STOP_TIMEOUT: Final = 30.0
"""Seconds that :meth:`TaskHubGrpcWorker.stop` gives to work that is under way."""
TURN_WARNING_SECONDS: Final = 1.0
"""Seconds after which an orchestrator that blocks is reported; see ``TaskHubGrpcWorker.turn_warning_seconds``."""

F = TypeVar("F", bound=Callable[..., Any])
_Worker = TypeVar("_Worker", bound="TaskHubGrpcWorker")
_AUTOMATIC: Final = object()


@dataclass
class ExecutionResults:
    """What one turn of an orchestrator produced.

    Args:
        actions: Actions to be taken by the task hub.
        encoded_custom_status: The custom status as JSON text, or None.
        orchestration_trace_context: The trace context to be sent back, or None.
    """

    actions: list[pb.OrchestratorAction]
    encoded_custom_status: str | None
    orchestration_trace_context: pb.OrchestrationTraceContext | None = None


class TaskHubGrpcWorker:
    """A worker for one task hub.

    Args:
        host_address: ``host:port`` of the task hub, with or without a scheme; default ``localhost:4001``.
        metadata: ``(key, value)`` pairs sent with every call.
        log_handler: Deprecated, use ``logger``.
        log_formatter: Deprecated, use ``logger``.
        logger: Where the worker logs; by default a logger of its own that writes to standard error.
        channel: A channel to use as it is; it is never replaced nor closed, and ``metadata``,
            ``secure_channel``, ``interceptors`` and ``channel_options`` do not apply to it.
        secure_channel: Whether to use TLS when the address names no scheme.
        interceptors: gRPC client interceptors.
        channel_options: Options of the channel.
        resiliency_options: How a lost connection is noticed and restored. When they are given, a
            stream on which nothing is heard counts as lost even if the server never sent a health ping.
        concurrency_options: How much the worker takes on at once.
        maximum_timer_interval: Longest timer the task hub gets; longer ones are sent in parts. None
            sends every timer whole.
        payload_store: Where large payloads go.
        data_converter: Converts values to and from JSON text.
        exception_properties_provider: Adds properties to reported failures.
        emit_trace_spans: Whether the worker emits OpenTelemetry spans, rather than only pass on their context.

    Raises:
        ValueError: An option is outside its range.
        ForeignDistributionError: Another distribution that ships ``durabletask`` is installed beside this one.
    """

    turn_warning_seconds: float = TURN_WARNING_SECONDS
    """A turn that takes longer is reported with the orchestrator's name; assign before ``start()``."""

    def __init__(
        self,
        *,
        host_address: str | None = None,
        metadata: list[tuple[str, str]] | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        channel: grpc.Channel | None = None,
        secure_channel: bool = False,
        interceptors: Sequence[Any] | None = None,
        channel_options: GrpcChannelOptions | None = None,
        resiliency_options: GrpcWorkerResiliencyOptions | None = None,
        concurrency_options: ConcurrencyOptions | None = None,
        maximum_timer_interval: timedelta | None = DEFAULT_MAXIMUM_TIMER_INTERVAL,
        payload_store: PayloadStore | None = None,
        data_converter: DataConverter | None = None,
        exception_properties_provider: ExceptionPropertiesProvider | None = None,
        emit_trace_spans: bool = True,
    ) -> None:
        refuse_foreign_distribution()
        self._logger = resolve_logger("worker", logger=logger, log_handler=log_handler, log_formatter=log_formatter)
        self._channel = channel
        self._settings = ChannelSettings(host_address, secure_channel, metadata, interceptors, channel_options)
        self._stream = StreamOptions(
            resiliency_options or GrpcWorkerResiliencyOptions(), always_expect_pings=resiliency_options is not None
        )
        self._concurrency = concurrency_options or ConcurrencyOptions()
        self._maximum_timer_interval = maximum_timer_interval
        self._payload_store = payload_store
        self._data_converter = data_converter or DEFAULT_DATA_CONVERTER
        self._exception_properties_provider = exception_properties_provider
        self._emit_trace_spans = emit_trace_spans
        self._registry = Registry()
        self._versioning: VersioningOptions | None = None
        self._capabilities: set[int] = {pb.WORKER_CAPABILITY_HISTORY_STREAMING}
        self._filters: WorkItemFilters | object | None = None
        self._lock = threading.Lock()
        self._session: Session | None = None
        if payload_store is not None:
            self._capabilities.add(pb.WORKER_CAPABILITY_LARGE_PAYLOADS)

    def __enter__(self: _Worker) -> _Worker:
        """Return the worker; it does not start."""
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def concurrency_options(self) -> ConcurrencyOptions:
        """How much the worker takes on at once."""
        return self._concurrency

    @property
    def maximum_timer_interval(self) -> timedelta | None:
        """Longest timer the task hub gets; None for any length."""
        return self._maximum_timer_interval

    @property
    def emit_trace_spans(self) -> bool:
        """Whether the worker emits OpenTelemetry spans."""
        return self._emit_trace_spans

    def add_orchestrator(self, fn: Callable[..., Any], *, name: str | None = None, version: str | None = None) -> str:
        """Register an orchestrator and return its name.

        Args:
            fn: A generator function or ``async def`` of a context and an input.
            name: Name to register under; default the function's own.
            version: Version of this implementation; several may share a name.

        Raises:
            TypeError: ``version`` is neither a text nor None.
            ValueError: The name is empty, or name and version are taken.
            RuntimeError: The worker is running.
        """
        self._require_stopped("add an orchestrator")
        return self._registry.add_orchestrator(fn, name, version)

    def add_activity(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        version: str | None = None,
        process: bool = False,
    ) -> str:
        """Register an activity, a plain function or an ``async def``, and return its name.

        Args:
            fn: A function of a context and an input.
            name: Name to register under; default the function's own.
            version: Version of this implementation; several may share a name.
            process: Whether to run it in a process of a pool, for work that computes. ``fn`` must then be a plain
                function at the top level of a module, which every process imports anew; a main module must
                protect what starts the worker with ``if __name__ == "__main__"``. A process that dies fails the
                activity with an ``ActivityProcessDiedError``, and is replaced.

        Raises:
            TypeError: ``version`` is neither a text nor None.
            ValueError: The name is empty, name and version are taken, or ``fn`` cannot run in a process.
            RuntimeError: The worker is running.
        """
        self._require_stopped("add an activity")
        return self._registry.add_activity(fn, name, version, process)

    def add_entity(self, fn: Callable[..., Any] | type, name: str | None = None) -> str:
        """Register an entity, a function or a ``DurableEntity`` class, and return its name as given.

        Args:
            fn: The entity.
            name: Name to register under, in any case; default that of the function or class.

        Raises:
            ValueError: The name is empty, contains ``@`` or is taken.
            RuntimeError: The worker is running, or the package ``durabletask-entities`` is not installed.
        """
        self._require_stopped("add an entity")
        return add_entity(self._registry, fn, name)

    def orchestrator(self, *, name: str | None = None, version: str | None = None) -> Callable[[F], F]:
        """Decorator form of :meth:`add_orchestrator` that leaves the function as it is."""

        def register(fn: F) -> F:
            self.add_orchestrator(fn, name=name, version=version)
            return fn

        return register

    def activity(
        self, *, name: str | None = None, version: str | None = None, process: bool = False
    ) -> Callable[[F], F]:
        """Decorator form of :meth:`add_activity` that leaves the function as it is."""

        def register(fn: F) -> F:
            self.add_activity(fn, name=name, version=version, process=process)
            return fn

        return register

    def add_capability(self, capability: int) -> None:
        """Advertise a further capability, one of the protocol's ``WORKER_CAPABILITY_*`` numbers.

        Raises:
            RuntimeError: The worker is running.
        """
        self._require_stopped("add a capability")
        self._capabilities.add(int(capability))

    def configure_scheduled_tasks(self) -> None:
        """Register what schedules need: their entity, their orchestrator and their capability.

        Raises:
            RuntimeError: The worker is running, or the package ``durabletask-entities`` is not installed.
        """
        self._require_stopped("configure scheduled tasks")
        try:
            schedule_entity = import_module("durabletask.scheduled.schedule_entity")
            orchestrator = import_module("durabletask.scheduled.orchestrator")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("durabletask.scheduled"):
                raise
            raise RuntimeError(
                "scheduled tasks need the package 'durabletask-entities': pip install durabletask-entities"
            ) from error
        self.add_entity(schedule_entity.Schedule, name=schedule_entity.ENTITY_NAME)
        self.add_orchestrator(orchestrator.execute_schedule_operation_orchestrator)
        self.add_capability(pb.WORKER_CAPABILITY_SCHEDULED_TASKS)

    def use_versioning(self, version: VersioningOptions) -> None:
        """Set which versions of orchestrations this worker runs.

        Raises:
            TypeError: ``version`` is something else, or the versions in it are not texts.
            RuntimeError: The worker is running.
        """
        self._require_stopped("set versioning options")
        if not isinstance(version, VersioningOptions | None):
            raise TypeError(
                f"version must be a VersioningOptions or None, found {type(version).__name__}: "
                'write use_versioning(VersioningOptions(version="1.0"))'
            )
        if version is not None:
            require_version(version.version)
            require_version(version.default_version, "default_version")
        self._versioning = version

    def use_work_item_filters(self, filters: WorkItemFilters | object | None = _AUTOMATIC) -> None:
        """Take only some work items; the rest is left to other workers.

        Args:
            filters: What to take. Without it, at ``start()``, what is registered then; None takes all.

        Raises:
            TypeError: ``filters`` is something else.
            RuntimeError: The worker is running.
        """
        self._require_stopped("set work-item filters")
        if filters is not _AUTOMATIC and not isinstance(filters, WorkItemFilters | None):
            raise TypeError(f"filters must be a WorkItemFilters or None, found {type(filters).__name__}")
        self._filters = filters

    def start(self) -> None:
        """Connect and serve on threads of the worker's own; returns at once.

        The worker keeps trying for as long as the task hub cannot be reached.

        Raises:
            RuntimeError: The worker is running.
        """
        with self._lock:
            if self._session is not None:
                raise RuntimeError("the worker is already running")
            self._session = self._new_session()
            self._logger.info("Starting a worker for the task hub at %s", self._address)
            self._session.start()

    def stop(self, timeout: float | None = None) -> None:
        """Take nothing new, let running work finish, give back the rest; the worker may be started again.

        Returns within ``timeout`` and a few seconds, whether or not the task hub can be reached. Does
        nothing if the worker is not running. Interrupted, as by Ctrl-C, it waits for nothing any more and raises
        what interrupted it; the worker is stopped then, and what it was running is left to other workers.

        Args:
            timeout: Seconds that running work gets; default 30.
        """
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        session.stop(DEFAULT_STOP_TIMEOUT if timeout is None else timeout)
        self._logger.info("Stopped the worker for the task hub at %s", self._address)

    def run(self) -> None:
        """Start, serve until SIGINT (Ctrl-C) or SIGTERM, then stop. For scripts that do nothing else.

        A second signal during the stop has the effect it had before the call: a second Ctrl-C raises
        KeyboardInterrupt, which ends the process although activities still run.

        Raises:
            RuntimeError: Not called on the main thread, or the worker is running.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run() handles signals and must be called on the main thread; use start() elsewhere")
        started = False
        try:
            with StopSignals() as signals:
                self.start()
                started = True
                signals.wait()
        finally:
            # Also if another signal's handler raised, for example a test's time limit; and behind the block, so that
            # the stop can be interrupted.
            if started:
                self.stop()

    def _on_activity_execution_started(self, req: pb.ActivityRequest) -> None:
        """Override to be told that an activity starts, on its thread."""

    def _on_activity_execution_completed(self, req: pb.ActivityRequest) -> None:
        """Override to be told that an activity ended, on its thread."""

    @property
    def _address(self) -> str:
        if self._channel is not None:
            return "the other end of the given channel"
        return self._settings.host_address or default_host_address()

    def _require_stopped(self, what: str) -> None:
        if self._session is not None:
            raise RuntimeError(f"cannot {what} while the worker is running: stop it first")

    def _run_options(self) -> RunOptions:
        return RunOptions(
            versioning=self._versioning,
            maximum_timer_interval=self._maximum_timer_interval,
            data_converter=self._data_converter,
            exception_properties_provider=self._exception_properties_provider,
        )

    def _new_session(self) -> Session:
        options = self._run_options()
        tracing = worker_tracing(self._emit_trace_spans, self._logger)
        traces_turns = tracing is not None and tracing.turn is not None
        engine = Engine(self._registry, options, self._logger, traces_turns=traces_turns)
        server = Server(
            address=self._address,
            open_channel=lambda fresh: open_channel(replace(self._settings, fresh_connection=fresh)),
            channel=self._channel,
            stream=self._stream,
            delays=RetryDelays(),
        )
        code = UserCode(
            open_run=engine.open_run,
            rejections=engine.rejections,
            report=engine.report,
            activities=engine.activities(
                Hooks(
                    _unless_empty(self._on_activity_execution_started),
                    _unless_empty(self._on_activity_execution_completed),
                )
            ),
            run_batch=engine.run_batch,
            batch_kinds=engine.batch_kinds(),
            payload_store=self._payload_store,
            turn_warning=self.turn_warning_seconds,
            tracing=tracing,
        )
        intake = Intake(self._concurrency, frozenset(self._capabilities), self._filter_message(options))
        return Session(server, intake, code, self._logger)

    def _filter_message(self, options: RunOptions) -> pb.WorkItemFilters | None:
        if isinstance(self._filters, WorkItemFilters):
            return to_message(self._filters)
        if self._filters is None:
            return None
        versioning = self._versioning
        strict = versioning is not None and versioning.match_strategy is VersionMatchStrategy.STRICT
        only = versioning.version if versioning is not None and strict else None
        return to_message(from_registry(self._registry, feature_filter_names(self._registry, options), only or None))


_EMPTY_HOOKS = (
    TaskHubGrpcWorker._on_activity_execution_started,
    TaskHubGrpcWorker._on_activity_execution_completed,
)


def _unless_empty(hook: Hook) -> Hook | None:
    """The hook, or None where it is not overridden."""
    return None if getattr(hook, "__func__", None) in _EMPTY_HOOKS else hook
