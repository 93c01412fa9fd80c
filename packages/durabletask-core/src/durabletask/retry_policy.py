"""When and how often a failed task is tried again."""

import math
from datetime import timedelta


class RetryPolicy:
    """When and how often a failed activity or sub-orchestration is tried again.

    ``first_retry_interval`` is the delay before the second attempt; each later delay is
    ``backoff_coefficient`` (default 1.0) times the one before, at most ``max_retry_interval``.
    ``max_number_of_attempts`` counts the first attempt. No attempt starts later than ``retry_timeout``
    after the first, by the orchestration's own clock. Raises ValueError for a negative duration, fewer
    than one attempt, or a coefficient that is not a finite number of at least 1.
    """

    def __init__(
        self,
        *,
        first_retry_interval: timedelta,
        max_number_of_attempts: int,
        backoff_coefficient: float | None = 1.0,
        max_retry_interval: timedelta | None = None,
        retry_timeout: timedelta | None = None,
    ) -> None:
        coefficient = 1.0 if backoff_coefficient is None else backoff_coefficient
        _require(first_retry_interval >= timedelta(0), "first_retry_interval", ">= 0", first_retry_interval)
        _require(max_number_of_attempts >= 1, "max_number_of_attempts", ">= 1", max_number_of_attempts)
        _require(1 <= coefficient < math.inf, "backoff_coefficient", "a finite number >= 1", coefficient)
        for name, interval in (("max_retry_interval", max_retry_interval), ("retry_timeout", retry_timeout)):
            _require(interval is None or interval >= timedelta(0), name, ">= 0 or None", interval)
        self._first_retry_interval = first_retry_interval
        self._max_number_of_attempts = max_number_of_attempts
        self._backoff_coefficient = coefficient
        self._max_retry_interval = max_retry_interval
        self._retry_timeout = retry_timeout

    @property
    def first_retry_interval(self) -> timedelta:
        """The delay before the second attempt."""
        return self._first_retry_interval

    @property
    def max_number_of_attempts(self) -> int:
        """How many attempts there are at most, the first included."""
        return self._max_number_of_attempts

    @property
    def backoff_coefficient(self) -> float:
        """The factor from one delay to the next."""
        return self._backoff_coefficient

    @property
    def max_retry_interval(self) -> timedelta | None:
        """The longest delay, None for no bound."""
        return self._max_retry_interval

    @property
    def retry_timeout(self) -> timedelta | None:
        """The time after the first attempt in which another may start, None for no bound."""
        return self._retry_timeout

    def delay_after(self, attempt: int) -> timedelta:
        """The delay after failed attempt number ``attempt`` (the first is 1); saturates, never overflows."""
        longest = timedelta.max if self._max_retry_interval is None else self._max_retry_interval
        try:
            delay = self._first_retry_interval * math.pow(self._backoff_coefficient, attempt - 1)
        except OverflowError:
            return longest if self._first_retry_interval else timedelta(0)
        return min(delay, longest)


# The class is part of durabletask.task, where user code finds it.
RetryPolicy.__module__ = "durabletask.task"


def _require(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {found!r}")
