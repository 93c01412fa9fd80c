"""Kill the scheduler and its workers while money moves between locked entities, and show that nothing is lost.

    python scripts/entity_kill_rounds.py [--rounds N] [--seed S] [--folder FOLDER]

One scheduler with a file and two workers, real processes. In each round eight orchestrations transfer between five
accounts under locks and count in a register, a ninth holds two locks and is terminated, and one or two of the processes
are killed (SIGKILL) at random moments and started again. Then everything has to have ended, the sum of the balances be
what it was, no entity be locked, and the results of the register fit one order of its operations. Exits 1 otherwise.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durabletask.client import OrchestrationStatus
from entity_workload import ACCOUNTS, OPENING_BALANCE, auditor, check_register, holder, movers
from kill_rounds import REPORT_EVERY, Site, check, kill_during
from programs import ProgramError
from workload import Instance, Load, Lost

SUM = OPENING_BALANCE * len(ACCOUNTS)


@dataclass
class Figures:
    """What was done and found in all rounds.

    Attributes:
        register: its value, which is the number of transfers.
        moved: how much was transferred in all.
        slowest: seconds from the start of a round's orchestrations until all of them had ended.
    """

    rounds: int = 0
    register: int = 0
    moved: int = 0
    slowest: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.rounds} rounds, {self.register} transfers of {self.moved} in all, killed: {kills}; "
            f"slowest round {self.slowest:.1f} s"
        )


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
        Lost: something was lost, doubled, stuck or locked.
    """
    name = f"round-{number}"
    moving, holding, auditing = movers(name, chance), holder(name, chance), auditor(name)
    begun = time.monotonic()

    def work() -> None:
        load.start_all([*moving[:4], holding, *moving[4:]])
        load.insist(lambda: load.client.terminate_orchestration(holding.instance_id))

    figures.kills += kill_during(work, site, chance)
    ended(load, holding, OrchestrationStatus.TERMINATED)
    histories = [ended(load, instance, OrchestrationStatus.COMPLETED) for instance in moving]
    figures.slowest = max(figures.slowest, time.monotonic() - begun)
    figures.register = check_register(histories, figures.register + 1)
    figures.moved += sum(amount for instance in moving for _, _, amount in instance.kind.input)
    load.start(auditing)
    balances, moved = ended(load, auditing, OrchestrationStatus.COMPLETED)
    if sum(balances) != SUM:
        raise Lost(f"the balances {balances} add up to {sum(balances)}, expected {SUM}")
    if moved != figures.moved:
        raise Lost(f"signals told of {moved}, but {figures.moved} was moved")
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
        Lost: something was lost, doubled, stuck, locked or damaged.
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
    print(f"the sum is {SUM}, nothing stuck, nothing locked, in {time.monotonic() - begun:.0f} s: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
