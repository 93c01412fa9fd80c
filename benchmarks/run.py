"""The benchmark suite: this project beside its peers, in interleaved rounds, as one table.

make bench                                        about two minutes
hatch run bench --full                            several hours
hatch run bench --full --rounds 2                 about a third of that
hatch run bench --only W1,W2 --systems ours-inproc-full,dt --rounds 3
hatch run bench --full --json a.json              and later, to report both runs:
hatch run bench --full --with a.json
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import chain
from suite import kept
from suite.chart import svg
from suite.report import markdown
from suite.rounds import Plan, Results, run
from suite.systems import SYSTEMS, System
from suite.workloads import WORKLOADS, Workload

QUICK_ROUNDS, FULL_ROUNDS = 1, 5
CHAIN_LENGTH = 1_000
T = TypeVar("T", System, Workload)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench", description="Measure this project beside its peers.")
    parser.add_argument("--full", action="store_true", help="all workloads at their full size, five rounds")
    parser.add_argument("--rounds", type=int, help=f"default: {QUICK_ROUNDS}, with --full {FULL_ROUNDS}")
    parser.add_argument("--only", metavar="W1,W2", help="only these workloads: " + names(WORKLOADS))
    parser.add_argument("--systems", metavar="NAME,NAME", help="only these systems: " + names(SYSTEMS))
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the report there too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured there")
    parser.add_argument(
        "--with",
        dest="earlier",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="report the rounds of an earlier run too: the file that its --json wrote; may be repeated",
    )
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw cost against length, throughput against threads")
    return parser.parse_args(arguments)


def names(things: Sequence[System] | Sequence[Workload]) -> str:
    return ", ".join(thing.name for thing in things)


def chosen(things: Sequence[T], asked: str | None, *, full: bool) -> list[T]:
    """Those whose names were asked for, in the order of the table; if none were, those of the mode.

    Raises:
        SystemExit: there is no such name.
    """
    if not asked:
        return [thing for thing in things if full or not thing.only_full]
    wanted = {name.strip() for name in asked.split(",")}
    unknown = wanted - {thing.name for thing in things}
    if unknown:
        raise SystemExit(f"bench: unknown: {', '.join(sorted(unknown))}; expected some of {names(things)}")
    return [thing for thing in things if thing.name in wanted]


def plan_for(options: argparse.Namespace) -> Plan:
    rounds = options.rounds or (FULL_ROUNDS if options.full else QUICK_ROUNDS)
    workloads = chosen(WORKLOADS, options.only, full=options.full)
    return Plan(workloads, chosen(SYSTEMS, options.systems, full=options.full), rounds, options.full)


def runs_before(options: argparse.Namespace) -> list[Results]:
    """What the files of ``--with`` hold.

    Raises:
        SystemExit: one is something else, or of a run in the other mode.
    """
    try:
        runs = [(path, kept.read(path)) for path in options.earlier]
    except kept.Unreadable as error:
        raise SystemExit(f"bench: {error}") from error
    for path, one in runs:
        if one.full != options.full:
            found, expected = ("full", "quick") if one.full else ("quick", "full")
            raise SystemExit(f"bench: {path} is of a run in {found} mode; expected one in {expected} mode, as this is")
    return [one.results for _, one in runs]


def report_on(plan: Plan, results: Results, runs: int) -> Plan:
    """The plan that comes to these results."""
    workloads = [one for one in WORKLOADS if any(name == one.name for name, _ in results.outcomes)]
    systems = [one for one in SYSTEMS if any(name == one.name for _, name in results.outcomes)]
    return Plan(workloads, systems, max(map(len, results.outcomes.values())), plan.full, runs)


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    plan = plan_for(options)
    # So that whoever ends the suite ends the systems that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    earlier = runs_before(options)
    results = run(plan, say)
    if earlier:
        results = kept.one_after_the_other([*earlier, results])
        plan = report_on(plan, results, len(earlier) + 1)
    report = markdown(plan, results)
    sys.stdout.write(report + "\n")
    if options.markdown:
        options.markdown.write_text(report, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(kept.content(plan, results), indent=1) + "\n", encoding="utf-8")
    if options.svg:
        options.svg.write_text(svg(results), encoding="utf-8")
    return 0 if options.only else chain.main(CHAIN_LENGTH)


if __name__ == "__main__":
    sys.exit(main())
