"""Clients of a task hub: start, query and manage orchestration instances.

``TaskHubGrpcClient`` is for threads, ``AsyncTaskHubGrpcClient`` for asyncio. Both offer the same methods with
the same arguments; on the asynchronous one each is a coroutine function and raises ``grpc.aio.AioRpcError``
where the other raises ``grpc.RpcError``.

Each method is one call on a connection. Which request it sends and how the answer is read is in
``durabletask._client.calls``, once for both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from durabletask._client.async_client import AsyncTaskHubGrpcClient
from durabletask._client.bulk import started_ids
from durabletask._client.calls import CallBuilder
from durabletask._client.connection import Connection, ConnectionOptions
from durabletask._client.entity_calls import EntityCallBuilder
from durabletask._client.models import (
    BulkStartError,
    CleanEntityStorageResult,
    EntityQuery,
    NewOrchestration,
    OrchestrationCount,
    OrchestrationFailedError,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
    UnsupportedByServerError,
)
from durabletask._client.responses import (
    new_orchestration_state,
    new_purge_instances_result,
    parse_orchestration_state,
)
from durabletask._tracing import client_tracing
from durabletask.grpc_options import GrpcChannelOptions, GrpcClientResiliencyOptions
from durabletask.internal.distributions import refuse_foreign_distribution
from durabletask.internal.texts import require_version
from durabletask.logging_options import resolve_logger
from durabletask.payload import PayloadStore
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter
from durabletask.transport.channels import ChannelSettings

if TYPE_CHECKING:
    from durabletask_proto import orchestrator_service_pb2 as pb

    from durabletask import history
    from durabletask.entities import EntityInstanceId, EntityMetadata
    from durabletask.task import Orchestrator

__all__ = [
    "AsyncTaskHubGrpcClient",
    "BulkStartError",
    "CleanEntityStorageResult",
    "EntityQuery",
    "NewOrchestration",
    "OrchestrationCount",
    "OrchestrationFailedError",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "Page",
    "PurgeInstancesResult",
    "TaskHubGrpcClient",
    "UnsupportedByServerError",
    "new_orchestration_state",
    "new_purge_instances_result",
    "parse_orchestration_state",
]

_Client = TypeVar("_Client", bound="TaskHubGrpcClient")


class TaskHubGrpcClient:
    """A client of a task hub, for threads. Its methods may be called from any thread.

    Args:
        host_address: ``host:port`` of the server, or with a scheme: ``https://`` and ``grpcs://`` mean TLS,
            ``http://`` and ``grpc://`` plaintext, whatever ``secure_channel`` says. Default ``localhost:4001``.
        metadata: ``(key, value)`` pairs sent with every call.
        log_handler: Deprecated, use ``logger``: where log records go.
        log_formatter: Deprecated, use ``logger``: how log records are written.
        logger: The logger to use; by default one of its own that writes to standard error.
        channel: A channel to use as it is: it is never closed nor replaced, and ``metadata``,
            ``secure_channel``, ``interceptors`` and ``channel_options`` have no effect on it.
        secure_channel: Whether to use TLS where the address names no scheme.
        interceptors: gRPC interceptors, outermost first.
        channel_options: Options of the channel; by default gRPC's own.
        resiliency_options: When to replace a channel that keeps failing.
        default_version: The version of orchestrations that are scheduled without one.
        payload_store: Where payloads too large for a message are kept.
        data_converter: Encodes and decodes payloads; by default as JSON.
        emit_trace_spans: Whether to emit spans of its own where tracing is set up.

    Raises:
        ForeignDistributionError: Another distribution that owns the name ``durabletask`` is installed.
        TypeError: ``default_version`` is neither a text nor None.
        ValueError: The address is empty, or ``logger`` is combined with ``log_handler`` or ``log_formatter``.
    """

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
        resiliency_options: GrpcClientResiliencyOptions | None = None,
        default_version: str | None = None,
        payload_store: PayloadStore | None = None,
        data_converter: DataConverter | None = None,
        emit_trace_spans: bool = True,
    ) -> None:
        refuse_foreign_distribution()
        self._logger = resolve_logger("client", logger=logger, log_handler=log_handler, log_formatter=log_formatter)
        settings = ChannelSettings(host_address, secure_channel, metadata, interceptors, channel_options)
        self._connection = Connection(
            ConnectionOptions(channel, settings, resiliency_options, payload_store, self._logger)
        )
        self._calls = CallBuilder(
            data_converter or DEFAULT_DATA_CONVERTER, self._logger, client_tracing(emit_trace_spans)
        )
        self._entity_calls = EntityCallBuilder(self._calls)
        self._emit_trace_spans = emit_trace_spans
        self.default_version = require_version(default_version, "default_version")

    @property
    def emit_trace_spans(self) -> bool:
        """Whether this client emits spans of its own where tracing is set up."""
        return self._emit_trace_spans

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel, unless it was supplied. Closing twice does nothing more."""
        self._connection.close()

    def schedule_new_orchestration(
        self,
        orchestrator: Orchestrator[Any, Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        reuse_id_policy: pb.OrchestrationIdReusePolicy | None = None,
        tags: dict[str, str] | None = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration instance and return its id, once the server has stored it.

        Args:
            orchestrator: The orchestrator function or its name.
            input: Its input; None for none.
            instance_id: The id of the instance; by default 32 random hexadecimal digits.
            start_at: When it starts; by default now. A naive datetime is UTC.
            reuse_id_policy: Which statuses of an existing instance with that id let it be replaced; by
                default the server decides.
            tags: Tags of the instance.
            version: Its version; by default ``default_version``.

        Raises:
            TypeError: The version or a tag is not a text.
            ValueError: ``instance_id`` is empty, or the orchestrator is a lambda.
            grpc.RpcError: ALREADY_EXISTS if the id is in use; UNAVAILABLE if no server answers.
        """
        new = NewOrchestration(orchestrator, input, instance_id, version, tags, start_at, reuse_id_policy)
        return self._connection.run(self._calls.start(new, self.default_version))

    def schedule_new_orchestrations(self, requests: Iterable[NewOrchestration]) -> list[str]:
        """Start many orchestration instances; returns their ids in order.

        durabletask-scheduler starts up to 2,000 in one call and one transaction; other servers get a call for
        each, at most 128 at a time. All requests are built before the first is sent, so an input that cannot be
        encoded starts nothing.

        Raises:
            BulkStartError: Some were not started; it names them with their errors. All others were started.
        """
        # Every request is built before the first is sent: a bad one is an error before anything starts.
        calls = self._calls.start_many(requests, self.default_version)
        return started_ids(self._connection.start_all(calls))

    def get_orchestration_state(self, instance_id: str, *, fetch_payloads: bool = True) -> OrchestrationState | None:
        """The state of an instance; None if it does not exist.

        Args:
            instance_id: Its id.
            fetch_payloads: Whether to fetch input and output; some servers leave out the custom status too.
        """
        return self._connection.run(self._calls.state(instance_id, fetch_payloads))

    def get_orchestration_history(
        self, instance_id: str, *, execution_id: str | None = None, for_work_item_processing: bool = False
    ) -> list[history.HistoryEvent]:
        """The history of an instance.

        Args:
            instance_id: Its id.
            execution_id: The generation; by default the present one.
            for_work_item_processing: Only the past events of the turn that a worker holds now.

        Raises:
            grpc.RpcError: NOT_FOUND if there is no such instance or generation.
        """
        return self._connection.run(self._calls.history(instance_id, execution_id, for_work_item_processing))

    def list_instance_ids(
        self,
        runtime_status: list[OrchestrationStatus] | None = None,
        completed_time_from: datetime | None = None,
        completed_time_to: datetime | None = None,
        page_size: int | None = None,
        continuation_token: str | None = None,
    ) -> Page[str]:
        """One page of the ids of instances that have ended, in the order in which they ended.

        Args:
            runtime_status: Only these statuses.
            completed_time_from: Ended then or later; a naive datetime is UTC.
            completed_time_to: Ended before then.
            page_size: How many ids at most; by default as the server likes.
            continuation_token: That of the page before; None for the first page.
        """
        return self._connection.run(
            self._calls.list_instance_ids(
                runtime_status, completed_time_from, completed_time_to, page_size, continuation_token
            )
        )

    def get_all_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None
    ) -> list[OrchestrationState]:
        """The states of all instances that a query selects; by default of all instances.

        The query's name, version and tags are checked here too, for servers that do not know them.
        """
        return self._connection.converse(self._calls.all_states(orchestration_query))

    def count_orchestrations(
        self, query: OrchestrationQuery | None = None, *, by_name: bool = False, by_version: bool = False
    ) -> list[OrchestrationCount]:
        """How many instances a query selects, by status; by default of all instances.

        Args:
            query: Which ones to count; its ``max_instance_count`` and ``fetch_inputs_and_outputs`` mean nothing here.
            by_name: Whether to count the instances of each orchestrator by themselves.
            by_version: Whether to count the instances of each version by themselves.

        Raises:
            UnsupportedByServerError: The server does not count; durabletask-scheduler does.
        """
        return self._connection.run(self._calls.counts(query, by_name, by_version))

    def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float = 60
    ) -> OrchestrationState | None:
        """Wait until an instance is no longer pending; returns its state, None if it does not exist.

        Args:
            instance_id: Its id.
            fetch_payloads: Whether to fetch input and output; some servers leave out the custom status too.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: It did not start in time.
        """
        return self._connection.run(self._calls.wait_for_start(instance_id, fetch_payloads, timeout))

    def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float = 60
    ) -> OrchestrationState | None:
        """Wait until an instance has ended; returns its state, None if it does not exist.

        A failed orchestration raises nothing here: see ``OrchestrationState.raise_if_failed``.

        Args:
            instance_id: Its id.
            fetch_payloads: Whether to fetch input and output; some servers leave out the custom status too.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: It did not end in time.
        """
        return self._connection.run(self._calls.wait_for_completion(instance_id, fetch_payloads, timeout))

    def raise_orchestration_event(self, instance_id: str, event_name: str, *, data: Any | None = None) -> None:
        """Send an external event to an instance.

        Args:
            instance_id: Its id.
            event_name: The name of the event; orchestrators compare it without regard to case.
            data: The payload of the event; None for none.

        Raises:
            grpc.RpcError: NOT_FOUND if there is no such instance, on servers that tell.
        """
        self._connection.run(self._calls.raise_event(instance_id, event_name, data))

    def terminate_orchestration(self, instance_id: str, *, output: Any | None = None, recursive: bool = True) -> None:
        """Terminate an instance. One that does not exist or has ended is left alone.

        Args:
            instance_id: Its id.
            output: What its output becomes.
            recursive: Whether its sub-orchestrations are terminated too.
        """
        self._connection.run(self._calls.terminate(instance_id, output, recursive))

    def suspend_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Suspend an instance: it takes no further turn until it is resumed.

        Raises:
            grpc.RpcError: NOT_FOUND if there is no such instance, on servers that tell.
        """
        self._connection.run(self._calls.suspend(instance_id, reason))

    def resume_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Resume a suspended instance.

        Raises:
            grpc.RpcError: NOT_FOUND if there is no such instance, on servers that tell.
        """
        self._connection.run(self._calls.resume(instance_id, reason))

    def rewind_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Let a failed instance go on from before its failure: only what failed runs again.

        Raises:
            grpc.RpcError: NOT_FOUND if there is no such instance, FAILED_PRECONDITION if it has not failed.
        """
        self._connection.run(self._calls.rewind(instance_id, reason))

    def restart_orchestration(self, instance_id: str, *, restart_with_new_instance_id: bool = False) -> str:
        """Start an instance again from its beginning, with the same input; returns the resulting id.

        Args:
            instance_id: Its id.
            restart_with_new_instance_id: Whether the new run is an instance of its own.

        Raises:
            grpc.RpcError: NOT_FOUND if there is no such instance, FAILED_PRECONDITION if it has not ended.
        """
        return self._connection.run(self._calls.restart(instance_id, restart_with_new_instance_id))

    def purge_orchestration(self, instance_id: str, recursive: bool = True) -> PurgeInstancesResult:
        """Delete an instance that has ended, and its history.

        Args:
            instance_id: Its id.
            recursive: Whether its sub-orchestrations are deleted too.

        Raises:
            grpc.RpcError: FAILED_PRECONDITION if it has not ended, on servers that tell.
        """
        return self._connection.run(self._calls.purge(instance_id, recursive))

    def purge_orchestrations_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationStatus] | None = None,
        recursive: bool = False,
        timeout: timedelta | None = None,
    ) -> PurgeInstancesResult:
        """Delete the instances that have ended and that all given filters select.

        Args:
            created_time_from: Created then or later; a naive datetime is UTC.
            created_time_to: Created before then.
            runtime_status: In one of these statuses; by default in any in which an instance has ended.
            recursive: Whether sub-orchestrations are deleted too.
            timeout: How long the server may go on; what is left then shows in ``is_complete``.

        Raises:
            ValueError: The timeout is zero or negative.
        """
        return self._connection.run(
            self._calls.purge_by(created_time_from, created_time_to, runtime_status, recursive, timeout)
        )

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation_name: str,
        input: Any | None = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Ask an entity for an operation without waiting for it.

        Args:
            entity_instance_id: The entity.
            operation_name: The operation.
            input: Its input; None for none.
            signal_time: When it is delivered; by default now. A naive datetime is UTC.

        Raises:
            FeatureMissingError: The add-on ``durabletask-entities`` is not installed.
        """
        self._connection.run(self._entity_calls.signal(entity_instance_id, operation_name, input, signal_time))

    def get_entity(self, entity_instance_id: EntityInstanceId, include_state: bool = True) -> EntityMetadata | None:
        """What the task hub knows about an entity; None if it does not exist.

        Raises:
            FeatureMissingError: The add-on ``durabletask-entities`` is not installed.
        """
        return self._connection.run(self._entity_calls.get(entity_instance_id, include_state))

    def get_all_entities(self, entity_query: EntityQuery | None = None) -> list[EntityMetadata]:
        """All entities that a query selects; by default all that have a state.

        Raises:
            FeatureMissingError: The add-on ``durabletask-entities`` is not installed.
        """
        return self._connection.converse(self._entity_calls.get_all(entity_query))

    def clean_entity_storage(
        self, remove_empty_entities: bool = True, release_orphaned_locks: bool = True
    ) -> CleanEntityStorageResult:
        """Remove entities without state, and locks whose owner has ended.

        Raises:
            FeatureMissingError: The add-on ``durabletask-entities`` is not installed.
        """
        return self._connection.converse(
            self._entity_calls.clean_storage(remove_empty_entities, release_orphaned_locks)
        )
