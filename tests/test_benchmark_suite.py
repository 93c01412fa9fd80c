"""The benchmark suite runs: workloads, reports, limits of time, and clear words for what cannot be measured."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "benchmarks" / "run.py"
SECONDS = 100
SMALL: dict[str, dict[str, Any]] = {
    "W1": {"count": 5},
    "W1a": {"count": 5},
    "W2": {"lengths": (3,)},
    "W3": {"widths": (3,), "pairs": 1},
    "W4": {"times": 3},
    "W5": {"count": 3, "entities": 2},
    "W7": {"count": 3, "idle_seconds": 0.1},
    "W7m": {"count": 1_000},
    "W8": {"bytes": 1_000, "times": 1, "seconds": 10},
    "W10m": {"count": 5},
    "W11": {"clients": 2, "seconds": 0.2},
    "W12": {"count": 6, "steps": 2, "bound": 2},
    "W14": {"stored": (50,), "seconds": 0.3, "pages_per_s": 30},
}
"""Parameters for runs that only show that a workload works."""

ZERO = {"grown_mib", "lost", "twice"}
"""Figures that may be zero or less."""

PAGES = {"p50_ms@50", "p99_ms@50", "prefix_ms@50", "alone_per_s@50", "per_s@50"}

FAKE = """
import sys, threading, time
from drivers.protocol import Absent, serve

def noted(request):
    with open({notes!r}, "a") as notes:
        notes.write(str(request.parameters["size"]) + "\\n")
    if request.parameters["size"] >= 100:
        time.sleep(600)
    return {{"us@%d" % request.parameters["size"]: 5.0, "us@1": float(request.parameters["size"])}}

def waiting(request):
    threading.Thread(target=time.sleep, args=(600,)).start()
    return {{"us@1": 5.0}}

def absent(request):
    raise Absent("there is no such server")

serve({{"noted": noted, "waiting": waiting, "absent": absent}})
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("benchmarks", "scripts"):
        monkeypatch.syspath_prepend(str(BENCH.parents[1] / folder))


def suite(name: str) -> Any:
    return importlib.import_module(f"suite.{name}")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@dataclass
class Fake:
    """A suite of one workload and one system, whose driver notes what it was asked for."""

    notes: Path

    @property
    def asked(self) -> list[str]:
        return self.notes.read_text("utf-8").split()

    def run(
        self, *, rounds: int, quick: Any, parameters: Any = None, full: bool = False, **fields: Any
    ) -> tuple[Any, Any, list[str]]:
        """The plan, the results and the lines that were told."""
        script = FAKE.format(notes=str(self.notes))

        class System(suite("systems").System):  # type: ignore[misc]
            def command(self, python: str) -> list[str]:
                return [python, "-c", script]

        metrics = tuple(suite("workloads").Metric(f"us@{size}", f"{size}", "us") for size in (1, 2, 30, 300))
        usual = {"name": "noted", "title": "", "metrics": metrics, "quick": quick, "full": parameters or {}}
        workload = suite("workloads").Workload(**{**usual, **fields})
        plan = suite("rounds").Plan([workload], [System("fake", "fake", "")], rounds, full)
        told: list[str] = []
        return plan, suite("rounds").run(plan, told.append), told


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    yield Fake(tmp_path / "notes")


def outcome_of(name: str, system: str) -> Any:
    """What a system answers to a small run of a workload; skips what its environment would have to be made for."""
    workload = next(one for one in suite("workloads").WORKLOADS if one.name == name)
    found = next(one for one in suite("systems").SYSTEMS if one.name == system)
    if found.environment is not None and not found.environment.ready:
        pytest.skip(f"the environment of {system} has not been made: run the suite once")
    small = replace(workload, quick=SMALL.get(name, workload.quick), slow={})
    plan = suite("rounds").Plan([small], [found], 1, False)
    return suite("rounds").run(plan, lambda _: None).rounds(name, system)[0]


