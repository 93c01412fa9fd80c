"""Real processes with their output: start them, wait for what they say, and never leave one behind."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

STOP_SECONDS = 10.0
READY = re.compile(r"ready on http://")
STANDING_BY = re.compile(r"standing by: ")


class ProgramError(Exception):
    """A program ended, or kept silent, where it should have said something; the message holds its output."""


class Program:
    """A running process whose output, errors included, is gathered line by line.

    Args:
        name: how messages call it.
        command: the program and its arguments.
        environment: variables to add to this process's own.
        echo: called with every line as it comes.
        cwd: the folder to run in.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        echo: Callable[[str], object] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._echo = echo
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **(environment or {})},
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has said so far."""
        with self._changed:
            return "\n".join(self._lines)

    def wait_for(self, pattern: re.Pattern[str] | str, timeout: float) -> str:
        """Return the first line that holds the pattern, waiting ``timeout`` seconds for it.

        Raises:
            ProgramError: it ended before, or the time is over.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines:
                    if re.search(pattern, line):
                        return line
                remaining = deadline - time.monotonic()
                if self._ended or remaining <= 0:
                    reason = "ended" if self._ended else f"said nothing of it for {timeout:g} seconds"
                    raise self._error(f"expected {getattr(pattern, 'pattern', pattern)!r} from it, but it {reason}")
                self._changed.wait(remaining)

    def wait(self, timeout: float) -> int:
        """Return its exit code once it has ended and all it said is gathered.

        Raises:
            ProgramError: it still runs after ``timeout`` seconds.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._error(f"it still runs after {timeout:g} seconds") from None
        self._reader.join(STOP_SECONDS)
        return code

    def end(self, number: int, timeout: float = STOP_SECONDS) -> int:
        """Send it a signal and return its exit code.

        Raises:
            ProgramError: it still runs after ``timeout`` seconds.
        """
        self._process.send_signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it at once, as a crash would, and wait for its end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, insist after ten seconds, and return when it has."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(STOP_SECONDS)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
                if self._echo is not None:
                    self._echo(line.rstrip("\n"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _error(self, reason: str) -> ProgramError:
        return ProgramError(f"{self.name}: {reason}. Its output was:\n{chr(10).join(self._lines) or '(none)'}")


def free_port(preferred: int = 0) -> int:
    """Return a free port of this machine: the preferred one if nothing listens there."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def start_scheduler(
    database: Path | str, port: int, *, python: str = sys.executable, timeout: float = 30, name: str = "scheduler"
) -> Program:
    """Start a scheduler on a file or database and a port of this machine; it listens, or stands by, on return."""
    command = [python, "-m", "durabletask_scheduler", "serve", "--db", str(database), "--port", str(port)]
    scheduler = Program(name, command)
    try:
        scheduler.wait_for(f"{READY.pattern}|{STANDING_BY.pattern}", timeout)
    except BaseException:
        scheduler.stop()
        raise
    return scheduler
