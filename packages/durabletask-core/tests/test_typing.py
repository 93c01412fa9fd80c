"""What mypy infers for code that uses the package; pyright is tried on the built wheels."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parents[3]
SOURCES = Path(__file__).parent / "typing"


def mypy(name: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(SOURCES / name)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    return result.returncode, result.stdout + result.stderr


def test_calls_have_the_types_of_what_they_call() -> None:
    assert mypy("consumer.py") == (0, "")


def test_mistakes_are_found() -> None:
    code, output = mypy("mistakes.py")
    marked = [n for n, line in enumerate((SOURCES / "mistakes.py").read_text().splitlines(), 1) if "# mistake" in line]
    found = sorted({int(line.split(":")[1]) for line in output.splitlines() if ": error:" in line})
    assert (code, found) == (1, marked), output