@pytest.mark.processes
def test_it_measures_and_writes_all_three_reports(tmp_path: Path) -> None:
    report, kept, picture = tmp_path / "report.md", tmp_path / "report.json", tmp_path / "report.svg"
    files = ["--markdown", str(report), "--json", str(kept), "--svg", str(picture)]
    result = bench("--only", "W4,L", "--systems", "ours-memory,limits", *files)
    assert result.returncode == 0, result.stderr
    assert report.read_text("utf-8").strip() == result.stdout.strip()
    assert "| W4 | p50 ms |" in result.stdout
    results = json.loads(kept.read_text("utf-8"))["results"]
    measured = {(one["workload"], one["system"]): one["rounds"] for one in results}
    assert set(measured) == {("W4", "ours-memory"), ("L", "limits")}
    figures = measured["W4", "ours-memory"][0]["figures"]
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg")


def run_of(*cells: tuple[str, str, list[float]]) -> Any:
    """Results: workload, system and the figure ``us`` of each round."""
    results = suite("rounds").Results()
    for workload, system, figures in cells:
        for us in figures:
            results.add(workload, system, suite("rounds").Outcome({"us": us}))
    return results


@pytest.mark.processes
def test_a_later_run_reports_an_earlier_one_with_its_own(tmp_path: Path) -> None:
    kept = tmp_path / "first.json"
    first = bench("--only", "W4", "--systems", "ours-memory", "--json", str(kept))
    assert first.returncode == 0, first.stderr
    second = bench("--only", "L", "--systems", "limits", "--with", str(kept))
    assert second.returncode == 0, second.stderr
    assert "quick mode, 1 interleaved rounds, of 2 runs" in second.stdout
    row = "| W4 | p50 ms | "
    figure = next(line for line in first.stdout.splitlines() if line.startswith(row)).removeprefix(row).rstrip(" |")
    assert f"{row}{figure} | - |" in second.stdout
    assert "| L | one fsync us | - |" in second.stdout


def test_rounds_of_one_run_stay_side_by_side_when_another_left_a_system_out() -> None:
    runs = [run_of(("W1", "a", [1.0])), run_of(("W1", "a", [2.0]), ("W1", "b", [3.0])), run_of(("W2", "b", [4.0]))]
    joined = suite("kept").one_after_the_other(runs)
    assert [one.figures for one in joined.rounds("W1", "a")] == [{"us": 1.0}, {"us": 2.0}]
    assert [one.figures for one in joined.rounds("W1", "b")] == [{}, {"us": 3.0}]
    assert [one.figures for one in joined.rounds("W2", "b")] == [{"us": 4.0}]


@pytest.mark.parametrize(
    "content", ["no JSON", "[]", '{"full": false}', '{"full": false, "results": [{"rounds": [1]}]}']
)
def test_a_file_that_no_run_wrote_is_refused(tmp_path: Path, content: str) -> None:
    strange = tmp_path / "strange.json"
    strange.write_text(content, encoding="utf-8")
    result = bench("--only", "L", "--with", str(strange))
    assert result.returncode != 0
    assert f"{strange}: expected what a run has written with --json, found: " in result.stderr


def test_a_run_in_the_other_mode_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "full.json"
    kept.write_text('{"full": true, "results": []}', encoding="utf-8")
    result = bench("--only", "L", "--with", str(kept))
    assert result.returncode != 0
    assert f"bench: {kept} is of a run in full mode; expected one in quick mode, as this is" in result.stderr


@pytest.mark.parametrize(("option", "name"), [("--only", "W99"), ("--systems", "theirs")])
def test_a_name_that_does_not_exist_is_refused_with_those_that_do(option: str, name: str) -> None:
    result = bench(option, name)
    assert result.returncode != 0
    assert f"unknown: {name}; expected some of" in result.stderr


@pytest.mark.processes
def test_what_takes_too_long_is_stopped_reported_and_not_tried_again(fake: Fake) -> None:
    plan, results, told = fake.run(rounds=3, quick={"size": 100}, seconds=1.0)
    assert fake.asked == ["100"]
    assert results.reasons("noted", "fake") == ["stopped after 1 s"]
    assert len(results.rounds("noted", "fake")) == len(told) == 3
    assert "* noted, fake: stopped after 1 s" in suite("report").markdown(plan, results)


