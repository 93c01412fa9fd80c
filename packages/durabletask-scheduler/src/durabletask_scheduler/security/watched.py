"""A file whose content is in use, and read again when it changes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from durabletask_scheduler.security.errors import SecurityError

CHECK_SECONDS = 1.0
"""A change is noticed by the first use that comes so long after the last look, or later."""

MAX_BYTES = 4 * 1024 * 1024

logger = logging.getLogger("durabletask_scheduler.security")

T = TypeVar("T")


def read_bytes(what: str, path: str) -> bytes:
    """The content of a file of settings.

    Raises:
        SecurityError: it cannot be read, or is no such file judging by its size.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecurityError(f"cannot read {what} {path}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise SecurityError(f"{what} {path} is larger than {MAX_BYTES} bytes; give the path of {what}")
    return content


class WatchedFile(Generic[T]):
    """What a file says now. Any thread may ask.

    A new content that cannot be used is reported once, and the last good one stays in force: somebody is in the
    middle of writing the file, or has made a mistake that must not lock everybody out.

    Args:
        what: for messages, such as ``"the token file"``.
        path: of the file.
        parse: turns the content into the value, or raises :class:`SecurityError`.
        check_seconds: how often the file is looked at, at most.

    Raises:
        SecurityError: the file cannot be read or used.
    """

    def __init__(
        self, what: str, path: str, parse: Callable[[bytes], T], *, check_seconds: float = CHECK_SECONDS
    ) -> None:
        self._what = what
        self._path = path
        self._parse = parse
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._seen = signature(path)
        self._value = parse(read_bytes(what, path))
        self._next_check = time.monotonic() + check_seconds

    def value(self) -> T:
        """The value of the last good content."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + self._check_seconds
                self._look()
            return self._value

    def _look(self) -> None:
        found = signature(self._path)
        if found == self._seen:
            return
        self._seen = found
        try:
            self._value = self._parse(read_bytes(self._what, self._path))
        except SecurityError as error:
            logger.error("%s; what was read before stays in force", error)
        else:
            logger.info("%s %s was read again", self._what, self._path)


def signature(path: str) -> tuple[int, int, int] | None:
    """Differs when the file was written or replaced; None while there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
