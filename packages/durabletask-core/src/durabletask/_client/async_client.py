"""The client of a task hub for asyncio; ``durabletask.client`` exports it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from durabletask._client.bulk import started_ids
from durabletask._client.calls import CallBuilder
from durabletask._client.connection import AsyncConnection, ConnectionOptions
from durabletask._client.entity_calls import EntityCallBuilder
from durabletask._client.models import (
    CleanEntityStorageResult,
    EntityQuery,
    NewOrchestration,
    OrchestrationCount,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
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

_Client = TypeVar("_Client", bound="AsyncTaskHubGrpcClient")


class AsyncTaskHubGrpcClient:
    """A client of a task hub, for asyncio.

    It may be made without a running loop: the channel is opened by the first call, on the loop of that call. After
    ``close`` a call raises RuntimeError.

    Args:
        host_address: As for ``TaskHubGrpcClient``, like everything not named here.
        channel: A ``grpc.aio`` channel to use as it is: it is never closed nor replaced, and ``metadata``,
            ``secure_channel``, ``interceptors`` and ``channel_options`` have no effect on it.
        interceptors: ``grpc.aio`` interceptors, outermost first; one that serves several kinds of calls serves
            all of them.

    Raises:
        ForeignDistributionError: Another distribution that owns the name ``durabletask`` is installed.
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
        channel: grpc.aio.Channel | None = None,
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
        self._logger = resolve_logger(
            "async_client", logger=logger, log_handler=log_handler, log_formatter=log_formatter
        )
        settings = ChannelSettings(host_address, secure_channel, metadata, interceptors, channel_options)
        self._connection = AsyncConnection(
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

    async def __aenter__(self: _Client) -> _Client:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel, unless it was supplied. Closing twice does nothing more."""
        await self._connection.close()

    async def schedule_new_orchestration(
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
        """See ``TaskHubGrpcClient.schedule_new_orchestration``."""
        new = NewOrchestration(orchestrator, input, instance_id, version, tags, start_at, reuse_id_policy)
        return await self._connection.run(self._calls.start(new, self.default_version))

    async def schedule_new_orchestrations(self, requests: Iterable[NewOrchestration]) -> list[str]:
        """See ``TaskHubGrpcClient.schedule_new_orchestrations``."""
        # Every request is built before the first is sent: a bad one is an error before anything starts.
        calls = self._calls.start_many(requests, self.default_version)
        return started_ids(await self._connection.start_all(calls))

    async def get_orchestration_state(
        self, instance_id: str, *, fetch_payloads: bool = True
    ) -> OrchestrationState | None:
        """See ``TaskHubGrpcClient.get_orchestration_state``."""
        return await self._connection.run(self._calls.state(instance_id, fetch_payloads))

    async def get_orchestration_history(
        self, instance_id: str, *, execution_id: str | None = None, for_work_item_processing: bool = False
    ) -> list[history.HistoryEvent]:
        """See ``TaskHubGrpcClient.get_orchestration_history``."""
        return await self._connection.run(self._calls.history(instance_id, execution_id, for_work_item_processing))

    async def list_instance_ids(
        self,
        runtime_status: list[OrchestrationStatus] | None = None,
        completed_time_from: datetime | None = None,
        completed_time_to: datetime | None = None,
        page_size: int | None = None,
        continuation_token: str | None = None,
    ) -> Page[str]:
        """See ``TaskHubGrpcClient.list_instance_ids``."""
        return await self._connection.run(
            self._calls.list_instance_ids(
                runtime_status, completed_time_from, completed_time_to, page_size, continuation_token
            )
        )

    async def get_all_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None
    ) -> list[OrchestrationState]:
        """See ``TaskHubGrpcClient.get_all_orchestration_states``."""
        return await self._connection.converse(self._calls.all_states(orchestration_query))

    async def count_orchestrations(
        self, query: OrchestrationQuery | None = None, *, by_name: bool = False, by_version: bool = False
    ) -> list[OrchestrationCount]:
        """See ``TaskHubGrpcClient.count_orchestrations``."""
        return await self._connection.run(self._calls.counts(query, by_name, by_version))

    async def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float = 60
    ) -> OrchestrationState | None:
        """See ``TaskHubGrpcClient.wait_for_orchestration_start``."""
        return await self._connection.run(self._calls.wait_for_start(instance_id, fetch_payloads, timeout))

    async def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float = 60
    ) -> OrchestrationState | None:
        """See ``TaskHubGrpcClient.wait_for_orchestration_completion``."""
        return await self._connection.run(self._calls.wait_for_completion(instance_id, fetch_payloads, timeout))

    async def raise_orchestration_event(self, instance_id: str, event_name: str, *, data: Any | None = None) -> None:
        """See ``TaskHubGrpcClient.raise_orchestration_event``."""
        await self._connection.run(self._calls.raise_event(instance_id, event_name, data))

    async def terminate_orchestration(
        self, instance_id: str, *, output: Any | None = None, recursive: bool = True
    ) -> None:
        """See ``TaskHubGrpcClient.terminate_orchestration``."""
        await self._connection.run(self._calls.terminate(instance_id, output, recursive))

    async def suspend_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """See ``TaskHubGrpcClient.suspend_orchestration``."""
        await self._connection.run(self._calls.suspend(instance_id, reason))

    async def resume_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """See ``TaskHubGrpcClient.resume_orchestration``."""
        await self._connection.run(self._calls.resume(instance_id, reason))

    async def rewind_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """See ``TaskHubGrpcClient.rewind_orchestration``."""
        await self._connection.run(self._calls.rewind(instance_id, reason))

    async def restart_orchestration(self, instance_id: str, *, restart_with_new_instance_id: bool = False) -> str:
        """See ``TaskHubGrpcClient.restart_orchestration``."""
        return await self._connection.run(self._calls.restart(instance_id, restart_with_new_instance_id))

    async def purge_orchestration(self, instance_id: str, recursive: bool = True) -> PurgeInstancesResult:
        """See ``TaskHubGrpcClient.purge_orchestration``."""
        return await self._connection.run(self._calls.purge(instance_id, recursive))

    async def purge_orchestrations_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationStatus] | None = None,
        recursive: bool = False,
        timeout: timedelta | None = None,
    ) -> PurgeInstancesResult:
        """See ``TaskHubGrpcClient.purge_orchestrations_by``."""
        return await self._connection.run(
            self._calls.purge_by(created_time_from, created_time_to, runtime_status, recursive, timeout)
        )

    async def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation_name: str,
        input: Any | None = None,
        signal_time: datetime | None = None,
    ) -> None:
        """See ``TaskHubGrpcClient.signal_entity``."""
        await self._connection.run(self._entity_calls.signal(entity_instance_id, operation_name, input, signal_time))

    async def get_entity(
        self, entity_instance_id: EntityInstanceId, include_state: bool = True
    ) -> EntityMetadata | None:
        """See ``TaskHubGrpcClient.get_entity``."""
        return await self._connection.run(self._entity_calls.get(entity_instance_id, include_state))

    async def get_all_entities(self, entity_query: EntityQuery | None = None) -> list[EntityMetadata]:
        """See ``TaskHubGrpcClient.get_all_entities``."""
        return await self._connection.converse(self._entity_calls.get_all(entity_query))

    async def clean_entity_storage(
        self, remove_empty_entities: bool = True, release_orphaned_locks: bool = True
    ) -> CleanEntityStorageResult:
        """See ``TaskHubGrpcClient.clean_entity_storage``."""
        return await self._connection.converse(
            self._entity_calls.clean_storage(remove_empty_entities, release_orphaned_locks)
        )


# The name under which users import it.
AsyncTaskHubGrpcClient.__module__ = "durabletask.client"