@pytest.mark.processes
def test_sizes_that_take_minutes_run_once_beside_the_usual_ones(fake: Fake) -> None:
    extra = {"fake": suite("workloads").Extra({"size": 30}, seconds=60.0)}
    _, results, _ = fake.run(rounds=2, full=True, quick={}, parameters={"size": 2}, extra=extra)
    assert fake.asked == ["2", "30", "2"]
    assert results.values("noted", "fake", "us@30") == [5.0]
    assert results.values("noted", "fake", "us@1") == [2.0, 2.0], "the usual run's figure counts where both have one"


@pytest.mark.processes
def test_sizes_that_take_too_long_leave_the_usual_figures(fake: Fake) -> None:
    extra = {"fake": suite("workloads").Extra({"size": 300}, seconds=1.0)}
    _, results, _ = fake.run(rounds=2, full=True, quick={}, parameters={"size": 2}, extra=extra)
    assert fake.asked == ["2", "300", "2"]
    assert results.values("noted", "fake", "us@2") == [5.0, 5.0]
    assert results.reasons("noted", "fake") == ["stopped after 1 s"]


@pytest.mark.processes
def test_the_quick_mode_leaves_out_sizes_that_take_minutes(fake: Fake) -> None:
    extra = {"fake": suite("workloads").Extra({"size": 30}, seconds=60.0)}
    fake.run(rounds=1, quick={"size": 2}, extra=extra)
    assert fake.asked == ["2"]


@pytest.mark.processes
def test_threads_that_a_system_leaves_behind_do_not_delay_its_figures(fake: Fake) -> None:
    _, results, _ = fake.run(rounds=1, name="waiting", quick={}, seconds=60.0)
    assert results.values("waiting", "fake", "us@1") == [5.0]
    assert results.reasons("waiting", "fake") == []


@pytest.mark.processes
def test_a_server_that_is_not_installed_makes_the_system_absent(fake: Fake) -> None:
    _, results, _ = fake.run(rounds=1, name="absent", quick={})
    assert results.reasons("absent", "fake") == ["absent: there is no such server"]


def test_a_peer_whose_server_npm_installs_is_absent_without_npm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environments = suite("environments")
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "bench")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environments.Absent, match="installed with npm, and there is none"):
        environments.interpreter(environments.Environment("theirs", (), ("@theirs/server@1",)))
    assert not (tmp_path / "bench").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="CPU of other processes is read from /proc")
