"""Clients of schedules, for threads and for asyncio."""

from datetime import datetime
from typing import Any

from durabletask.client import (
    AsyncTaskHubGrpcClient,
    EntityQuery,
    OrchestrationState,
    OrchestrationStatus,
    TaskHubGrpcClient,
)
from durabletask.entities import EntityInstanceId, EntityMetadata
from durabletask.scheduled import texts
from durabletask.scheduled.exceptions import ScheduleClientValidationError, ScheduleNotFoundError
from durabletask.scheduled.models import (
    ScheduleBackfillRequest,
    ScheduleConfiguration,
    ScheduleCreationOptions,
    ScheduleDescription,
    ScheduleQuery,
    ScheduleState,
    ScheduleUpdateOptions,
)
from durabletask.scheduled.orchestrator import ScheduleOperationRequest, execute_schedule_operation_orchestrator
from durabletask.scheduled.schedule_entity import (
    BACKFILL_OPERATION,
    DELETE_OPERATION,
    ENTITY_NAME,
    TRIGGER_OPERATION,
)
from durabletask.scheduled.transitions import CREATE_SCHEDULE, PAUSE_SCHEDULE, RESUME_SCHEDULE, UPDATE_SCHEDULE


class _ScheduleHandle:
    """What the clients of one schedule have in common."""

    def __init__(self, schedule_id: str) -> None:
        if not schedule_id:
            raise ValueError("schedule_id cannot be empty.")
        self._schedule_id = schedule_id
        self._entity_id = EntityInstanceId(ENTITY_NAME, schedule_id)

    @property
    def schedule_id(self) -> str:
        """The schedule's id."""
        return self._schedule_id

    def _request(self, operation: str, input: Any = None) -> ScheduleOperationRequest:
        return ScheduleOperationRequest(str(self._entity_id), operation, input)

    def _checked(self, options: ScheduleCreationOptions) -> ScheduleCreationOptions:
        if options.schedule_id != self._schedule_id:
            raise ScheduleClientValidationError(
                self._schedule_id, f"the options are for another schedule, '{options.schedule_id}'."
            )
        # Found here it is an error of the caller's; found by the entity, a failed orchestration.
        ScheduleConfiguration.from_create_options(options)
        return options

    def _result(self, operation: str, state: OrchestrationState | None) -> Any:
        if state is not None and state.runtime_status is OrchestrationStatus.COMPLETED:
            return state.get_output()
        failure = None if state is None else state.failure_details
        ended = "the orchestration no longer exists" if state is None else f"it ended as {state.runtime_status}"
        raise RuntimeError(
            f"Failed to '{operation}' schedule '{self._schedule_id}': {failure.message if failure else ended}"
        )

    def _description(self, metadata: EntityMetadata | None) -> ScheduleDescription:
        state = _state_of(metadata)
        if state is None:
            raise ScheduleNotFoundError(self._schedule_id)
        return state.to_description()


