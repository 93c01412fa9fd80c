"""The documentation runs: Python blocks are executed, commands name what exists.

The Python blocks of one file share a namespace, as a reader reads them, in a process of their own. They find a
running scheduler: its address is in ENDPOINT and replaces ``localhost:8080`` in the text. A block that cannot run has
``<!-- doc-test: skip REASON -->`` before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
from durabletask_scheduler import Scheduler, cli

ROOT = Path(__file__).parents[1]
SECONDS = 60
DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("packages/*/*.md"),
        *ROOT.glob("samples/**/*.md"),
    }
)
BLOCK = re.compile(
    r"^(?:[ \t]*<!-- doc-test: skip[ ]*(?P<reason>.*?)[ ]*-->[ \t]*\n)?"
    r"(?P<indent>[ \t]*)```(?P<language>python|bash)[ \t]*\n(?P<code>.*?)^[ \t]*```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
TARGETS = set(re.findall(r"\b([a-z-]+)\b", re.search(r"^SCRIPTS := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]))  # type: ignore[index]


class Block(NamedTuple):
    language: str
    code: str
    line: int
    reason: str | None


def blocks(text: str) -> list[Block]:
    """The ``python`` and ``bash`` blocks of a document, dedented; ``line`` is that of their first line of code."""
    return [
        Block(
            found["language"],
            re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE),
            text.count("\n", 0, found.start("code")) + 1,
            found["reason"],
        )
        for found in BLOCK.finditer(text)
    ]


def of_language(language: str) -> list[Path]:
    return [path for path in DOCUMENTS if any(block.language == language for block in blocks(path.read_text("utf-8")))]


def program(parts: list[Block]) -> str:
    """One program whose tracebacks carry the document's line numbers."""
    lines: list[str] = []
    for block in parts:
        lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def is_scheduler_command(name: str) -> bool:
    with pytest.raises(SystemExit) as end, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        cli.main([name, "--help"])
    return end.value.code == 0


def unknown_commands(code: str) -> list[str]:
    """``make`` targets, hatch scripts and commands of the scheduler that do not exist."""
    targets = re.finditer(r"^\s*(?:make|hatch run) +(?!-)([a-z-]+)", code, re.MULTILINE)
    commands = re.finditer(r"^\s*durabletask-scheduler +(?!-)([a-z-]+)", code, re.MULTILINE)
    return [found[0].strip() for found in targets if found[1] not in TARGETS | {"clean", "help"}] + [
        found[0].strip() for found in commands if not is_scheduler_command(found[1])
    ]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with Scheduler(":memory:") as scheduler:
        yield f"localhost:{scheduler.serve('127.0.0.1', 0)}"


@pytest.mark.parametrize("path", of_language("python"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_blocks_of_a_document_run(path: Path, endpoint: str, tmp_path: Path) -> None:
    parts = [block for block in blocks(path.read_text("utf-8")) if block.language == "python" and block.reason is None]
    # A script is found before any package, so it must not be called like one: azure.md would hide azure.
    script = tmp_path / f"{path.stem}_document.py"
    script.write_text(program(parts).replace("localhost:8080", endpoint), encoding="utf-8")
    environment = {**os.environ, "ENDPOINT": f"http://{endpoint}", "TASKHUB": "default"}
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, f"{path.relative_to(ROOT)}:\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("path", of_language("bash"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_exist(path: Path) -> None:
    found = [block for block in blocks(path.read_text("utf-8")) if block.language == "bash"]
    assert [command for block in found for command in unknown_commands(block.code)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_skipped_block_says_why(path: Path) -> None:
    assert [block.line for block in blocks(path.read_text("utf-8")) if block.reason == ""] == []


def test_blocks_are_found_with_their_lines_and_reasons() -> None:
    text = "# T\n\n```python\na = 1\n```\n\n<!-- doc-test: skip needs Azure -->\n```python\nb\n```\n\n"
    text += "1. x\n\n   ```bash\n   make demo\n   ```\n"
    assert blocks(text) == [
        Block("python", "a = 1\n", 4, None),
        Block("python", "b\n", 9, "needs Azure"),
        Block("bash", "make demo\n", 15, None),
    ]
    assert program([blocks(text)[0]]) == "\n\n\na = 1\n"


def test_a_command_that_does_not_exist_is_found() -> None:
    code = "make demo\n  make dmo\nhatch run tset\nmake -j test\n"
    code += "durabletask-scheduler serve\ndurabletask-scheduler swerve\n"
    assert unknown_commands(code) == ["make dmo", "hatch run tset", "durabletask-scheduler swerve"]
