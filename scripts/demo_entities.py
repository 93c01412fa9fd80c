"""The entities samples, from nothing to their results: scheduler, workers and clients as real processes.

    python scripts/demo_entities.py [SAMPLE ...]

By default the class-based counter and the transfer. The scheduler's file is temporary, its port 8080 or, when that is
taken, a free one. Exits 0 when the samples did what they should, 1 with the reason otherwise.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from pathlib import Path

from programs import Program, ProgramError, free_port, start_scheduler

FOLDER = Path(__file__).parents[1] / "samples" / "entities"
PREFERRED_PORT = 8080
START_SECONDS = 30
CLIENT_SECONDS = 90

# What each client has to say, line by line; they print nothing else.
EXPECTED: dict[str, tuple[str, ...]] = {
    "function_counter": (
        "Counter after adding 1, 2 and 3: 6",
        "Counter after an unknown operation and adding 7: 13",
        "Counter deleted",
    ),
    "class_counter": (
        r"Orchestration: COMPLETED",
        r"Results of add 10, add 20, add 12 and get: \[10, 30, 42, 42\]",
        "State of the entity: 42",
    ),
    "transfer": (
        "Ada has 100",
        "Transfer of 30: COMPLETED",
        r"Transfer of 1000: FAILED \(.*1000 is more than the balance of 70\)",
        "Ada has 70",
        "Bob has 30",
    ),
    "actions": (
        "Order of cup, tea, tea, version 1.0.0: COMPLETED",
        r"Left in stock: \{'tea': 8, 'cup': 9\}",
    ),
    "schedule": (
        "Created: ACTIVE",
        "Result of a scheduled start: report on sales",
        "Paused: PAUSED",
        "Result of a start by hand: report on returns",
        "Resumed: ACTIVE, every 1:00:00",
        "Deleted: True",
    ),
}
DEMO = ("class_counter", "transfer")


def check(sample: str, output: str) -> None:
    """Compare what a client has said with what it should have.

    Raises:
        ProgramError: it differs.
    """
    lines, expected = output.splitlines(), EXPECTED[sample]
    if len(lines) != len(expected) or not all(map(re.fullmatch, expected, lines)):
        raise ProgramError(f"{sample}: the results differ: expected {list(expected)}, found {lines}")


def run_sample(sample: str, endpoint: str) -> None:
    """Run one sample's worker and client against a scheduler.

    Raises:
        ProgramError: one of them failed, or the results differ.
    """
    environment = {"ENDPOINT": endpoint, "TASKHUB": "default"}
    worker_command = [sys.executable, str(FOLDER / f"{sample}_worker.py")]
    print(f"\n=== {sample} ===", flush=True)
    with Program("worker", worker_command, environment=environment) as worker:
        worker.wait_for("Worker ready", START_SECONDS)
        client_command = [sys.executable, str(FOLDER / f"{sample}_client.py")]
        with Program("client", client_command, environment=environment, echo=print) as client:
            code = client.wait(CLIENT_SECONDS)
        if code != 0:
            raise ProgramError(f"{sample}: the client ended with exit code {code}. The worker said:\n{worker.output}")
        check(sample, client.output)


def run(samples: list[str], folder: Path) -> None:
    port = free_port(PREFERRED_PORT)
    with start_scheduler(folder / "demo.db", port, timeout=START_SECONDS):
        print(f"Scheduler on 127.0.0.1:{port}, file {folder / 'demo.db'}", flush=True)
        for sample in samples:
            run_sample(sample, f"http://127.0.0.1:{port}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the entities samples on a scheduler of their own.")
    parser.add_argument("samples", nargs="*", metavar="SAMPLE", help="some of " + ", ".join(EXPECTED))
    samples = parser.parse_args().samples or list(DEMO)
    if unknown := set(samples) - EXPECTED.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(EXPECTED)}")
    # A polite end stops the processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="durabletask-demo-") as folder:
            run(samples, Path(folder))
    except ProgramError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    print(f"\ndemo: {', '.join(samples)} did what they should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
