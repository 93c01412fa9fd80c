"""Times and bounds of the service, and the checks that every request passes at its edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from durabletask_scheduler.clock import Clock, SystemClock
from durabletask_scheduler.hub.model import HubError, Limits
from durabletask_scheduler.hub.times import MILLISECOND, SECOND

MAX_BATCH = 500
"""Instance ids in one batch (backend semantics, PurgeInstances)."""

DEFAULT_PAGE = 100
"""Page size when a request names none."""

MAX_PAGE = 10_000

DEFAULT_PERMITS = 100
"""Work items of one kind on one stream when the worker names no bound: 0 means "unspecified"."""

HISTORY_CHUNK_BYTES = 256 * 1024
"""About how much one message of a streamed history holds; one larger event travels alone."""


USUAL_RECEIVE_BYTES = 4 * 1024 * 1024
"""The largest message that gRPC accepts unless told otherwise, and so what most workers accept."""


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How the service behaves; every default is meant for production.

    Attributes:
        default_task_hub: the hub of callers that name none.
        limits: how much one instance may take.
        stream_grace: how long work items stay with a stream that ended, so that answers under way
            still count; nanoseconds.
        turn_max_age: after this time a turn goes to another worker under a new token; nanoseconds.
        ping_interval: an idle stream gets a health ping this often; nanoseconds. Workers give a
            silent stream up after 120 s.
        idle_instances: instances without work in flight that stay in memory; large ones that have ended do not.
        history_cache_bytes: history kept in memory for workers that replay, all instances together.
        history_stream_bytes: longer histories are streamed to workers that can take it so.
        commands_per_tick: requests and answers that share one transaction, at most.
        readers: threads that answer queries.
        retry_delay: pause before loading again what a failed write dropped; nanoseconds.
        parked_waits: calls that may wait for instances at once, all task hubs together.
        history_warning: events in one generation after which a warning is logged, once a generation.
        worker_losses: how often in a row a work item larger than most workers accept may be lost together with
            the stream that it was sent on; then the orchestration or activity fails.
        burst_hold: while clients start orchestrations, raise events or signal entities in close succession and nobody
            waits for what comes of it, that is handed out so much later at most, much of it together; nanoseconds, 0
            for at once. See ``burst``.
        on_failure: called on any thread when an unexpected error has ended the service's work for good; calls
            are refused from then on, and what is stored is taken up by the next start.
        shares_core: threads of this process that hand over to each other do so on one core of the machine (Linux); see
            ``shared_core``.
        clock: the time. One that is not the system's may serve one service at a time.
    """

    default_task_hub: str = "default"
    limits: Limits = field(default_factory=Limits)
    stream_grace: int = 2 * SECOND
    turn_max_age: int = 300 * SECOND
    ping_interval: int = 30 * SECOND
    idle_instances: int = 10_000
    history_cache_bytes: int = 256 * 1024 * 1024
    history_stream_bytes: int = 1024 * 1024
    commands_per_tick: int = 1_000
    readers: int = 4
    retry_delay: int = SECOND
    parked_waits: int = 100_000
    history_warning: int = 10_000
    worker_losses: int = 3
    burst_hold: int = 16 * MILLISECOND
    on_failure: Callable[[], None] = _nothing
    shares_core: bool = True
    clock: Clock = field(default_factory=SystemClock)


def page_size(asked: int) -> int:
    """The page size to use: a default for 0, capped; negative is INVALID_ARGUMENT."""
    if asked < 0:
        raise HubError("INVALID_ARGUMENT", f"the page size is {asked}; expected 0 (for {DEFAULT_PAGE}) or more")
    return min(asked, MAX_PAGE) or DEFAULT_PAGE


def check_batch(instance_ids: int) -> None:
    if instance_ids > MAX_BATCH:
        raise HubError(
            "INVALID_ARGUMENT", f"the batch has {instance_ids} instance ids; at most {MAX_BATCH} are allowed: split it"
        )
