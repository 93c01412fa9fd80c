"""The samples do what their READMEs say: each command of a README runs as it stands there, on its real files.

Only the ports of scheduler and API are other ones than in the text, and uv stands in for pip. What the client
prints must be what the README shows, where ``...`` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import smoke
from packaging.requirements import Requirement
from programs import READY, Program, free_port

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
# The samples that have tests of their own, and what is no sample.
OTHERS = {"entities", "versioning-scenarios", "infra"}
CATALOGUE = sorted({path.parent.name for path in SAMPLES.glob("*/README.md")} - OTHERS)
SECONDS = 60
COMMAND = re.compile(r"^ *```bash\n *(\S[^\n]*)\n *```$", re.MULTILINE)
OUTPUT = re.compile(r"^The client prints:\n\n```\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
WORKER_OUTPUT = re.compile(r"^The worker prints[^`]*:\n\n```\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
LOCAL = [Path(line).name for line in (SAMPLES / "packages.txt").read_text("utf-8").splitlines() if line[0] != "#"]
API_PORT = "8000"
API_READY = "Uvicorn running on"


class Readme(NamedTuple):
    """What a README asks to be typed, and what it promises."""

    commands: list[list[str]]
    output: re.Pattern[str]
    of_worker: list[re.Pattern[str]]


def readme(sample: str) -> Readme:
    text = (SAMPLES / sample / "README.md").read_text("utf-8")
    section = text.split("## Run it\n")[1].split("\n## ")[0]
    found = OUTPUT.search(text)
    assert found is not None, "the README does not show what the client prints"
    of_worker = WORKER_OUTPUT.search(text)
    return Readme(
        [shlex.split(line) for line in COMMAND.findall(section)],
        shown(found[1]),
        [shown(line) for line in of_worker[1].split("\n")] if of_worker else [],
    )


def shown(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(re.escape("..."), ".*"))


class Terminals:
    """Clean environments, one for each content of a ``requirements.txt``, where commands run as a reader types them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def install(self, words: list[str], cwd: Path) -> Path:
        """Carry out ``pip install ...`` in a new environment; returns the folder of its programs."""
        requirements = (cwd / "requirements.txt").read_text("utf-8")
        if requirements not in self._made:
            environment = self._folder / f"environment-{len(self._made)}"
            run("venv", "--quiet", "--python", sys.executable, str(environment), cwd=cwd)
            programs = Path(smoke.python_of(environment)).parent
            # Else uv takes a wheel of an earlier state of the folders, where only their sources have changed.
            afresh = [word for name in LOCAL for word in ("--refresh-package", name)]
            run("pip", "install", "--quiet", "--python", str(programs / "python"), *afresh, *words[2:], cwd=cwd)
            self._made[requirements] = programs
        return self._made[requirements]


def run(*words: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *words], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Terminals:
    return Terminals(tmp_path_factory.mktemp("samples"))


@pytest.mark.wheels
@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sample", CATALOGUE)
def test_a_sample_does_what_its_readme_says(sample: str, terminals: Terminals, tmp_path: Path) -> None:
    """Every command of the README, in its order, in an environment that has only what the first one installs."""
    commands, output, of_worker = readme(sample)
    install, serve, *programs, client = commands
    assert install == ["pip", "install", "-r", "../packages.txt", "-r", "requirements.txt"]
    assert serve[:3] == ["durabletask-scheduler", "serve", "--db"]
    assert client[:2] == ["python", "client.py"]
    folder, (port, api_port) = SAMPLES / sample, (free_port(), free_port())
    bin_folder = terminals.install(install, folder)
    environment = {
        "ENDPOINT": f"http://127.0.0.1:{port}",
        "TASKHUB": "default",
        "API_URL": f"http://127.0.0.1:{api_port}",
        "PAYLOADS": str(tmp_path / "payloads"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def typed(words: list[str], cwd: Path = folder) -> Program:
        command = [str(bin_folder / words[0]), *(str(api_port) if word == API_PORT else word for word in words[1:])]
        return Program(shlex.join(words), command, environment=environment, cwd=cwd)

    with ExitStack() as stack:
        scheduler = stack.enter_context(typed([*serve, "--port", str(port)], tmp_path))
        scheduler.wait_for(READY, SECONDS)
        running = []
        for words in programs:
            running.append(stack.enter_context(typed(words)))
            if words[0] == "uvicorn":
                running[-1].wait_for(API_READY, SECONDS)
        last = stack.enter_context(typed(client))
        code = last.wait(SECONDS)
        said = "\n\n".join(f"{each.name}:\n{each.output}" for each in [last, *running])
        assert code == 0, said
        assert output.fullmatch(last.output.strip()), f"expected {output.pattern}\nfound {said}"
        for program in running:
            program.stop()
            if "worker.py" in program.name:
                assert program.output.endswith("Worker stopped"), program.output
                printed = iter(program.output.split("\n"))
                missing = [line.pattern for line in of_worker if not any(line.fullmatch(each) for each in printed)]
                assert missing == [], program.output


def test_the_packages_of_this_repository_are_installed_from_it() -> None:
    """Their ranges alone would be met by distributions of others, which have such names in a public index."""
    assert all((ROOT / "packages" / name / "pyproject.toml").is_file() for name in LOCAL)
    for sample in CATALOGUE:
        required = {Requirement(line).name for line in (SAMPLES / sample / "requirements.txt").read_text().splitlines()}
        assert {name for name in required if name.startswith("durabletask")} <= set(LOCAL), sample


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
    given = {"durabletask", "azure", "pydantic", *(name.split("-")[0] for name in required)}
    assert imported - given - own - sys.stdlib_module_names == set()


def test_the_catalogue_lists_every_sample() -> None:
    text = (SAMPLES / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)/README\.md\) \|", text, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted({*CATALOGUE, *OTHERS} - {"infra"})
    assert [name for name, folder in listed if name != folder] == []
