"""Memory for large payloads."""

from __future__ import annotations

_LARGE = 4 * 1024 * 1024
"""No message on the wire is larger unless both ends allow it."""


def keep_large_blocks() -> None:
    """Have the C library take large blocks from memory that it keeps, if it is glibc.

    A payload of a megabyte is copied about fifty times on its way through an orchestration. By default every block
    of that size comes from the system, which has to clear it, and goes back to it. Once a block has been freed,
    glibc keeps those of up to its size, and at most twice that in each arena (mallopt(3), M_MMAP_THRESHOLD). Nobody
    writes to this one, so that it takes no memory of the machine.
    """
    bytes(_LARGE)
