"""Workloads: what a client can do to orchestrations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import functions as given
from durabletask.client import OrchestrationQuery, OrchestrationStatus
from durabletask.internal import orchestrator_service_pb2 as pb
from stage import WAIT, Stage, code_of, end, new_id

LIVE = ("PENDING", "RUNNING", "SUSPENDED")
ENDED = ("COMPLETED", "FAILED", "TERMINATED")


def suspend_and_resume(stage: Stage) -> Any:
    """Suspended twice, three events, resumed twice: what it shows meanwhile, its end, and its history."""
    client = stage.client
    instance_id = stage.started(given.three_events)
    for _ in range(2):
        client.suspend_orchestration(instance_id, reason="pause")
    suspended = stage.reached(instance_id, "SUSPENDED")
    for number in range(3):
        client.raise_orchestration_event(instance_id, "approval", data=number)
    still = stage.status(instance_id)
    for _ in range(2):
        client.resume_orchestration(instance_id)
    ended = end(stage.ended(instance_id))
    kinds = stage.kinds(instance_id)
    return [suspended, still, *ended, kinds.count("ExecutionSuspended"), kinds.count("ExecutionResumed")]


def terminate(stage: Stage) -> Any:
    instance_id = stage.started(given.one_event)
    stage.client.terminate_orchestration(instance_id, output={"why": "enough"})
    ended = end(stage.ended(instance_id))
    again = code_of(stage.client.terminate_orchestration, instance_id, output="again")
    return [*ended, again, stage.ended(instance_id).get_output(), stage.kinds(instance_id)[-2:]]


def terminate_while_suspended(stage: Stage) -> Any:
    client = stage.client
    instance_id = stage.started(given.one_event)
    client.suspend_orchestration(instance_id)
    stage.reached(instance_id, "SUSPENDED")
    client.raise_orchestration_event(instance_id, "go", data="must not be seen")
    client.terminate_orchestration(instance_id, output="while suspended")
    return end(stage.ended(instance_id))


def _tree(stage: Stage) -> list[str]:
    """A waiting parent, its child and its grandchild."""
    root = new_id("tree")
    ids = [root, f"{root}-2", f"{root}-2-1"]
    stage.started(given.parent_of_sleepers, input=[root, 2], instance_id=root)
    for instance_id in ids:
        stage.reached(instance_id, "RUNNING")
    return ids


def terminate_recursively(stage: Stage) -> Any:
    ids = _tree(stage)
    stage.client.terminate_orchestration(ids[0], output="all", recursive=True)
    return [end(stage.ended(instance_id)) for instance_id in ids]


def terminate_without_children(stage: Stage) -> Any:
    ids = _tree(stage)
    stage.client.terminate_orchestration(ids[0], recursive=False)
    stage.ended(ids[0])
    alone = [stage.status(instance_id) for instance_id in ids]
    stage.client.terminate_orchestration(ids[1], recursive=True)
    return [alone, [str(stage.ended(instance_id).runtime_status) for instance_id in ids]]


def rewind_failed_activity(stage: Stage) -> Any:
    instance_id = stage.client.schedule_new_orchestration(given.fail_once, input=1)
    before = str(stage.ended(instance_id).runtime_status)
    stage.client.rewind_orchestration(instance_id, reason="repaired")
    return [before, *end(stage.ended(instance_id))]


def rewind_twice(stage: Stage) -> Any:
    instance_id = stage.client.schedule_new_orchestration(given.fail_once, input=2)
    seen = [str(stage.ended(instance_id).runtime_status)]
    for _ in range(2):
        stage.client.rewind_orchestration(instance_id)
        seen.append(str(stage.ended(instance_id).runtime_status))
    return [seen, stage.ended(instance_id).get_output()]


def rewind_failed_child(stage: Stage) -> Any:
    instance_id = stage.client.schedule_new_orchestration(given.parent_of_fail_once, input=1)
    before = [stage.ended(instance_id), stage.ended(f"{instance_id}-child")]
    stage.client.rewind_orchestration(instance_id)
    after = [stage.ended(instance_id), stage.ended(f"{instance_id}-child")]
    return [[str(state.runtime_status) for state in before], [end(state) for state in after]]


def rewind_purged_child(stage: Stage) -> Any:
    instance_id = stage.client.schedule_new_orchestration(given.parent_of_fail_once, input=1)
    stage.ended(instance_id)
    purged = stage.client.purge_orchestration(f"{instance_id}-child")
    stage.client.rewind_orchestration(instance_id)
    return [purged.deleted_instance_count, *end(stage.ended(instance_id))]


def rewind_refused(stage: Stage) -> Any:
    done = stage.run(given.chain, input=1).instance_id
    live = stage.started(given.one_event)
    codes = [code_of(stage.client.rewind_orchestration, which) for which in (new_id("missing"), done, live)]
    stage.client.terminate_orchestration(live)
    return codes


def restart(stage: Stage) -> Any:
    """With the same id, and with a new one."""
    client = stage.client
    instance_id = client.schedule_new_orchestration(given.chain, input=4, tags={"kept": "yes"})
    first = stage.ended(instance_id)
    same = client.restart_orchestration(instance_id)
    second = stage.ended(same)
    other = client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
    third = stage.ended(other)
    return [
        same == instance_id,
        second.created_at > first.created_at,
        end(second),
        other != instance_id,
        end(third),
        client.get_orchestration_history(other)[1].tags,
    ]


def restart_of_the_living(stage: Stage) -> Any:
    client = stage.client
    instance_id = stage.started(given.one_event)
    refused = code_of(client.restart_orchestration, instance_id)
    other = client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
    for which in (instance_id, other):
        client.raise_orchestration_event(which, "go", data=which == other)
    missing = code_of(client.restart_orchestration, new_id("missing"))
    return [refused, missing, end(stage.ended(instance_id)), end(stage.ended(other))]


def purge_one(stage: Stage) -> Any:
    client = stage.client
    instance_id = stage.run(given.chain, input=1).instance_id
    live = stage.started(given.one_event)
    counts = [client.purge_orchestration(which).deleted_instance_count for which in (instance_id, instance_id)]
    refused = code_of(client.purge_orchestration, live)
    client.terminate_orchestration(live)
    return [counts, stage.status(instance_id), refused, code_of(client.get_orchestration_history, instance_id)]


def purge_recursively(stage: Stage) -> Any:
    ids = _tree(stage)
    stage.client.terminate_orchestration(ids[0])
    for instance_id in ids:
        stage.ended(instance_id)
    count = stage.client.purge_orchestration(ids[0], recursive=True).deleted_instance_count
    return [count, [stage.status(instance_id) for instance_id in ids]]


def purge_by_filter(stage: Stage) -> Any:
    """In a task hub of its own: three that are done, one that failed, one that lives."""
    with stage.hub_worker("purging", given.chain, given.add_one, given.failing_child, given.fail) as worker:
        worker.start()
        client = stage.hub_client("purging")
        done = [client.schedule_new_orchestration(given.chain, input=1) for _ in range(3)]
        failed = client.schedule_new_orchestration(given.failing_child, input="no")
        later = datetime.now(timezone.utc) + timedelta(days=1)
        live = client.schedule_new_orchestration(given.chain, input=1, start_at=later)
        for instance_id in [*done, failed]:
            client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        long_ago = client.purge_orchestrations_by(created_time_to=datetime.now(timezone.utc) - timedelta(hours=1))
        completed = client.purge_orchestrations_by(runtime_status=[OrchestrationStatus.COMPLETED])
        rest = client.purge_orchestrations_by(timeout=timedelta(seconds=20))
        counts = [result.deleted_instance_count for result in (long_ago, completed, rest)]
        left = client.get_all_orchestration_states()
        return [counts, rest.is_complete, [state.instance_id == live for state in left]]


def query_pages(stage: Stage) -> Any:
    """Seven instances by pages of three, in the order of their creation; by status; by prefix."""
    client = stage.client
    prefix = new_id("query")
    ids = [f"{prefix}-{name}" for name in "gfedcba"]
    for instance_id in ids:
        client.schedule_new_orchestration(given.chain, input=1, instance_id=instance_id)
        stage.ended(instance_id)

    def found(**options: Any) -> list[str]:
        query = OrchestrationQuery(instance_id_prefix=prefix, **options)
        return [state.instance_id for state in client.get_all_orchestration_states(query)]

    return [
        found(max_instance_count=3) == ids,
        found(runtime_status=[OrchestrationStatus.FAILED]),
        len(found(runtime_status=[OrchestrationStatus.FAILED, OrchestrationStatus.COMPLETED])),
        found(created_time_to=datetime.now(timezone.utc) - timedelta(hours=1)),
        len(found(created_time_from=datetime.now(timezone.utc) - timedelta(hours=1))),
    ]


def query_payloads(stage: Stage) -> Any:
    instance_id = new_id("payloads")
    stage.run(given.echo_through_activity, input="tea", instance_id=instance_id)

    def seen(state: Any) -> list[Any]:
        return [state.serialized_input, state.serialized_output, state.serialized_custom_status]

    def queried(fetch: bool) -> Any:
        query = OrchestrationQuery(instance_id_prefix=instance_id, fetch_inputs_and_outputs=fetch)
        return [seen(state) for state in stage.client.get_all_orchestration_states(query)]

    without = seen(stage.client.get_orchestration_state(instance_id, fetch_payloads=False))
    return [queried(True), queried(False), without[:2]]


def list_instance_ids(stage: Stage) -> Any:
    """Seven that ended, by pages of three, while another one lives: sizes of pages, whether all, in which order."""
    with stage.hub_worker("listing", given.chain, given.add_one) as worker:
        worker.start()
        client = stage.hub_client("listing")
        client.schedule_new_orchestration(given.chain, start_at=datetime.now(timezone.utc) + timedelta(days=1))
        ids = []
        for _ in range(7):
            ids.append(client.schedule_new_orchestration(given.chain, input=1))
            client.wait_for_orchestration_completion(ids[-1], timeout=WAIT)
        pages = [client.list_instance_ids(page_size=3)]
        while pages[-1].continuation_token and len(pages) < 9:
            pages.append(client.list_instance_ids(page_size=3, continuation_token=pages[-1].continuation_token))
        failed = client.list_instance_ids(runtime_status=[OrchestrationStatus.FAILED])
        listed = [instance_id for page in pages for instance_id in page.items]
        return [[len(page.items) for page in pages], listed == ids, failed.items, failed.continuation_token]


def _instance(stage: Stage, status: str) -> str:
    """An instance in the status."""
    client = stage.client
    if status == "PENDING":
        return client.schedule_new_orchestration(given.chain, start_at=datetime.now(timezone.utc) + timedelta(days=1))
    if status in ("COMPLETED", "FAILED"):
        orchestrator = given.chain if status == "COMPLETED" else given.failing_child
        return stage.run(orchestrator, input=0).instance_id
    instance_id = stage.started(given.one_event)
    change = {"SUSPENDED": client.suspend_orchestration, "TERMINATED": client.terminate_orchestration}.get(status)
    if change:
        change(instance_id)
        stage.reached(instance_id, status)
    return instance_id


def id_reuse(stage: Stage) -> Any:
    """For each status of the present instance: how a start of its id ends without policy and with three policies."""
    everything = [getattr(pb, f"ORCHESTRATION_STATUS_{name}") for name in (*LIVE, *ENDED)]

    def start(status: str, *policy: list[int]) -> str:
        instance_id = _instance(stage, status)
        options = {"reuse_id_policy": pb.OrchestrationIdReusePolicy(replaceableStatus=policy[0])} if policy else {}
        code = code_of(
            stage.client.schedule_new_orchestration, given.chain, input=1, instance_id=instance_id, **options
        )
        outcome = end(stage.ended(instance_id))[1] if code == "OK" else stage.status(instance_id) == status
        stage.client.terminate_orchestration(instance_id)
        return f"{code} {outcome}"

    return {
        status: [
            start(status),
            start(status, []),
            start(status, [getattr(pb, f"ORCHESTRATION_STATUS_{status}")]),
            start(status, everything),
        ]
        for status in (*LIVE, *ENDED)
    }


def duplicate_start(stage: Stage) -> Any:
    """Five starts of one id at once: one wins, and it runs once."""
    instance_id = new_id("duplicate")

    def start(_: int) -> str:
        return code_of(stage.client.schedule_new_orchestration, given.one_event, instance_id=instance_id)

    with ThreadPoolExecutor(5) as pool:
        codes = sorted(pool.map(start, range(5)), reverse=True)
    stage.client.raise_orchestration_event(instance_id, "go", data="once")
    return [codes, end(stage.ended(instance_id))]


def wait_for_a_missing_instance(stage: Stage) -> Any:
    """A wait that ends by its deadline, and one for an instance that is created meanwhile."""
    try:
        stage.client.wait_for_orchestration_completion(new_id("missing"), timeout=0.3)
        outcome = "no error"
    except TimeoutError:
        outcome = "TimeoutError"
    later = new_id("later")
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(stage.ended, later)
        missing = stage.client.get_orchestration_state(later)
        stage.client.schedule_new_orchestration(given.chain, input=1, instance_id=later)
        return [outcome, missing, end(wait.result())]


def requests_for_a_missing_instance(stage: Stage) -> Any:
    client, missing = stage.client, new_id("missing")
    return {
        "raise_event": code_of(client.raise_orchestration_event, missing, "go"),
        "terminate": code_of(client.terminate_orchestration, missing),
        "purge": client.purge_orchestration(missing).deleted_instance_count,
        "history": code_of(client.get_orchestration_history, missing),
    }


def requests_for_an_ended_instance(stage: Stage) -> Any:
    client = stage.client
    ended = stage.run(given.chain, input=1)
    codes = [
        code_of(client.raise_orchestration_event, ended.instance_id, "go"),
        code_of(client.terminate_orchestration, ended.instance_id, output="late"),
        code_of(client.suspend_orchestration, ended.instance_id),
        code_of(client.resume_orchestration, ended.instance_id),
    ]
    return [codes, stage.client.get_orchestration_state(ended.instance_id) == ended]


TOGETHER = [
    duplicate_start,
    id_reuse,
    list_instance_ids,
    purge_by_filter,
    purge_one,
    purge_recursively,
    query_pages,
    query_payloads,
    requests_for_a_missing_instance,
    requests_for_an_ended_instance,
    restart,
    restart_of_the_living,
    rewind_failed_activity,
    rewind_failed_child,
    rewind_purged_child,
    rewind_refused,
    rewind_twice,
    suspend_and_resume,
    terminate,
    terminate_recursively,
    terminate_while_suspended,
    terminate_without_children,
    wait_for_a_missing_instance,
]
