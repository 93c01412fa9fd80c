"""What lent threads leave undone, and who sees to it that it is done all the same.

A thread that a worker lends (``Engine.help``) may leave commands or a group of commits behind while it runs user
code: it comes back to them when that returns, which is soon as a rule and, with code that blocks, late. Waking the
engine's own thread each time would cost what lending saves. So that thread is told once, and then looks by itself
every few milliseconds for as long as threads are lent; what has made no progress between two looks, it does itself.
"""

from __future__ import annotations

WATCH_SECONDS = 0.002
_QUIET_LOOKS = 25


class Watch:
    """Whether the engine's thread looks by itself, and what it saw last.

    Attributes:
        on: whether it does. Written by the engine's thread only.
    """

    def __init__(self) -> None:
        self.on = False
        self._left = False
        self._seen = -1
        self._quiet = 0

    def leave(self) -> bool:
        """Any thread: something is left undone. True if the engine's thread has to be told."""
        self._left = True
        return not self.on

    def begin(self) -> None:
        """Whoever has told the engine's thread expects it to look from now on."""
        if self._left:
            self._left = False
            self.on = True
            self._quiet = 0

    def is_well(self, progress: int, *, at_rest: bool) -> bool:
        """Whether nothing has been left behind since the last look; False also when there is no need to look on.

        Args:
            progress: a number that is another one after every step of the engine.
            at_rest: nothing is left undone now.
        """
        stuck = not at_rest and progress == self._seen
        self._seen = progress
        # Only what was seen is taken back, so that nothing left in between is lost.
        if self._left:
            self._left = False
            self._quiet = 0
        else:
            self._quiet += 1
        # Off first, then looking for what was left meanwhile: who leaves something reads ``on`` after telling so.
        self.on = self._quiet < _QUIET_LOOKS
        if self._left:
            self.on = True
        return self.on and not stuck
