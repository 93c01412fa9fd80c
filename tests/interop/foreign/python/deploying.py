"""Workloads: several workers, versions, work-item filters, task hubs, and the SDK of the managed service."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import functions as given
from durabletask import task
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import (
    OrchestrationWorkItemFilter,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkItemFilters,
)
from stage import QUIET, WAIT, Stage, code_of, end


def _ends(client: TaskHubGrpcClient, orchestrator: Any, versions: list[str], **options: Any) -> list[Any]:
    ids = [client.schedule_new_orchestration(orchestrator, version=version, **options) for version in versions]
    return [end(client.wait_for_orchestration_completion(instance_id, timeout=WAIT)) for instance_id in ids]


def _strict(version: str, on_failure: VersionFailureStrategy) -> VersioningOptions:
    return VersioningOptions(version, version, VersionMatchStrategy.STRICT, on_failure)


def two_versions_side_by_side(stage: Stage) -> Any:
    """Two workers of one version each that reject the other's: every instance ends on its own worker."""

    def who_runs_it(ctx: task.OrchestrationContext, _: Any) -> list[Any]:
        return ["old worker", ctx.version]

    def who_runs_it_now(ctx: task.OrchestrationContext, _: Any) -> list[Any]:
        return ["new worker", ctx.version]

    who_runs_it_now.__name__ = who_runs_it.__name__
    hub, reject = "versions", VersionFailureStrategy.REJECT
    with stage.hub_worker(hub, who_runs_it) as old, stage.hub_worker(hub, who_runs_it_now) as new:
        old.use_versioning(_strict("1.0.0", reject))
        new.use_versioning(_strict("2.0.0", reject))
        old.start()
        new.start()
        return _ends(stage.hub_client(hub), who_runs_it, ["1.0.0", "2.0.0"] * 3)


def rejected_by_all_then_taken(stage: Stage) -> Any:
    """No worker has the version; it waits, neither failed nor lost, until one comes."""

    def upgraded(ctx: task.OrchestrationContext, _: Any) -> str | None:
        return ctx.version

    hub, reject = "upgrade", VersionFailureStrategy.REJECT
    with stage.hub_worker(hub, upgraded) as old, stage.hub_worker(hub, upgraded) as new:
        old.use_versioning(_strict("1.0.0", reject))
        new.use_versioning(_strict("2.0.0", reject))
        old.start()
        client = stage.hub_client(hub)
        instance_id = client.schedule_new_orchestration(upgraded, version="2.0.0")
        _ends(client, upgraded, ["1.0.0"])
        before = str(client.get_orchestration_state(instance_id).runtime_status)
        new.start()
        return [before, *end(client.wait_for_orchestration_completion(instance_id, timeout=WAIT))]


def version_mismatch_fails(stage: Stage) -> Any:
    def versioned(ctx: task.OrchestrationContext, _: Any) -> str | None:
        return ctx.version

    with stage.hub_worker("strict", versioned) as worker:
        worker.use_versioning(_strict("1.0.0", VersionFailureStrategy.FAIL))
        worker.start()
        return [outcome[:2] for outcome in _ends(stage.hub_client("strict"), versioned, ["1.0.0", "1.0.1"])]


def children_get_the_default_version(stage: Stage) -> Any:
    def child(ctx: task.OrchestrationContext, _: Any) -> str | None:
        return ctx.version

    def parent(ctx: task.OrchestrationContext, _: Any) -> given.Steps:
        implicit = yield ctx.call_sub_orchestrator(child)
        explicit = yield ctx.call_sub_orchestrator(child, version="9.9.9")
        return [ctx.version, implicit, explicit]

    with stage.hub_worker("children", parent, child) as worker:
        fail = VersionFailureStrategy.FAIL
        worker.use_versioning(VersioningOptions("2.0.0", "2.0.0", VersionMatchStrategy.NONE, fail))
        worker.start()
        client = stage.hub_client("children", default_version="1.5.0")
        ended = _ends(client, parent, [""])
        return ended[0]


