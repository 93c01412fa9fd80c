"""Driver of the Durable Task family: our SDK or the official one, whichever this environment has.

    python -m drivers.family '{"scheduler": "embedded"}'

The argument is a ``drivers.hosts.Deployment`` as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from drivers import crashes, entities, loads, starts, waits
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
    "W8": loads.payloads,
    "W9": loads.imports_and_start,
    "W10": crashes.restart,
    "W11": loads.mixed,
    "W13": crashes.kill,
}


def main() -> None:
    deployment = Deployment.parse(sys.argv[1])
    serve({name: partial(workload, deployment) for name, workload in WORKLOADS.items()})


if __name__ == "__main__":
    main()
