"""The values that clients take and return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.failures import FailureDetails
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter

if TYPE_CHECKING:
    from durabletask.task import Orchestrator

TItem = TypeVar("TItem")

MAX_PAGE_SIZE = 2**31 - 1


class OrchestrationStatus(Enum):
    """The status of an orchestration instance; values are those of the protocol."""

    RUNNING = pb.ORCHESTRATION_STATUS_RUNNING
    COMPLETED = pb.ORCHESTRATION_STATUS_COMPLETED
    CONTINUED_AS_NEW = pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW
    FAILED = pb.ORCHESTRATION_STATUS_FAILED
    CANCELED = pb.ORCHESTRATION_STATUS_CANCELED
    TERMINATED = pb.ORCHESTRATION_STATUS_TERMINATED
    PENDING = pb.ORCHESTRATION_STATUS_PENDING
    SUSPENDED = pb.ORCHESTRATION_STATUS_SUSPENDED

    def __str__(self) -> str:
        return self.name


class OrchestrationFailedError(Exception):
    """An orchestration ended with a failure.

    Args:
        message: What failed, and why.
        failure_details: The failure, as the worker reported it.
    """

    def __init__(self, message: str, failure_details: FailureDetails) -> None:
        super().__init__(message)
        self._failure_details = failure_details

    @property
    def failure_details(self) -> FailureDetails:
        return self._failure_details


@dataclass
class OrchestrationState:
    """What a task hub knows about an orchestration instance.

    Payloads are JSON text, or None if there is none or it was not fetched. All times are naive and in UTC.

    Args:
        instance_id: Its id.
        name: The name of its orchestrator.
        runtime_status: Its status.
        created_at: When it was created.
        last_updated_at: When its state last changed.
        serialized_input: Its input; after continue-as-new, the newest.
        serialized_output: Its result, or what it was terminated with.
        serialized_custom_status: What the orchestrator last set.
        failure_details: Why it failed.
        version: Its version; None if it has none.
        tags: Its tags.
        parent_instance_id: The instance whose sub-orchestration this is.
        execution_id: The id of its present generation, where the server tells it.
        completed_at: When it ended.
        scheduled_start_at: When it starts or was due to start, if it was scheduled.
    """

    instance_id: str
    name: str
    runtime_status: OrchestrationStatus
    created_at: datetime
    last_updated_at: datetime
    serialized_input: str | None
    serialized_output: str | None
    serialized_custom_status: str | None
    failure_details: FailureDetails | None
    _data_converter: DataConverter = field(default=DEFAULT_DATA_CONVERTER, repr=False, compare=False)
    version: str | None = field(default=None, kw_only=True)
    tags: dict[str, str] = field(default_factory=dict, kw_only=True)
    parent_instance_id: str | None = field(default=None, kw_only=True)
    execution_id: str | None = field(default=None, kw_only=True)
    completed_at: datetime | None = field(default=None, kw_only=True)
    scheduled_start_at: datetime | None = field(default=None, kw_only=True)

    def get_input(self, expected_type: Any = None) -> Any:
        """The input, decoded by the client's data converter; None without a payload."""
        return self._decoded(self.serialized_input, expected_type)

    def get_output(self, expected_type: Any = None) -> Any:
        """The output, decoded by the client's data converter; None without a payload."""
        return self._decoded(self.serialized_output, expected_type)

    def get_custom_status(self, expected_type: Any = None) -> Any:
        """The custom status, decoded by the client's data converter; None without a payload."""
        return self._decoded(self.serialized_custom_status, expected_type)

    def raise_if_failed(self) -> None:
        """Raise if the orchestration failed.

        Raises:
            OrchestrationFailedError: It has failure details.
        """
        if self.failure_details is not None:
            raise OrchestrationFailedError(
                f"Orchestration '{self.instance_id}' failed: {self.failure_details.message}", self.failure_details
            )

    def _decoded(self, payload: str | None, expected_type: Any) -> Any:
        return None if payload is None else self._data_converter.deserialize(payload, expected_type)


