"""What docs/deploy offers fits the program: commands, settings, paths and ports; and it runs as it says there."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "deploy"
PROGRAM = "durabletask-scheduler"
# Until they are in an index by these names, the files install the packages from the folders of a clone.
INSTALLED = ("packages/durabletask-proto", f"packages/{PROGRAM}")
SECONDS = 60
STOP_SECONDS = 10


class Unit:
    """The systemd unit. Of what may be repeated, all values count."""

    def __init__(self) -> None:
        self.text = (FOLDER / f"{PROGRAM}.service").read_text(encoding="utf-8")
        self._lines = [line.partition("=") for line in self.text.splitlines() if re.match(r"\w+=", line)]

    def all(self, name: str) -> list[str]:
        return [value for key, _, value in self._lines if key == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def environment(self) -> dict[str, str]:
        return dict(value.split("=", 1) for value in self.all("Environment"))


class Containerfile:
    """Its instructions, with lines continued and comments left out."""

    def __init__(self) -> None:
        text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
        lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", "")
        self._instructions = [tuple(line.split(None, 1)) for line in lines.splitlines() if line.strip()]
        self.comments = [line for line in text.splitlines() if line.startswith("#")]

    def all(self, name: str) -> list[str]:
        return [value for instruction, value in self._instructions if instruction == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in shlex.split(self.one("ENV")))

    @property
    def command(self) -> list[str]:
        return [*json.loads(self.one("ENTRYPOINT")), *json.loads(self.one("CMD"))]

    @property
    def health_check(self) -> list[str]:
        return json.loads(self.one("HEALTHCHECK").partition(" CMD ")[2])


@pytest.fixture(scope="module")
def known_settings() -> set[str]:
    """The environment variables that ``serve --help`` names."""
    done = subprocess.run(
        [sys.executable, "-m", "durabletask_scheduler", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "1000"},
    )
    return set(re.findall(r"DURABLETASK_SCHEDULER_\w+", done.stdout))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Running = tuple["subprocess.Popen[str]", int]


@contextmanager
def running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[Running]:
    """The command of a deployment file with its settings, on a file and a port of this test."""
    program, *arguments = command
    assert PurePosixPath(program).name == PROGRAM
    port = free_port()
    name = PurePosixPath(environment["DURABLETASK_SCHEDULER_DB"]).name
    settings = {**environment, "DURABLETASK_SCHEDULER_DB": str(folder / name), "DURABLETASK_SCHEDULER_PORT": str(port)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DURABLETASK_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "durabletask_scheduler", *arguments],
        env={**kept, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert "ready on" in server.stdout.readline()
        yield server, port
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def ends_in_time(server: subprocess.Popen[str], number: signal.Signals) -> bool:
    server.send_signal(number)
    return server.wait(STOP_SECONDS) == 0


class TestContainerfile:
    def test_its_settings_are_settings_of_the_program(self, known_settings: set[str]) -> None:
        assert Containerfile().environment.keys() <= known_settings

    def test_its_paths_ports_and_user_fit_together(self) -> None:
        file = Containerfile()
        volume, port = PurePosixPath(file.one("VOLUME")), file.environment["DURABLETASK_SCHEDULER_PORT"]
        assert volume in PurePosixPath(file.environment["DURABLETASK_SCHEDULER_DB"]).parents
        assert PurePosixPath(file.one("WORKDIR")) == volume
        assert file.one("EXPOSE") == port and f":{port}'" in file.health_check[-1]
        assert any(f"{port}:{port} -v " in line and f":{volume} " in line for line in file.comments)
        user = file.one("USER")
        assert user.isdigit() and int(user) > 0
        assert any(f"--uid {user}" in run and f"--home-dir {volume}" in run for run in file.all("RUN"))

    @pytest.mark.skipif(sys.platform == "win32", reason="containers and signals of POSIX")
    def test_it_runs_is_healthy_and_ends_on_its_signal(self, tmp_path: Path) -> None:
        file = Containerfile()
        with running(file.command, file.environment, tmp_path) as (server, port):
            python, *check = file.health_check
            assert python == "python"
            check[-1] = check[-1].replace(file.environment["DURABLETASK_SCHEDULER_PORT"], str(port))
            assert subprocess.run([sys.executable, *check], check=False, timeout=SECONDS).returncode == 0
            assert ends_in_time(server, signal.Signals[file.one("STOPSIGNAL")])
            assert subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode != 0

    def test_it_installs_the_packages_of_the_repository(self) -> None:
        (install,) = [run for run in Containerfile().all("RUN") if run.startswith("pip install ")]
        folders = [word.partition("[")[0] for word in shlex.split(install) if word.startswith("/packages/")]
        assert folders == [f"/{folder}" for folder in INSTALLED]
        assert all((ROOT / folder / "pyproject.toml").exists() for folder in INSTALLED)
        source, target = Containerfile().all("COPY")
        assert source == "packages /packages"
        assert shlex.split(install)[4] == shlex.split(target)[1]


class TestUnit:
    def test_its_settings_are_settings_of_the_program(self, known_settings: set[str]) -> None:
        assert Unit().environment.keys() <= known_settings

    def test_its_paths_fit_together(self) -> None:
        unit = Unit()
        state = PurePosixPath("/var/lib") / unit.one("StateDirectory")
        assert state in PurePosixPath(unit.environment["DURABLETASK_SCHEDULER_DB"]).parents
        program = PurePosixPath(shlex.split(unit.one("ExecStart"))[0])
        assert f"python3 -m venv {program.parents[1]}\n" in unit.text
        assert f"{program.parent}/pip install {' '.join(INSTALLED)}\n" in unit.text
        assert f"cp docs/deploy/{PROGRAM}.service /etc/systemd/system/\n" in unit.text
        assert int(unit.one("TimeoutStopSec")) > STOP_SECONDS

    @pytest.mark.skipif(sys.platform == "win32", reason="systemd")
    def test_it_runs_and_ends_on_sigterm(self, tmp_path: Path) -> None:
        unit = Unit()
        with running(shlex.split(unit.one("ExecStart")), unit.environment, tmp_path) as (server, _):
            assert ends_in_time(server, signal.SIGTERM)

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
    def test_systemd_finds_nothing_wrong_with_it(self, tmp_path: Path) -> None:
        unit = Unit()
        program = shlex.split(unit.one("ExecStart"))[0]
        # It checks that the program exists, which is not installed where tests run.
        copy = tmp_path / f"{PROGRAM}.service"
        copy.write_text(unit.text.replace(f"ExecStart={program}", f"ExecStart={sys.executable}"), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_its_sections_are_those_of_a_service(self) -> None:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read_string(Unit().text)
        assert parser.sections() == ["Unit", "Service", "Install"]
