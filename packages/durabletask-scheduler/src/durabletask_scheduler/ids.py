"""Random ids."""

from __future__ import annotations

import os


class Ids:
    """Random ids of 32 hexadecimal digits, fetched from the operating system many at a time."""

    def __init__(self) -> None:
        self._digits = ""
        self._used = 0

    def next(self) -> str:
        if self._used == len(self._digits):
            self._digits = os.urandom(4_096).hex()
            self._used = 0
        self._used += 32
        return self._digits[self._used - 32 : self._used]