class ScheduleClient(_ScheduleHandle):
    """One schedule.

    The operations wait until they are done. They raise RuntimeError when the operation fails, with its message,
    and TimeoutError when it takes longer than ``operation_timeout`` seconds.

    Args:
        client: The client to use; it stays the caller's.
        schedule_id: The schedule's id; ValueError if it is empty or contains ``@``.
        operation_timeout: Seconds.
    """

    def __init__(self, client: TaskHubGrpcClient, schedule_id: str, *, operation_timeout: float = 60) -> None:
        super().__init__(schedule_id)
        self._client = client
        self._timeout = operation_timeout

    def create(self, options: ScheduleCreationOptions) -> None:
        """Create the schedule, or give it another configuration.

        Raises ScheduleClientValidationError for options of another schedule, ValueError for ones that end before
        they start.
        """
        self._run(CREATE_SCHEDULE, self._checked(options))

    def update(self, options: ScheduleUpdateOptions) -> None:
        """Change the schedule."""
        self._run(UPDATE_SCHEDULE, options)

    def pause(self) -> None:
        """Start nothing until the schedule is resumed."""
        self._run(PAUSE_SCHEDULE)

    def resume(self) -> None:
        """Go on after a pause."""
        self._run(RESUME_SCHEDULE)

    def trigger(self) -> str:
        """Start the orchestration now, paused or not, and return its id; the planned starts stay as they are."""
        instance_id: str = self._run(TRIGGER_OPERATION)
        return instance_id

    def backfill(self, first: datetime, last: datetime) -> list[str]:
        """Start what the schedule would have started from ``first`` to ``last``, and return the ids, oldest first.

        The time must have passed and hold at most 1,000 starts, and the schedule must not have a fixed instance id.
        An instance that is still running under such an id is left alone, one that has ended is replaced.
        """
        instance_ids: list[str] = self._run(BACKFILL_OPERATION, ScheduleBackfillRequest(first, last))
        return instance_ids

    def delete(self) -> None:
        """Delete the schedule; what it started goes on."""
        self._run(DELETE_OPERATION)

    def describe(self) -> ScheduleDescription:
        """What the schedule does and when; raises ScheduleNotFoundError if there is none."""
        return self._description(self._client.get_entity(self._entity_id))

    def _run(self, operation: str, input: Any = None) -> Any:
        request = self._request(operation, input)
        instance_id = self._client.schedule_new_orchestration(execute_schedule_operation_orchestrator, input=request)
        state = self._client.wait_for_orchestration_completion(instance_id, timeout=self._timeout)
        return self._result(operation, state)


class AsyncScheduleClient(_ScheduleHandle):
    """One schedule, for asyncio; see ScheduleClient."""

    def __init__(self, client: AsyncTaskHubGrpcClient, schedule_id: str, *, operation_timeout: float = 60) -> None:
        super().__init__(schedule_id)
        self._client = client
        self._timeout = operation_timeout

    async def create(self, options: ScheduleCreationOptions) -> None:
        """See ScheduleClient.create."""
        await self._run(CREATE_SCHEDULE, self._checked(options))

    async def update(self, options: ScheduleUpdateOptions) -> None:
        """See ScheduleClient.update."""
        await self._run(UPDATE_SCHEDULE, options)

    async def pause(self) -> None:
        """See ScheduleClient.pause."""
        await self._run(PAUSE_SCHEDULE)

    async def resume(self) -> None:
        """See ScheduleClient.resume."""
        await self._run(RESUME_SCHEDULE)

    async def trigger(self) -> str:
        """See ScheduleClient.trigger."""
        instance_id: str = await self._run(TRIGGER_OPERATION)
        return instance_id

    async def backfill(self, first: datetime, last: datetime) -> list[str]:
        """See ScheduleClient.backfill."""
        instance_ids: list[str] = await self._run(BACKFILL_OPERATION, ScheduleBackfillRequest(first, last))
        return instance_ids

    async def delete(self) -> None:
        """See ScheduleClient.delete."""
        await self._run(DELETE_OPERATION)

    async def describe(self) -> ScheduleDescription:
        """See ScheduleClient.describe."""
        return self._description(await self._client.get_entity(self._entity_id))

    async def _run(self, operation: str, input: Any = None) -> Any:
        request = self._request(operation, input)
        instance_id = await self._client.schedule_new_orchestration(
            execute_schedule_operation_orchestrator, input=request
        )
        state = await self._client.wait_for_orchestration_completion(instance_id, timeout=self._timeout)
        return self._result(operation, state)


