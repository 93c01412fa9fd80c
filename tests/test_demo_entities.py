"""The entities samples' own files, and their demo, with real processes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import demo_entities
import pytest
from programs import Program, ProgramError, free_port, start_scheduler

SCRIPTS = Path(__file__).parents[1] / "scripts"
SAMPLES = Path(__file__).parents[1] / "samples" / "entities"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with start_scheduler(tmp_path_factory.mktemp("samples") / "hub.db", port):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.processes
@pytest.mark.parametrize("sample", sorted(demo_entities.EXPECTED))
def test_a_sample_does_what_its_readme_shows(endpoint: str, sample: str) -> None:
    """``run_sample`` raises if a process fails or the client says anything else than expected."""
    demo_entities.run_sample(sample, endpoint)


def test_every_sample_has_its_files_its_results_and_its_output_in_the_readme() -> None:
    workers = {path.name.removesuffix("_worker.py") for path in SAMPLES.glob("*_worker.py")}
    clients = {path.name.removesuffix("_client.py") for path in SAMPLES.glob("*_client.py")}
    assert workers == clients == set(demo_entities.EXPECTED)
    lines = (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    for sample, expected in demo_entities.EXPECTED.items():
        unseen = [pattern for pattern in expected if not any(re.fullmatch(pattern, line) for line in lines)]
        assert unseen == [], f"the README does not show this of {sample}"


@pytest.mark.processes
def test_the_demo_runs_the_counter_and_the_transfer_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "demo_entities.py")]
    with Program("demo", command, environment={"TMPDIR": str(tmp_path)}) as run:
        code = run.wait(110)
    assert code == 0, run.output
    assert "Results of add 10, add 20, add 12 and get: [10, 30, 42, 42]" in run.output
    assert "Bob has 30" in run.output
    assert list(tmp_path.iterdir()) == []


def test_the_demo_says_what_differs() -> None:
    with pytest.raises(ProgramError, match=r"class_counter: the results differ: expected .*found \['Orchestration: F"):
        demo_entities.check("class_counter", "Orchestration: FAILED")
