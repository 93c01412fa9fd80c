"""The samples do what their READMEs say: each command of a README runs as it stands there, on its real files.

The scheduler is one for all of them, and its address and the API's are other ones than in the text. What the client
prints must be what the README shows, where ``...`` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from programs import Program, free_port, start_scheduler

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
# The samples that have tests of their own, and what is no sample.
OTHERS = {"entities", "versioning-scenarios", "infra"}
CATALOGUE = sorted({path.parent.name for path in SAMPLES.glob("*/README.md")} - OTHERS)
SECONDS = 60
COMMAND = re.compile(r"^ *```bash\n *(\S[^\n]*)\n *```$", re.MULTILINE)
OUTPUT = re.compile(r"^The client prints:\n\n```\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
API_PORT = "8000"
API_READY = "Uvicorn running on"


class Readme(NamedTuple):
    """What a README asks to be typed, and what it promises."""

    commands: list[list[str]]
    output: re.Pattern[str]


def readme(sample: str) -> Readme:
    text = (SAMPLES / sample / "README.md").read_text("utf-8")
    section = text.split("## Run it\n")[1].split("\n## ")[0]
    found = OUTPUT.search(text)
    assert found is not None, "the README does not show what the client prints"
    pattern = re.escape(found[1]).replace(re.escape("..."), ".*")
    return Readme([shlex.split(line) for line in COMMAND.findall(section)], re.compile(pattern))


def real_command(words: list[str], port: int) -> list[str]:
    """The command with this interpreter in place of the one of a reader's environment, and a free port."""
    module = [] if words[0] == "python" else ["-m", words[0]]
    return [sys.executable, *module, *(str(port) if word == API_PORT else word for word in words[1:])]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler for all the samples."""
    port = free_port()
    with start_scheduler(tmp_path_factory.mktemp("samples") / "samples.db", port):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.processes
@pytest.mark.parametrize("sample", CATALOGUE)
def test_a_sample_does_what_its_readme_says(sample: str, scheduler: str, tmp_path: Path) -> None:
    commands, output = readme(sample)
    install, serve, *programs, client = commands
    assert install == ["pip", "install", "-r", "requirements.txt"]
    assert serve[:3] == ["durabletask-scheduler", "serve", "--db"]
    assert client[:2] == ["python", "client.py"]
    port = free_port()
    environment = {
        "ENDPOINT": scheduler,
        "TASKHUB": "default",
        "API_URL": f"http://127.0.0.1:{port}",
        "PAYLOADS": str(tmp_path / "payloads"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    folder = SAMPLES / sample
    with ExitStack() as stack:
        running: list[Program] = []
        for words in programs:
            program = Program(shlex.join(words), real_command(words, port), environment=environment, cwd=folder)
            running.append(stack.enter_context(program))
            if words[0] == "uvicorn":
                program.wait_for(API_READY, SECONDS)
        with Program("client", real_command(client, port), environment=environment, cwd=folder) as run:
            code = run.wait(SECONDS)
        said = "\n\n".join(f"{each.name}:\n{each.output}" for each in [run, *running])
        assert code == 0, said
        assert output.fullmatch(run.output.strip()), f"expected {output.pattern}\nfound {said}"
        for words, program in zip(programs, running):
            program.stop()
            assert "worker.py" not in words or program.output.endswith("Worker stopped"), program.output


@pytest.mark.parametrize("sample", CATALOGUE)
def test_the_requirements_of_a_sample_name_what_it_imports(sample: str) -> None:
    """Distributions of this repository are asked for in ranges, and each third-party import has its line."""
    lines = (SAMPLES / sample / "requirements.txt").read_text("utf-8").splitlines()
    required = {Requirement(line).name: Requirement(line).specifier for line in lines}
    assert all(str(specifier) for specifier in required.values())
    source = "".join(path.read_text("utf-8") for path in (SAMPLES / sample).glob("*.py"))
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    own = {path.stem for path in (SAMPLES / sample).glob("*.py")}
    # azure-identity comes with durabletask-azuremanaged, pydantic with FastAPI.
    given = {"durabletask", "azure", "pydantic", *(name.replace("-", "_") for name in required)}
    assert imported - given - own - sys.stdlib_module_names == set()


def test_the_catalogue_lists_every_sample() -> None:
    text = (SAMPLES / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)/README\.md\) \|", text, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted({*CATALOGUE, *OTHERS} - {"infra"})
    assert [name for name, folder in listed if name != folder] == []
