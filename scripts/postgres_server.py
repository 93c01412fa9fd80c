"""A PostgreSQL server of one's own, for tests and measurements: it begins empty and leaves nothing behind.

    with PostgresServer(fsync=True) as server:
        psycopg.connect(server.url)

The programs are those on PATH, else the newest of Debian's and Red Hat's folders. As root, the server runs as another
user, since it refuses to be root.
"""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

MISSING = (
    "there is no PostgreSQL server: install one (Debian: apt-get install postgresql; macOS: brew install postgresql)"
)
USER = "scheduler"

_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
_UNPRIVILEGED = ("postgres", "nobody")
_SECONDS = 30.0
# Not ``user`` of subprocess, which forks: in a process of many threads gRPC's handlers of that may fail.
_AS_USER = "import os, sys; os.setuid(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"


class NotInstalled(Exception):
    """The programs of PostgreSQL are not on this machine."""


def find_programs() -> Path:
    """The folder of ``postgres`` and ``initdb``; raises NotInstalled."""
    found = shutil.which("postgres")
    if found and shutil.which("initdb", path=os.path.dirname(found)):
        return Path(found).parent
    folders = [folder for pattern in _FOLDERS for folder in glob.glob(pattern)]
    whole = [folder for folder in folders if shutil.which("initdb", path=folder)]
    if not whole:
        raise NotInstalled(MISSING)
    return Path(max(whole, key=lambda folder: [int(number) for number in re.findall(r"\d+", folder)]))


class PostgresServer:
    """One server on a port of 127.0.0.1, with a user who owns everything and has a password.

    Args:
        fsync: whether what is committed reaches the disk; without it everything is quicker.
        settings: further ones, as in postgresql.conf.

    Raises:
        NotInstalled: on entering.
        RuntimeError: on entering: the server did not start; its log is in the message.
    """

    def __init__(self, *, fsync: bool, settings: dict[str, str] | None = None) -> None:
        self._settings = {"fsync": "on" if fsync else "off", **(settings or {})}
        self._password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process that began the others; raises RuntimeError while the server does not run."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def __enter__(self) -> PostgresServer:
        self._programs = find_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user = _unprivileged_user()
        try:
            self._create()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def start(self) -> None:
        """Start the server, on the same port as before if it ran before."""
        if not hasattr(self, "port"):
            self.port = _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", self._data, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        self._wait_until_ready(self._process)

    def stop(self, *, crash: bool = False) -> None:
        """End the server: connections are cut; ``crash`` also leaves out writing down what is in memory."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            self._process.wait(_SECONDS)
            self._process = None

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _command(self, program: str, *arguments: str | Path) -> list[str]:
        command = [str(self._programs / program), *map(str, arguments)]
        return command if self._user is None else [sys.executable, "-I", "-c", _AS_USER, str(self._user), *command]

    def _create(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        if self._user is not None:
            for path in (self._folder, password):
                os.chown(path, self._user, -1)
        done = subprocess.run(
            self._command(
                *("initdb", "--pgdata", self._data, "--username", USER, "--pwfile", password),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.strip()}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        # The eighth line of this file tells when connections are taken.
        state = self._data / "postmaster.pid"
        deadline = time.monotonic() + _SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            lines = state.read_text().splitlines() if state.exists() else []
            if lines[:1] == [str(process.pid)] and lines[7:8] and lines[7].strip() == "ready":
                return
            time.sleep(0.02)
        process.kill()
        process.wait()
        raise RuntimeError(f"the server did not start: {self._log.read_text()[-2000:]}")

    def _remove(self) -> None:
        try:
            self.stop()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)


def _unprivileged_user() -> int | None:
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return next(known[name] for name in _UNPRIVILEGED if name in known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
