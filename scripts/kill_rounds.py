"""Kill the scheduler and its workers again and again under load, and show that nothing is lost and nothing doubled.

    python scripts/kill_rounds.py [--rounds N] [--seed S] [--instances K] [--folder FOLDER] [--postgres]

One scheduler with a file and two workers, real processes; with PostgreSQL two schedulers, of which one stands by. In
each round instances of every kind are started, one or two of the processes are killed (SIGKILL) at random moments and
started again; then every instance has to complete with its result, and its history must have each result exactly once.
An activity may be executed twice, if its worker or the scheduler died before the result was stored: that is counted.
Exits 1 if anything was lost, doubled or damaged.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from postgres_server import NotInstalled, PostgresServer
from programs import Program, ProgramError, free_port, start_scheduler
from workload import WORKER_READY, Load, Lost, executions, mixture

START_SECONDS = 30
KILL_WITHIN_SECONDS = 0.6
REPORT_EVERY = 10
WORKERS = ("worker 1", "worker 2")
SCHEDULER, STANDBY = "scheduler", "standby"


@dataclass
class Figures:
    """What was done and found in all rounds."""

    rounds: int = 0
    instances: int = 0
    activities: int = 0
    repeated: int = 0
    slowest: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.rounds} rounds, {self.instances} instances completed, {self.activities} activities "
            f"({self.repeated} executed once more), killed: {kills}; slowest instance {self.slowest:.1f} s"
        )


class Site:
    """A scheduler and two workers that can be killed and started again.

    Args:
        folder: where the scheduler's file and the ledger are.
        workload: the script beside this one that runs a worker; it is given the scheduler's address.
        url: of a PostgreSQL database in place of a file. Then a second scheduler stands by.
    """

    def __init__(self, folder: Path, workload: str = "workload.py", url: str = "") -> None:
        self._workload = workload
        self.database = url or folder / "hub.db"
        self.ledger = folder / "ledger"
        self._ports = {name: free_port() for name in ([SCHEDULER, STANDBY] if url else [SCHEDULER])}
        addresses = ",".join(f"127.0.0.1:{port}" for port in self._ports.values())
        # gRPC's own way to name several: it connects to whichever listens.
        self.address = f"ipv4:{addresses}" if url else addresses
        self._programs: dict[str, Program] = {}
        try:
            for name in self.names:
                self._programs[name] = self._start(name)
            for name in WORKERS:
                self._programs[name].wait_for(WORKER_READY, START_SECONDS)
        except BaseException:
            self.stop()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that can be killed."""
        return (*self._ports, *WORKERS)

    def kill(self, name: str) -> None:
        """Kill it and start it again."""
        self._programs[name].kill()
        self._programs[name] = self._start(name)

    def pid(self, name: str) -> int:
        return self._programs[name].pid

    def stop(self) -> None:
        for program in reversed(self._programs.values()):
            program.stop()

    def _start(self, name: str) -> Program:
        if name in self._ports:
            return start_scheduler(self.database, self._ports[name], timeout=START_SECONDS, name=name)
        command = [sys.executable, str(Path(__file__).with_name(self._workload)), self.address]
        return Program(name, command, environment={"LEDGER": str(self.ledger)})


def kill_during(work: Callable[[], object], site: Site, chance: random.Random) -> Counter[str]:
    """Kill one or two of them while ``work`` runs on a thread, or soon after; returns who was killed how often.

    Raises:
        BaseException: what ``work`` has raised.
    """
    pauses = [chance.uniform(0, KILL_WITHIN_SECONDS) for _ in range(chance.randint(1, 2))]
    victims = [chance.choice(site.names) for _ in pauses]
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        for pause, victim in zip(pauses, victims):
            time.sleep(pause)
            site.kill(victim)
        working.result()
    return Counter(victims)


def run_round(site: Site, load: Load, number: int, instances: int, chance: random.Random, figures: Figures) -> None:
    """One round.

    Raises:
        Lost: something was lost or doubled.
    """
    started = mixture(f"round-{number}", instances, chance)
    site.ledger.write_text("")
    figures.kills += kill_during(lambda: load.start_all(started), site, chance)
    figures.slowest = max(figures.slowest, *load.finish_all(started))
    for instance in started:
        load.verify(instance)
    with site.ledger.open() as ledger:
        called, repeated = executions(ledger, started)
    figures.rounds += 1
    figures.instances += len(started)
    figures.activities += called
    figures.repeated += repeated


def check(database: Path | str) -> None:
    """Check the scheduler's file or database.

    Raises:
        Lost: it is not sound.
    """
    command = [sys.executable, "-m", "durabletask_scheduler", "check", str(database)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Lost(f"the store is not sound:\n{result.stdout}{result.stderr}")


def run(folder: Path, rounds: int, seed: int, instances: int, url: str = "") -> Figures:
    """All rounds, on a file in the folder or a PostgreSQL database.

    Raises:
        Lost: something was lost, doubled or damaged.
        ProgramError: a program did not start.
    """
    chance = random.Random(seed)
    figures = Figures()
    begun = time.monotonic()
    site = Site(folder, url=url)
    load = Load(site.address)
    try:
        for number in range(rounds):
            run_round(site, load, number, instances, chance, figures)
            if (number + 1) % REPORT_EVERY == 0:
                print(f"{time.monotonic() - begun:.0f} s: {figures}", flush=True)
    finally:
        load.close()
        site.stop()
    check(site.database)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill scheduler and workers under load; nothing may be lost.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--instances", type=int, default=42, help="instances started in each round")
    parser.add_argument("--folder", type=Path, help="keep the files here; by default they are temporary")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server of its own, with a standby")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    try:
        with ExitStack() as stack:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="durabletask-kills-"))
            url = stack.enter_context(PostgresServer(fsync=True)).url if options.postgres else ""
            figures = run(options.folder or Path(temporary), options.rounds, options.seed, options.instances, url)
    except (Lost, ProgramError, NotInstalled) as error:
        print(f"kill rounds failed (seed {options.seed}): {error}", file=sys.stderr)
        return 1
    print(f"nothing lost, nothing doubled, store sound in {time.monotonic() - begun:.0f} s: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
