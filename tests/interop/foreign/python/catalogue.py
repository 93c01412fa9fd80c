"""The catalogue of workloads: ``python catalogue.py ADDRESS with-worker|client-only AT_ONCE [WORKLOAD...]``.

It is written for the official SDK and runs as it is with every SDK that takes its place: which one it is, the
interpreter decides.
"""

from __future__ import annotations

import importlib.metadata
import sys
from contextlib import nullcontext

import deploying
import functions
import managing
import running
from stage import Stage, perform

MODES = ("with-worker", "client-only")


def which_sdk(_: Stage) -> list[str]:
    """The distribution that owns the SDK's import name."""
    return [name for name in ("durabletask", "durabletask-core") if list(importlib.metadata.distributions(name=name))]


def main(address: str, mode: str, at_once: str, *only: str) -> None:
    if mode not in MODES:
        sys.exit(f"expected one of {', '.join(MODES)}, found {mode!r}")
    stage = Stage(address)
    own_worker = stage.hub_worker("default", *functions.ACTIVITIES, *functions.ORCHESTRATORS)
    known = [which_sdk, *deploying.TOGETHER, *running.TOGETHER, *managing.TOGETHER]
    with own_worker if mode == "with-worker" else nullcontext() as worker:
        if worker is not None:
            worker.start()
        perform(stage, [workload for workload in running.ALONE if not only or workload.__name__ in only], 1)
        perform(stage, [workload for workload in known if not only or workload.__name__ in only], int(at_once))


if __name__ == "__main__":
    main(*sys.argv[1:])
