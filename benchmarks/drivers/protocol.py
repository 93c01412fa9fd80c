"""One JSON line in, one JSON line out: how the suite asks a driver to run a workload.

Request:  ``{"workload": "W2", "parameters": {"lengths": [10, 100]}, "folder": "/tmp/..."}``
Answer:   ``{"figures": {"us_per_step@10": 137.0, ...}}``, or ``{"skipped": REASON}``, ``{"absent": REASON}`` or
          ``{"failed": REASON}``

A driver ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

Figures = dict[str, float]


class Skip(Exception):
    """This system cannot run this workload; the message says why."""


class Absent(Exception):
    """What this system needs is not on this machine; the message says what."""


@dataclass(frozen=True)
class Request:
    """What to run; ``folder`` is empty and belongs to this request alone."""

    workload: str
    parameters: dict[str, Any]
    folder: Path


def serve(workloads: Mapping[str, Callable[[Request], Figures]]) -> None:
    """Answer requests until standard input ends; then end this process, whatever its threads still wait for."""
    answers = _private_stdout()
    for line in sys.stdin:
        fields = json.loads(line)
        request = Request(fields["workload"], fields["parameters"], Path(fields["folder"]))
        answers.write(json.dumps(_answer(workloads, request)) + "\n")
        answers.flush()
    os._exit(0)


def _answer(workloads: Mapping[str, Callable[[Request], Figures]], request: Request) -> dict[str, Any]:
    try:
        workload = workloads.get(request.workload)
        if workload is None:
            raise Skip("no such workload for this system")
        return {"figures": workload(request)}
    except Skip as reason:
        return {"skipped": str(reason)}
    except Absent as reason:
        return {"absent": str(reason)}
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def _private_stdout() -> TextIO:
    """The real standard output; what a system prints goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers
