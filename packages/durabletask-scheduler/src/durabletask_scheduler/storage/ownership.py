"""One owner for one file: a lock that the operating system drops when its process ends.

The lock is on a file of its own, ``<file>.lock``, so that readers of the data (a backup, a check)
are not shut out. On POSIX it is a record lock: unlike ``flock`` it does not pass to forked
children, which may outlive the owner. Record locks do not exclude within one process, hence the
table of owned files.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from durabletask_scheduler.storage import StorageUnusable

if sys.platform == "win32":
    import msvcrt

    # Windows locks are mandatory: a byte far behind the text leaves the owner's id readable.
    _LOCKED_BYTE = 1 << 20

    def _try_lock(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True


_owned: dict[str, int] = {}
_owned_guard = threading.Lock()


class Ownership:
    """Holds a file for this process until :meth:`close`.

    Raises:
        StorageUnusable: another scheduler holds it, or the lock file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._name = os.path.realpath(path)
        lock_path = f"{self._name}.lock"
        with _owned_guard:
            # A forked child inherits the table but not the locks.
            if _owned.get(self._name) == os.getpid():
                raise _in_use(path, f"in this process ({os.getpid()})")
            self._descriptor = _lock_file(path, lock_path)
            _owned[self._name] = os.getpid()

    def close(self) -> None:
        """Give the file up; idempotent."""
        with _owned_guard:
            if self._descriptor < 0:
                return
            os.close(self._descriptor)
            self._descriptor = -1
            _owned.pop(self._name, None)


def _lock_file(path: Path, lock_path: str) -> int:
    with ExitStack() as undo:
        try:
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
            undo.callback(os.close, descriptor)
            if not _try_lock(descriptor):
                os.lseek(descriptor, 0, os.SEEK_SET)
                owner = os.read(descriptor, 32).decode(errors="replace").strip()
                raise _in_use(path, f"process {owner}" if owner else "another process")
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        except OSError as error:
            raise StorageUnusable(
                f"the lock file {lock_path} cannot be written ({error.strerror}); "
                "make its directory writable for this user, free disk space, or give another path"
            ) from error
        undo.pop_all()
    return descriptor


def _in_use(path: Path, owner: str) -> StorageUnusable:
    return StorageUnusable(
        f"{path} is in use by another scheduler ({owner}); stop that one first, or give each scheduler its own file"
    )