@dataclass
class OrchestrationQuery:
    """Which orchestration instances to return; every filter that is set must hold.

    Args:
        created_time_from: Created then or later; a naive datetime is UTC.
        created_time_to: Created before then.
        runtime_status: In one of these statuses; None or empty for any.
        max_instance_count: How many instances the server returns at a time. All are returned in the end.
        fetch_inputs_and_outputs: Whether to return inputs and outputs too.
        instance_id_prefix: The instance id begins with this.
        name: The orchestrator has exactly this name.
        version: The instance has exactly this version; "" for instances without one.
        tags: The instance has all these tags with these values.
    """

    created_time_from: datetime | None = None
    created_time_to: datetime | None = None
    runtime_status: list[OrchestrationStatus] | None = None
    max_instance_count: int | None = MAX_PAGE_SIZE
    fetch_inputs_and_outputs: bool = False
    instance_id_prefix: str | None = None
    name: str | None = field(default=None, kw_only=True)
    version: str | None = field(default=None, kw_only=True)
    tags: dict[str, str] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class OrchestrationCount:
    """How many instances have a status, and a name and version if counted by them.

    Args:
        runtime_status: Their status.
        count: How many there are; at least 1.
        name: The name of their orchestrator; None unless counted by name.
        version: Their version, "" for none; None unless counted by version.
    """

    runtime_status: OrchestrationStatus
    count: int
    name: str | None = None
    version: str | None = None


class UnsupportedByServerError(Exception):
    """The server does not have what was asked for; the message says what to do instead."""


@dataclass
class EntityQuery:
    """Which entities to return; every filter that is set must hold.

    Args:
        instance_id_starts_with: The entity's id string (``@name@key``) begins with this.
        last_modified_from: Last changed then or later; a naive datetime is UTC.
        last_modified_to: Last changed before then.
        include_state: Whether to return states too.
        include_transient: Whether to return entities without a state too.
        page_size: How many entities the server returns at a time; None leaves it to the server.
    """

    instance_id_starts_with: str | None = None
    last_modified_from: datetime | None = None
    last_modified_to: datetime | None = None
    include_state: bool = True
    include_transient: bool = False
    page_size: int | None = None


@dataclass
class PurgeInstancesResult:
    """What a purge did.

    Args:
        deleted_instance_count: How many instances it deleted, sub-orchestrations included.
        is_complete: False if it stopped at its timeout; None if the server did not tell.
    """

    deleted_instance_count: int
    is_complete: bool | None


@dataclass
class Page(Generic[TItem]):
    """One page of results; pass the token to get the next one, None if this is the last."""

    items: list[TItem]
    continuation_token: str | None


@dataclass
class CleanEntityStorageResult:
    """How many empty entities were removed and how many locks without an owner were released."""

    empty_entities_removed: int
    orphaned_locks_released: int


@dataclass(frozen=True)
class NewOrchestration:
    """An orchestration to start with ``schedule_new_orchestrations``.

    Args:
        orchestrator: The orchestrator function or its name.
        input: Its input.
        instance_id: Its id; None for a generated one.
        version: Its version; None for the client's default.
        tags: Its tags.
        start_at: When it starts; None for now. A naive datetime is UTC.
        reuse_id_policy: Which statuses of an existing instance with that id let it be replaced; None leaves it to
            the server.
    """

    orchestrator: Orchestrator[Any, Any] | str
    input: Any = None
    instance_id: str | None = None
    version: str | None = None
    tags: dict[str, str] | None = None
    start_at: datetime | None = None
    reuse_id_policy: pb.OrchestrationIdReusePolicy | None = None


class BulkStartError(Exception):
    """Some orchestrations of a bulk start were not started; all the others were.

    Args:
        failures: The id and the error of each that was not started, in the order of the requests.
        started: The ids of those that were.
    """

    _IDS_IN_MESSAGE = 20

    def __init__(self, failures: Sequence[tuple[str, Exception]], started: Sequence[str]) -> None:
        shown = "; ".join(f"'{instance_id}': {_in_short(error)}" for instance_id, error in self._first(failures))
        more = len(failures) - self._IDS_IN_MESSAGE
        rest = f"; and {more} more, see failures" if more > 0 else ""
        super().__init__(f"{len(failures)} of {len(failures) + len(started)} orchestrations not started: {shown}{rest}")
        self.failures = list(failures)
        self.started = list(started)

    def _first(self, failures: Sequence[tuple[str, Exception]]) -> Sequence[tuple[str, Exception]]:
        return failures[: self._IDS_IN_MESSAGE]


def _in_short(error: Exception) -> str:
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if callable(code) and callable(details) and code() is not None:
        return f"{code().name}: {details()}"
    return f"{type(error).__name__}: {error}"


# Failures carry the name of their class over the wire: it is the public one, wherever the class is written.
OrchestrationFailedError.__module__ = "durabletask.client"
BulkStartError.__module__ = "durabletask.client"
UnsupportedByServerError.__module__ = "durabletask.client"