class ScheduledTaskClient:
    """All schedules of a task hub.

    Args:
        client: The client to use; it stays the caller's.
        operation_timeout: Seconds that an operation of a schedule may take.
    """

    def __init__(self, client: TaskHubGrpcClient, *, operation_timeout: float = 60) -> None:
        self._client = client
        self._timeout = operation_timeout

    def get_schedule_client(self, schedule_id: str) -> ScheduleClient:
        """A client for one schedule, whether or not it exists."""
        return ScheduleClient(self._client, schedule_id, operation_timeout=self._timeout)

    def create_schedule(self, options: ScheduleCreationOptions) -> ScheduleClient:
        """Create a schedule and return a client for it; see ScheduleClient.create."""
        schedule = self.get_schedule_client(options.schedule_id)
        schedule.create(options)
        return schedule

    def get_schedule(self, schedule_id: str) -> ScheduleDescription | None:
        """What a schedule does and when; None if there is none."""
        try:
            return self.get_schedule_client(schedule_id).describe()
        except ScheduleNotFoundError:
            return None

    def list_schedules(self, schedule_query: ScheduleQuery | None = None) -> list[ScheduleDescription]:
        """All schedules that a query selects; by default all."""
        return _descriptions(self._client.get_all_entities(_entity_query(schedule_query)), schedule_query)

    @staticmethod
    def matches_filter(state: ScheduleState, schedule_query: ScheduleQuery | None) -> bool:
        """Whether a query selects a schedule; the bounds of its creation time are exclusive."""
        return _matches(state, schedule_query or ScheduleQuery())


class AsyncScheduledTaskClient:
    """All schedules of a task hub, for asyncio; see ScheduledTaskClient."""

    def __init__(self, client: AsyncTaskHubGrpcClient, *, operation_timeout: float = 60) -> None:
        self._client = client
        self._timeout = operation_timeout

    def get_schedule_client(self, schedule_id: str) -> AsyncScheduleClient:
        """See ScheduledTaskClient.get_schedule_client."""
        return AsyncScheduleClient(self._client, schedule_id, operation_timeout=self._timeout)

    async def create_schedule(self, options: ScheduleCreationOptions) -> AsyncScheduleClient:
        """See ScheduledTaskClient.create_schedule."""
        schedule = self.get_schedule_client(options.schedule_id)
        await schedule.create(options)
        return schedule

    async def get_schedule(self, schedule_id: str) -> ScheduleDescription | None:
        """See ScheduledTaskClient.get_schedule."""
        try:
            return await self.get_schedule_client(schedule_id).describe()
        except ScheduleNotFoundError:
            return None

    async def list_schedules(self, schedule_query: ScheduleQuery | None = None) -> list[ScheduleDescription]:
        """See ScheduledTaskClient.list_schedules."""
        return _descriptions(await self._client.get_all_entities(_entity_query(schedule_query)), schedule_query)

    @staticmethod
    def matches_filter(state: ScheduleState, schedule_query: ScheduleQuery | None) -> bool:
        """See ScheduledTaskClient.matches_filter."""
        return ScheduledTaskClient.matches_filter(state, schedule_query)


def _entity_query(query: ScheduleQuery | None) -> EntityQuery:
    query = query or ScheduleQuery()
    return EntityQuery(
        instance_id_starts_with=f"@{ENTITY_NAME}@{query.schedule_id_prefix or ''}",
        include_state=True,
        page_size=query.page_size or ScheduleQuery.DEFAULT_PAGE_SIZE,
    )


def _descriptions(found: list[EntityMetadata], query: ScheduleQuery | None) -> list[ScheduleDescription]:
    states = [state for metadata in found if (state := _state_of(metadata)) is not None]
    return [state.to_description() for state in states if _matches(state, query or ScheduleQuery())]


def _state_of(metadata: EntityMetadata | None) -> ScheduleState | None:
    state = None if metadata is None else metadata.get_typed_state(ScheduleState)
    return None if state is None or state.schedule_configuration is None else state


def _matches(state: ScheduleState, query: ScheduleQuery) -> bool:
    configuration = state.schedule_configuration
    schedule_id = "" if configuration is None else configuration.schedule_id
    created = None if state.schedule_created_at is None else texts.utc(state.schedule_created_at)
    return (
        (query.status is None or state.status is query.status)
        and (not query.schedule_id_prefix or schedule_id.startswith(query.schedule_id_prefix))
        and (query.created_from is None or (created is not None and created > query.created_from))
        and (query.created_to is None or (created is not None and created < query.created_to))
    )