@pytest.mark.processes
def test_the_cpu_of_a_server_is_that_of_its_children_too_also_of_those_that_ended() -> None:
    meter = importlib.import_module("drivers.meter")
    burn = "import time\ninput()\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True); input()"
    server = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {burn!r}], stdin=subprocess.PIPE)\n"
        "input(); child.stdin.write(b'burn\\n'); child.stdin.flush()\n"
        "input(); child.communicate(b'end'); print('ended', flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", server], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with meter.Meter([process.pid]) as living:
            process.stdin.write("burn\n")
            process.stdin.flush()
            assert process.stdout.readline() == "burnt\n"
        with meter.Meter([process.pid]) as ended:
            process.stdin.write("end the child\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ended\n"
        process.communicate("end\n", SECONDS)
    assert living.cpu >= 0.25
    assert 0 <= ended.cpu < 0.25, "what the child has used is not lost, and not counted again"


def test_a_figure_of_one_round_is_enough_for_a_goal() -> None:
    rounds, goals = suite("rounds"), suite("goals")
    results = rounds.Results()
    for theirs in ({"us@3000": 1_000.0}, {}):
        results.add("W2", "ours-inproc-normal", rounds.Outcome({"us@3000": 5.0}))
        results.add("W2", "dt", rounds.Outcome(theirs))
    text = "us@3000: ours-inproc-normal to dt"
    verdict = next(one for one in goals.judge(results, 2) if one.goal.text == text)
    assert verdict.spread == rounds.Spread(200.0, 200.0, 200.0)
    assert verdict.met


def test_a_difference_has_no_ratio() -> None:
    rounds, systems, workloads = suite("rounds"), suite("systems"), suite("workloads")
    mixture = next(one for one in workloads.WORKLOADS if one.name == "W11")
    both = [one for one in systems.SYSTEMS if one.name in ("ours-memory", "dt")]
    results = rounds.Results()
    for system in both:
        results.add("W11", system.name, rounds.Outcome({"per_s": 100.0, "grown_mib": -0.5}))
    figures, ratios = suite("report").markdown(rounds.Plan([mixture], both, 1, True), results).split("## Times")
    assert "memory at the end" in figures
    assert "completed" in ratios
    assert "memory at the end" not in ratios


def test_the_picture_names_the_systems_that_have_lines_and_no_others() -> None:
    rounds = suite("rounds")
    results = rounds.Results()
    for system in suite("systems").SYSTEMS[:-1]:
        results.add("W2", system.name, rounds.Outcome({"us@10": 1.0, "us@100": 2.0}))
    drawn = suite("chart").svg(results)
    assert xml.etree.ElementTree.fromstring(drawn).tag.endswith("svg")
    for system in suite("systems").SYSTEMS:
        assert (f">{system.title}<" in drawn) == (system.name != "limits")


def test_every_workload_is_one_that_our_driver_knows() -> None:
    family = importlib.import_module("drivers.family")
    assert set(family.WORKLOADS) | {"L"} == {one.name for one in suite("workloads").WORKLOADS}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("workload", "system", "figures"),
    [
        ("W11", "ours-memory", {"per_s", "p50_ms", "p99_ms", "cpu_us", "grown_mib"}),
        ("W7m", "ours-inproc-full", {"kib", "wake_ms"}),
        ("W10m", "ours-inproc-full", {"accepts_s", "first_s"}),
        ("W12", "ours-inproc-full", {"us@warm", "us@evicted", "cpu_us@warm", "cpu_us@evicted"}),
        ("W12", "ours-grpc-full", {"us@warm", "us@evicted", "cpu_us@warm", "cpu_us@evicted"}),
        ("W14", "ours-inproc-pg", PAGES),
        ("W10s", "ours-grpc-pg", {"accepts_s", "takeover_s", "takeover_most_s"}),
        ("W1", "ours-grpc-pg", {"per_s", "cpu_us"}),
        ("W13", "ours-inproc-pg", {"acknowledged", "lost", "twice", "before_kill"}),
        ("W14", "ours-inproc-full", PAGES),
    ],
)
def test_a_workload_gives_its_figures(workload: str, system: str, figures: set[str]) -> None:
    if system.endswith("-pg"):
        pytest.importorskip("psycopg")
    outcome = outcome_of(workload, system)
    if outcome.reason.startswith("absent"):
        pytest.skip(outcome.reason)
    assert outcome.reason == ""
    assert set(outcome.figures) == figures
    assert all(value > 0 for key, value in outcome.figures.items() if key not in ZERO)


@pytest.mark.parametrize(
    ("workload", "system", "reason"),
    [
        ("W10s", "ours-memory", "skipped: one scheduler at a time owns its file"),
        ("W10m", "ours-memory", "skipped: keeps nothing on disk"),
        ("W14", "ours-memory", "skipped: the stored orchestrations are written into our files and databases directly"),
    ],
)
@pytest.mark.processes
def test_what_a_system_cannot_do_is_skipped_with_the_reason(workload: str, system: str, reason: str) -> None:
    outcome = outcome_of(workload, system)
    assert outcome.reason == reason
    assert not outcome.figures


@pytest.mark.processes
@pytest.mark.parametrize("workload", ["W1", "W2", "W4", "W12"])
@pytest.mark.parametrize("system", ["dbos", "dbos-pg", "restate"])
def test_a_peer_whose_environment_exists_runs_a_workload(workload: str, system: str) -> None:
    outcome = outcome_of(workload, system)
    if outcome.reason.startswith("absent"):
        pytest.skip(outcome.reason)
    assert outcome.reason == ""
    assert all(value > 0 for value in outcome.figures.values())


@pytest.mark.processes
@pytest.mark.parametrize("workload", ["W3", "W5", "W7", "W8", "W11"])
def test_restate_runs_a_workload(workload: str) -> None:
    outcome = outcome_of(workload, "restate")
    if outcome.reason.startswith("absent"):
        pytest.skip(outcome.reason)
    assert outcome.reason == ""
    assert outcome.figures
