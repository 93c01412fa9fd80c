"""Checkpoints beside the commits: a thread copies what large commits have put into the log to the file."""

from __future__ import annotations

import logging
import sqlite3
import threading

from durabletask_scheduler.shared_core import start_elsewhere

logger = logging.getLogger("durabletask_scheduler")

_PAGE_BYTES = 4096
# Smaller commits change the same pages again and again, which are copied once if that is done late.
_LARGE = 256 * 1024
# Each checkpoint copies such a part of the log's bound: larger ones leave more to the commit that makes the last one.
_PARTS = 8


class Checkpoints:
    """Spares the commits of large payloads the checkpoints that would take longer than they do.

    The connection that writes still makes one itself when the log has reached its bound. That keeps the log bounded
    whatever happens here, lets it start over, and finds most of its work done.

    Args:
        connection: one of its own, that checkpoints as the one that writes would; closed with this object.
        pages: the bound of the log.
    """

    def __init__(self, connection: sqlite3.Connection, pages: int) -> None:
        self._connection = connection
        self._pages = pages
        self._bound = pages * _PAGE_BYTES
        self._written = 0
        self._thread: threading.Thread | None = None
        self._over_bound = False

    def committed(self, size: int) -> None:
        """The thread that owns the store has committed so many bytes of payload: begin a checkpoint if it is time.

        Waits for the one under way if meanwhile as much was written as the log may hold.
        """
        if size < _LARGE:
            return
        self._written += size
        if self._written < self._bound // _PARTS:
            return
        if self._thread is not None and self._thread.is_alive():
            if self._written < self._bound:
                return
            self._thread.join()
        self._written = 0
        if self._over_bound:
            # The next commit makes the checkpoint that lets the log start over; it cannot while another one is made.
            self._over_bound = False
            return
        thread = threading.Thread(target=self._checkpoint, name="durabletask-checkpoint", daemon=False)
        try:
            start_elsewhere(thread)
        except RuntimeError as error:
            # The interpreter is ending, or the system has no more threads.
            logger.debug("The commits make their checkpoints themselves: %s", error)
        else:
            self._thread = thread

    def close(self) -> None:
        """Wait for the checkpoint under way; idempotent."""
        if self._thread is not None:
            self._thread.join()
        self._connection.close()

    def _checkpoint(self) -> None:
        try:
            _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            logger.warning("The log could not be copied into the file; the commits try it again: %s", error)
        else:
            self._over_bound = pages >= self._pages
