"""Environments of the peers: one each, made from the package indexes below ``.venv/bench`` and kept."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv" / "bench"
SECONDS = 600.0
READY = "ready"
BIN = Path("Scripts" if sys.platform == "win32" else "bin")


@dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes:
        name: begins the name of its folder.
        packages: for pip, with versions.
        node_packages: for npm, with versions: programs that are distributed that way.
    """

    name: str
    packages: tuple[str, ...]
    node_packages: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        packages = (*self.packages, *self.node_packages)
        label = "-".join(re.sub(r"[^\w.-]+", "-", package).strip("-") for package in packages)
        return FOLDER / f"{self.name}-{label}-py{sys.version_info[0]}.{sys.version_info[1]}"

    @property
    def python(self) -> str:
        return str(self.folder / BIN / "python")

    @property
    def ready(self) -> bool:
        """Whether it has been made."""
        return (self.folder / READY).exists()


class Absent(Exception):
    """The environment cannot be made; the message says why."""


def interpreter(environment: Environment | None) -> str:
    """The Python of an environment, which is made if need be; this one's own for none.

    Raises:
        Absent: it cannot be made.
    """
    if environment is None:
        return sys.executable
    if not environment.ready:
        _make(environment)
    return environment.python


def _make(environment: Environment) -> None:
    folder = environment.folder
    npm = shutil.which("npm")
    if environment.node_packages and npm is None:
        raise Absent("its server is installed with npm, and there is none on PATH")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [environment.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *environment.packages])
    if npm is not None and environment.node_packages:
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _run([npm, "install", "--prefix", str(folder), *options, *environment.node_packages])
    (folder / READY).touch()


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Absent(f"not installed within {SECONDS:g} s") from None
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no output"]
        raise Absent(f"cannot be installed: {lines[-1]}")
