"""Environments of the peers: one each, made from the package index below ``.venv/bench`` and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv" / "bench"
SECONDS = 600.0
READY = "ready"
BIN = Path("Scripts" if sys.platform == "win32" else "bin")


class Absent(Exception):
    """The environment cannot be made; the message says why."""


def interpreter(name: str, requirements: Sequence[str]) -> str:
    """The Python of an environment with these packages; this one's own if there are none.

    Raises:
        Absent: they cannot be installed.
    """
    if not requirements:
        return sys.executable
    label = "-".join(requirement.replace("==", "-") for requirement in requirements)
    folder = FOLDER / f"{name}-{label}-py{sys.version_info[0]}.{sys.version_info[1]}"
    python = str(folder / BIN / "python")
    if not (folder / READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        (folder / READY).touch()
    return python


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Absent(f"not installed within {SECONDS:g} s") from None
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no output"]
        raise Absent(f"cannot be installed: {lines[-1]}")
