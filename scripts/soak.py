"""Run a scheduler at a part of its maximum load for a while, and watch what must not grow.

    python scripts/soak.py [--minutes M] [--load SHARE] [--folder FOLDER]

One scheduler with a file and two workers, real processes. The maximum is measured first, then instances of every kind
are started at that share of it. Each minute one line: instances completed, their latency (p50, p99), and of the
scheduler memory, open handles and threads, and its file's size. Ended instances are purged when they are two minutes
old, as an operator would, so file and memory have to level off. Exits 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from durabletask.client import TaskHubGrpcClient
from kill_rounds import Site, check
from programs import ProgramError
from workload import QUIET, Load, Lost, mixture

MEASURE_SECONDS = 10.0
STARTERS = 48
KEEP = timedelta(minutes=2)
MEBIBYTE = 1024 * 1024


@dataclass
class Minute:
    """What one minute brought."""

    latencies: list[float] = field(default_factory=list)
    late: int = 0

    def __str__(self) -> str:
        if len(self.latencies) < 2:
            return "no instance completed"
        cuts = statistics.quantiles(self.latencies, n=100)
        return (
            f"{len(self.latencies)} completed, p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, "
            f"started late {self.late}"
        )


class Vitals:
    """What the system says about a process; Linux only, elsewhere nothing is said."""

    def __init__(self, pid: int, database: Path) -> None:
        self._process = Path("/proc") / str(pid)
        self._database = database

    def __str__(self) -> str:
        size = sum(path.stat().st_size for path in self._database.parent.glob(f"{self._database.name}*"))
        text = f"file {size / MEBIBYTE:.1f} MiB"
        if self._process.is_dir():
            status = dict(line.split(":", 1) for line in (self._process / "status").read_text().splitlines())
            memory = int(status["VmRSS"].split()[0]) / 1024
            handles = len(list((self._process / "fd").iterdir()))
            text += f", memory {memory:.1f} MiB, handles {handles}, threads {status['Threads'].strip()}"
        return text


class Soak:
    """Load at a steady rate.

    Args:
        load: through which it goes.
        chance: which kinds come when.
    """

    def __init__(self, load: Load, chance: random.Random) -> None:
        self._load = load
        self._chance = chance
        self._started = 0
        self._lock = threading.Lock()
        self._minute = Minute()
        self._failures: deque[BaseException] = deque()
        self.completed = 0

    def maximum(self) -> float:
        """Instances a second with all starters busy."""
        end = time.monotonic() + MEASURE_SECONDS
        before, begun = self.completed, time.monotonic()

        def keep_busy() -> None:
            while time.monotonic() < end:
                self._one()

        with ThreadPoolExecutor(STARTERS) as pool:
            for future in [pool.submit(keep_busy) for _ in range(STARTERS)]:
                future.result()
        return (self.completed - before) / (time.monotonic() - begun)

    def run(self, rate: float, until: float) -> None:
        """Start instances at the rate, whatever happens to those before.

        Raises:
            Lost: one did not complete as it should.
        """
        due = time.monotonic()
        with ThreadPoolExecutor(4 * STARTERS) as pool:
            while due < until and not self._failures:
                pause = due - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
                elif pause < -1:
                    self._minute.late += 1
                pool.submit(self._guarded)
                due += 1 / rate
        if self._failures:
            raise self._failures[0]

    def take_minute(self) -> Minute:
        """What came since this was last asked."""
        with self._lock:
            minute, self._minute = self._minute, Minute()
        return minute

    def _guarded(self) -> None:
        try:
            self._one()
        except BaseException as error:
            self._failures.append(error)

    def _one(self) -> None:
        with self._lock:
            self._started += 1
            (instance,) = mixture(f"soak-{self._started}", 1, self._chance)
        self._load.start(instance)
        taken = self._load.finish(instance)
        with self._lock:
            self.completed += 1
            self._minute.latencies.append(taken)


def report(soak: Soak, vitals: Vitals, client: TaskHubGrpcClient, stop: threading.Event) -> None:
    """A line a minute; what ended a while ago is purged."""
    minute = 0
    while not stop.wait(60):
        minute += 1
        old = datetime.now(timezone.utc) - KEEP
        purged = client.purge_orchestrations_by(created_time_to=old).deleted_instance_count
        print(f"minute {minute}: {soak.take_minute()}; {vitals}; purged {purged}", flush=True)


def run(folder: Path, minutes: float, share: float, seed: int) -> int:
    """The whole soak; returns how many instances completed.

    Raises:
        Lost: one did not complete as it should, or the file is damaged.
        ProgramError: a program did not start.
    """
    site = Site(folder)
    load = Load(site.address, threads=STARTERS)
    client = TaskHubGrpcClient(host_address=site.address, logger=QUIET)
    stop = threading.Event()
    soak = Soak(load, random.Random(seed))
    vitals = Vitals(site.pid("scheduler"), site.database)
    reporting = threading.Thread(target=report, args=(soak, vitals, client, stop), name="report", daemon=True)
    try:
        most = soak.maximum()
        rate = max(1.0, most * share)
        print(f"maximum {most:.0f} instances/s, load {rate:.0f}/s; {vitals}", flush=True)
        soak.take_minute()
        reporting.start()
        soak.run(rate, time.monotonic() + minutes * 60)
    finally:
        stop.set()
        if reporting.is_alive():
            reporting.join()
        client.close()
        load.close()
        site.stop()
    check(site.database)
    return soak.completed


def main() -> int:
    parser = argparse.ArgumentParser(description="A scheduler under steady load; nothing may grow, nothing be lost.")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--load", type=float, default=0.5, help="share of the maximum")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the files here; by default they are temporary")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="durabletask-soak-") as temporary:
            completed = run(options.folder or Path(temporary), options.minutes, options.load, options.seed)
    except (Lost, ProgramError) as error:
        print(f"soak failed: {error}", file=sys.stderr)
        return 1
    print(f"{completed} instances completed with the right result, file sound")
    return 0


if __name__ == "__main__":
    sys.exit(main())
