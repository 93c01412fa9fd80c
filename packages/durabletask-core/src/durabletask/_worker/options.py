"""How much a worker takes on at once."""

import os

_ITEMS_PER_CPU = 100
_EXTRA_THREADS = 4
DEFAULT_CACHED_ORCHESTRATIONS = 1000


class ConcurrencyOptions:
    """Limits of one worker; every attribute holds the resolved number.

    Args:
        maximum_concurrent_activity_work_items: Activities taken and not yet answered; default 100 per CPU.
        maximum_concurrent_orchestration_work_items: Turns taken and not yet answered; default 100 per CPU.
        maximum_concurrent_entity_work_items: Entity batches taken and not yet answered; default 100 per CPU, and
            never more than there are threads for them.
        maximum_thread_pool_workers: Threads for activities that are plain functions, and as many for entities;
            default CPUs + 4.
            ``async def`` activities need none.
        maximum_process_pool_workers: Processes for activities registered with ``process=True``; default CPUs.
        maximum_cached_orchestrations: Orchestrations kept suspended between turns, so that they need no
            replay (only with servers that support it); default 1000, 0 switches that off.

    Raises:
        ValueError: A limit is less than 1 (or, for the cache, less than 0).
    """

    def __init__(
        self,
        maximum_concurrent_activity_work_items: int | None = None,
        maximum_concurrent_orchestration_work_items: int | None = None,
        maximum_concurrent_entity_work_items: int | None = None,
        maximum_thread_pool_workers: int | None = None,
        *,
        maximum_cached_orchestrations: int | None = None,
        maximum_process_pool_workers: int | None = None,
    ) -> None:
        cpus = os.cpu_count() or 1
        items = _ITEMS_PER_CPU * cpus
        self.maximum_concurrent_activity_work_items = _limit(
            "maximum_concurrent_activity_work_items", maximum_concurrent_activity_work_items, items
        )
        self.maximum_concurrent_orchestration_work_items = _limit(
            "maximum_concurrent_orchestration_work_items", maximum_concurrent_orchestration_work_items, items
        )
        self.maximum_concurrent_entity_work_items = _limit(
            "maximum_concurrent_entity_work_items", maximum_concurrent_entity_work_items, items
        )
        self.maximum_thread_pool_workers = _limit(
            "maximum_thread_pool_workers", maximum_thread_pool_workers, cpus + _EXTRA_THREADS
        )
        self.maximum_process_pool_workers = _limit("maximum_process_pool_workers", maximum_process_pool_workers, cpus)
        self.maximum_cached_orchestrations = _limit(
            "maximum_cached_orchestrations", maximum_cached_orchestrations, DEFAULT_CACHED_ORCHESTRATIONS, least=0
        )


def _limit(name: str, value: int | None, default: int, least: int = 1) -> int:
    if value is None:
        return default
    if value < least:
        raise ValueError(f"{name} must be at least {least}, found {value!r}")
    return value


# User code finds this class in durabletask.worker.
ConcurrencyOptions.__module__ = "durabletask.worker"
