"""The versioning sample, from nothing to its results: scheduler, worker and client as real processes.

    python scripts/demo.py [NAME]

The scheduler's file is temporary, its port 8080 or, when that is taken, a free one. Exits 0 when the three versions
did what they should, 1 with the reason otherwise.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from pathlib import Path

from programs import Program, ProgramError, free_port, start_scheduler

SAMPLE = Path(__file__).parents[1] / "samples" / "versioning"
PREFERRED_PORT = 8080
START_SECONDS = 30
CLIENT_SECONDS = 90


def expected_results(name: str) -> list[dict[str, object]]:
    results = [f"Hello, {name}!", f"Goodbye, {name}!", f"Notification sent: {name} was greeted"]
    return [{"version": f"{count}.0.0", "results": results[:count]} for count in (1, 2, 3)]


def check(output: str, name: str) -> None:
    """Compare the client's output with what the three versions should do.

    Raises:
        ProgramError: it differs.
    """
    found = [json.loads(line) for line in re.findall(r"^  Result: (\{.*\})$", output, re.MULTILINE)]
    if found != expected_results(name):
        raise ProgramError(f"the results differ: expected {expected_results(name)}, found {found}")


def say_as_worker(line: str) -> None:
    print("worker |", line)


def run(name: str, folder: Path) -> None:
    port = free_port(PREFERRED_PORT)
    environment = {"ENDPOINT": f"http://127.0.0.1:{port}", "TASKHUB": "default"}
    with start_scheduler(folder / "demo.db", port, timeout=START_SECONDS):
        print(f"Scheduler on 127.0.0.1:{port}, file {folder / 'demo.db'}")
        worker_command = [sys.executable, str(SAMPLE / "worker.py")]
        with Program("worker", worker_command, environment=environment, echo=say_as_worker) as worker:
            worker.wait_for("Worker started", START_SECONDS)
            client_command = [sys.executable, str(SAMPLE / "client.py"), name]
            with Program("client", client_command, environment=environment, echo=print) as client:
                code = client.wait(CLIENT_SECONDS)
            if code != 0:
                raise ProgramError(f"client: it ended with exit code {code}")
            check(client.output, name)


def main() -> int:
    # A polite end stops the three processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    name = sys.argv[1] if len(sys.argv) > 1 else "World"
    try:
        with tempfile.TemporaryDirectory(prefix="durabletask-demo-") as folder:
            run(name, Path(folder))
    except ProgramError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    print("\ndemo: the three versions did what they should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