def work_item_filters(stage: Stage) -> Any:
    """Two workers with a filter for one name each, and a name that nobody takes and that must not block others."""

    def apples(_: task.OrchestrationContext, __: Any) -> str:
        return "apples"

    def pears(_: task.OrchestrationContext, __: Any) -> str:
        return "pears"

    hub = "filters"
    client = stage.hub_client(hub)
    nobody = client.schedule_new_orchestration("plums")
    with stage.hub_worker(hub, apples) as first, stage.hub_worker(hub, pears) as second:
        first.use_work_item_filters()
        second.use_work_item_filters(WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("pears")]))
        first.start()
        second.start()
        ids = [client.schedule_new_orchestration(orchestrator) for orchestrator in (apples, pears) * 4]
        outputs = [client.wait_for_orchestration_completion(one, timeout=WAIT).get_output() for one in ids]
        return [outputs == ["apples", "pears"] * 4, str(client.get_orchestration_state(nobody).runtime_status)]


def filters_by_version(stage: Stage) -> Any:
    """Strict workers with generated filters: each version goes to its worker at once, none is rejected first."""

    def versioned(ctx: task.OrchestrationContext, _: Any) -> str | None:
        return ctx.version

    hub, fail = "filters-by-version", VersionFailureStrategy.FAIL
    with stage.hub_worker(hub, versioned) as old, stage.hub_worker(hub, versioned) as new:
        for worker, version in ((old, "1.0.0"), (new, "2.0.0")):
            worker.use_versioning(_strict(version, fail))
            worker.use_work_item_filters()
            worker.start()
        return _ends(stage.hub_client(hub), versioned, ["2.0.0", "1.0.0"] * 2)


def task_hubs_are_apart(stage: Stage) -> Any:
    """One id in two task hubs, and a task hub that does not exist."""
    one = stage.run(given.chain, input=1)
    other = stage.hub_client("apart")
    elsewhere = other.get_orchestration_state(one.instance_id)
    code = code_of(other.schedule_new_orchestration, given.chain, input=2, instance_id=one.instance_id)
    nowhere = code_of(stage.hub_client("nowhere").schedule_new_orchestration, given.chain)
    return [elsewhere, code, nowhere]


def managed_sdk(stage: Stage) -> Any:
    """The client and worker for the managed service, without credentials."""
    options: dict[str, Any] = {
        "host_address": stage.address,
        "secure_channel": False,
        "taskhub": "managed",
        "token_credential": None,
        "logger": QUIET,
    }
    client = DurableTaskSchedulerClient(**options)
    with DurableTaskSchedulerWorker(**options) as worker:
        worker.add_orchestrator(given.chain)
        worker.add_activity(given.add_one)
        worker.start()
        instance_id = client.schedule_new_orchestration(given.chain, input=3)
        return end(client.wait_for_orchestration_completion(instance_id, timeout=WAIT))


def worker_taken_over(stage: Stage) -> Any:
    """A worker stops while an orchestration waits; another one goes on with it, timer and all."""
    hub = "takeover"
    client = stage.hub_client(hub)

    def two_halves(ctx: task.OrchestrationContext, _: Any) -> given.Steps:
        first = yield ctx.call_activity(given.add_one, input=1)
        yield ctx.wait_for_external_event("go")
        yield ctx.create_timer(timedelta(milliseconds=50))
        return [first, (yield ctx.call_activity(given.add_one, input=first))]

    with stage.hub_worker(hub, two_halves, given.add_one) as worker:
        worker.start()
        instance_id = client.schedule_new_orchestration(two_halves)
        client.wait_for_orchestration_start(instance_id, timeout=WAIT)
    client.raise_orchestration_event(instance_id, "go")
    begin = time.monotonic()
    with stage.hub_worker(hub, two_halves, given.add_one) as worker:
        worker.start()
        ended = end(client.wait_for_orchestration_completion(instance_id, timeout=WAIT))
    return [*ended, time.monotonic() - begin < 15]


TOGETHER = [
    children_get_the_default_version,
    filters_by_version,
    managed_sdk,
    rejected_by_all_then_taken,
    task_hubs_are_apart,
    two_versions_side_by_side,
    version_mismatch_fails,
    work_item_filters,
    worker_taken_over,
]
