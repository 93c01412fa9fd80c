"""Kill the scheduler and its workers while money moves between locked entities, and show that nothing is lost.

    python scripts/entity_kill_rounds.py [--rounds N] [--seed S] [--folder FOLDER]

One scheduler with a file and two workers, real processes. In each round eight clients let orchestrations transfer
between five accounts under locks and count in a register; two more read all balances under locks, and the register
without any; another orchestration holds two locks and is terminated; and one or two of the processes are killed
(SIGKILL) at random moments and started again. Then everything has to have ended, the sum of the balances be what it
was, no entity be locked, and all transfers and reads, and all operations on the register, be linearizable: one order
of them, in which each takes effect between its call and its answer, explains every result. Exits 1 otherwise.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from durabletask.client import OrchestrationStatus
from entity_workload import (
    ACCOUNTS,
    MOVERS,
    MOVES,
    OPENING_BALANCE,
    READERS,
    READS,
    REGISTER,
    Balances,
    audited,
    auditor,
    counted,
    holder,
    moves,
    read,
    transferred,
    transferrer,
)
from kill_rounds import REPORT_EVERY, Site, check, kill_during
from linearizability import Operation, linearize
from programs import ProgramError
from workload import Instance, Load, Lost

SUM = OPENING_BALANCE * len(ACCOUNTS)


@dataclass
class Figures:
    """What was done and found in all rounds.

    Attributes:
        balances: after all transfers.
        register: its value, which is the number of transfers.
        moved: how much was transferred in all.
        reads: how many reads of balances and of the register were explained.
        slowest: seconds from the start of a round until all its orchestrations had ended.
    """

    balances: Balances = (OPENING_BALANCE,) * len(ACCOUNTS)
    rounds: int = 0
    register: int = 0
    moved: int = 0
    reads: int = 0
    slowest: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.rounds} rounds, {self.register} transfers of {self.moved} in all, {self.reads} reads, "
            f"killed: {kills}; slowest round {self.slowest:.1f} s"
        )


class Round:
    """The clients of one round, and what they were told.

    Attributes:
        accounts: transfers, and reads of all balances.
        register: increments and reads of the register.
    """

    def __init__(self, load: Load, name: str, chance: random.Random) -> None:
        self.accounts: list[Operation[Balances]] = []
        self.register: list[Operation[int]] = []
        self.holding = holder(name, chance)
        self._load = load
        self._name = name
        self._moves = [moves(chance) for _ in range(MOVERS)]

    @property
    def moved(self) -> int:
        return sum(amount for moves in self._moves for _, _, amount in moves)

    def run(self) -> None:
        """All clients at once, until each has all its answers."""
        with ThreadPoolExecutor(MOVERS + READERS) as pool:
            clients = [pool.submit(self._transfer, number) for number in range(MOVERS)]
            clients += [pool.submit(self._read, number) for number in range(READERS)]
            self._load.start(self.holding)
            self._load.insist(lambda: self._load.client.terminate_orchestration(self.holding.instance_id))
            for client in clients:
                client.result()

    def audit(self, name: str) -> int:
        """Read all balances; returns what signals have told of."""
        begun = time.monotonic()
        instance = auditor(f"{self._name}-{name}")
        self._load.start(instance)
        balances, total = ended(self._load, instance, OrchestrationStatus.COMPLETED)
        self.accounts.append(
            Operation(f"balances {balances}", begun, time.monotonic(), partial(audited, seen=balances))
        )
        return int(total)

    def _transfer(self, number: int) -> None:
        for turn, move in enumerate(self._moves[number]):
            instance = transferrer(f"{self._name}-{number}-{turn}", move)
            begun = time.monotonic()
            self._load.start(instance)
            *before, count = ended(self._load, instance, OrchestrationStatus.COMPLETED)
            end = time.monotonic()
            text = f"{instance.instance_id} {move} found {before}"
            self.accounts.append(Operation(text, begun, end, partial(transferred, move=move, before=before)))
            text = f"{instance.instance_id} counted {count}"
            self.register.append(Operation(text, begun, end, partial(counted, result=count)))

    def _read(self, number: int) -> None:
        for turn in range(READS):
            self._read_register()
            self.audit(f"{number}-{turn}")
            self._read_register()

    def _read_register(self) -> None:
        found: list[int] = []

        def get() -> None:
            metadata = self._load.client.get_entity(REGISTER)
            found.append(0 if metadata is None else metadata.get_state(int) or 0)

        begun = time.monotonic()
        self._load.insist(get)
        self.register.append(Operation(f"register {found[-1]}", begun, time.monotonic(), partial(read, seen=found[-1])))


def ended(load: Load, instance: Instance, expected: OrchestrationStatus) -> Any:
    """Wait for its end and return its output.

    Raises:
        Lost: it is stuck, or ended in another way.
    """
    state = load.wait_for(instance.instance_id)
    if state is None or state.runtime_status is not expected:
        raise Lost(f"{instance.instance_id} should be {expected.name}, but is {state}")
    return state.get_output() if expected is OrchestrationStatus.COMPLETED else None


def run_round(site: Site, load: Load, number: int, chance: random.Random, figures: Figures) -> None:
    """One round.

    Raises:
        Lost: something was lost, doubled, stuck or locked, or no order explains what clients were told.
    """
    clients = Round(load, f"round-{number}", chance)
    begun = time.monotonic()
    figures.kills += kill_during(clients.run, site, chance)
    ended(load, clients.holding, OrchestrationStatus.TERMINATED)
    figures.slowest = max(figures.slowest, time.monotonic() - begun)
    figures.moved += clients.moved
    total = clients.audit("last")
    if total != figures.moved:
        raise Lost(f"signals told of {total}, but {figures.moved} was moved")
    figures.balances = linearize(clients.accounts, figures.balances)
    figures.register = linearize(clients.register, figures.register)
    figures.reads += len(clients.accounts) + len(clients.register) - 2 * MOVERS * MOVES
    if sum(figures.balances) != SUM:
        raise Lost(f"the balances {figures.balances} add up to {sum(figures.balances)}, expected {SUM}")
    figures.rounds += 1
    if locks := command("locks", site.database):
        raise Lost(f"locks that have outlived their owners:\n{locks}")


def command(name: str, database: Path) -> str:
    """What a command of the scheduler says about its file.

    Raises:
        ProgramError: it failed.
    """
    arguments = [sys.executable, "-m", "durabletask_scheduler", name, str(database)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProgramError(f"durabletask-scheduler {name} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def run(folder: Path, rounds: int, seed: int) -> Figures:
    """All rounds.

    Raises:
        Lost: something was lost, doubled, stuck, locked, out of order or damaged.
        ProgramError: a program did not start.
    """
    chance = random.Random(seed)
    figures = Figures()
    begun = time.monotonic()
    site = Site(folder, "entity_workload.py")
    load = Load(site.address)
    try:
        for number in range(rounds):
            run_round(site, load, number, chance, figures)
            if (number + 1) % REPORT_EVERY == 0:
                print(f"{time.monotonic() - begun:.0f} s: {figures}", flush=True)
    finally:
        load.close()
        site.stop()
    check(site.database)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill scheduler and workers while money moves under locks.")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the files here; by default they are temporary")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="durabletask-kills-") as temporary:
            figures = run(options.folder or Path(temporary), options.rounds, options.seed)
    except (Lost, ProgramError) as error:
        print(f"entity kill rounds failed (seed {options.seed}): {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - begun
    print(f"the sum is {SUM}, nothing stuck, nothing locked, all linearizable, in {seconds:.0f} s: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
