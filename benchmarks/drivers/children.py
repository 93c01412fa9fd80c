"""Processes that are meant to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def killed(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module in a process that gets SIGKILL, with its own children, at the end of the block."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", module, *arguments]
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    try:
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def line_of(child: subprocess.Popen[str]) -> str:
    """The next line that the child says.

    Raises:
        RuntimeError: it ended instead.
    """
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("the child ended before it was killed")
    return line.strip()


def end_with_the_driver() -> None:
    """Called in the child: end it and its children when the driver, which holds its standard input, has ended."""

    def wait() -> None:
        sys.stdin.read()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
