"""Driver of the Durable Task family: our SDK or the official one, whichever this environment has.

    python -m drivers.family '{"scheduler": "embedded"}'

The argument is a ``drivers.hosts.Deployment`` as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from drivers import crashes, databases, entities, evicted, loads, queries, starts, takeover, waits
from drivers.hosts import Deployment
from drivers.protocol import Figures, Request, serve

Workload = Callable[[Deployment, Request], Figures]

WORKLOADS: dict[str, Workload] = {
    "W1": starts.one_by_one,
    "W1a": starts.concurrent,
    "W1t": starts.threads,
    "W1b": starts.bulk,
    "W2": loads.chains,
    "W3": loads.fans,
    "W4": loads.idle_latency,
    "W5": entities.signals,
    "W5h": entities.hot,
    "W6": waits.timers,
    "W7": waits.idle_instances,
    "W7m": waits.many_idle_instances,
    "W8": loads.payloads,
    "W9": loads.imports_and_start,
    "W10": crashes.restart,
    "W10m": crashes.restart_with_many,
    "W10s": takeover.takeovers,
    "W11": loads.mixed,
    "W12": evicted.chains_in_turn,
    "W13": crashes.kill,
    "W14": queries.pages_under_load,
}


def with_database(workload: Workload, deployment: Deployment, request: Request) -> Figures:
    """Run it, with a database server of its own if it asks for one."""
    if deployment.database != databases.POSTGRES:
        return workload(deployment, request)
    with databases.postgres() as server:
        return workload(replace(deployment, database=server.url, pids=(server.pid,)), request)


def main() -> None:
    deployment = Deployment.parse(sys.argv[1])
    serve({name: partial(with_database, workload, deployment) for name, workload in WORKLOADS.items()})


if __name__ == "__main__":
    main()
