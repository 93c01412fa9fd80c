"""Something that pays at times: given up while it mostly does not, and tried again now and then."""

from __future__ import annotations

_WORTH_IT = 0.3
_PROBE_EVERY = 64
_MEMORY = 0.9


class Chances:
    """How often it has paid of late. Belongs to the engine.

    Args:
        memory: how much of what it knew before is left after a try, 0 to 1.
    """

    def __init__(self, memory: float = _MEMORY) -> None:
        self._memory = memory
        self._success = 1.0
        self._declined = 0

    def worth_trying(self) -> bool:
        """Whether to try now; ask once for each try."""
        if self._success >= _WORTH_IT:
            return True
        self._declined += 1
        return self._declined % _PROBE_EVERY == 0

    def tried(self, *, paid: bool) -> None:
        self._success = self._memory * self._success + (1.0 - self._memory) * paid
