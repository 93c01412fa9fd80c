"""Versions: how they are ordered, and how a worker decides whether it may run an instance.

The one order of versions, from first to last:

1. An unversioned instance (None or "") sorts before every version.
2. Versions that PEP 440 can read are ordered by PEP 440: ``1.9.0 < 1.10.0rc1 < 1.10.0 == 1.10``. This
   contains numeric dotted versions. Dates written with dashes or slashes are read as dotted ones, so
   ``2025-9-1 < 2025-10-23``.
3. Any other text is opaque: it equals only itself, and asking for its order is an error, not a guess.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from packaging.version import Version

from durabletask.internal.texts import require_version

INHERIT: Final = "inherit"
"""As ``version`` of a sub-orchestration: the version of its parent."""
DEFAULT: Final = "default"
"""As ``version`` of a sub-orchestration: the worker's ``default_version``."""

_DATE = re.compile(r"(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2}))?")


class VersionMatchStrategy(Enum):
    """Which instances a worker with a version may run."""

    NONE = 1
    """Any instance."""
    STRICT = 2
    """Only instances of exactly the worker's version."""
    CURRENT_OR_OLDER = 3
    """Instances of the worker's version, of an older one, and unversioned ones."""


class VersionFailureStrategy(Enum):
    """What a worker does with an instance whose version it must not run."""

    REJECT = 1
    """Hand the work item back, for another worker to take."""
    FAIL = 2
    """Fail the instance with error type ``VersionMismatch``."""


class VersioningOptions:
    """How a worker treats versions.

    ``version`` is the worker's own version, ``default_version`` the one given to sub-orchestrations that
    are started without a version. ``match_strategy`` defaults to NONE and ``failure_strategy`` to REJECT.
    Raises TypeError for a version that is neither a text nor None, and ValueError for a strategy that is none of
    the enum's members.
    """

    def __init__(
        self,
        version: str | None = None,
        default_version: str | None = None,
        match_strategy: VersionMatchStrategy | None = None,
        failure_strategy: VersionFailureStrategy | None = None,
    ) -> None:
        self.version = require_version(version)
        self.default_version = require_version(default_version, "default_version")
        self.match_strategy = _member(VersionMatchStrategy, match_strategy, VersionMatchStrategy.NONE)
        self.failure_strategy = _member(VersionFailureStrategy, failure_strategy, VersionFailureStrategy.REJECT)

    def __repr__(self) -> str:
        return (
            f"VersioningOptions(version={self.version!r}, default_version={self.default_version!r}, "
            f"match_strategy={self.match_strategy}, failure_strategy={self.failure_strategy})"
        )


for _class in (VersionMatchStrategy, VersionFailureStrategy, VersioningOptions):
    # User code finds these classes in durabletask.worker.
    _class.__module__ = "durabletask.worker"


class VersionOrderError(ValueError):
    """Two versions that have no order were compared."""


@dataclass(frozen=True)
class VersionMismatch:
    """Why a worker must not run an instance, and what its options say to do."""

    message: str
    strategy: VersionFailureStrategy


class VersionInfo:
    """A version that can be compared with ``<``, ``<=``, ``==``, ``>=`` and ``>`` to another or to its text.

    The order is the one of this module's documentation: ``ctx.version_info >= "1.10.0"`` holds for 1.10.0
    and newer, and is False for an unversioned instance. Asking for the order of an opaque version raises
    VersionOrderError; equality never raises. Since it equals every spelling of its version, it has no hash.
    """

    __slots__ = ("text",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str | None) -> None:
        self.text = text or None
        """The version as it was given, None for an unversioned instance."""

    @property
    def is_orderable(self) -> bool:
        """Whether the version has a place in the order: it is missing, or not opaque."""
        return is_orderable(self.text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Comparable):
            return NotImplemented
        return versions_equal(self.text, _text_of(other))

    def __lt__(self, other: "VersionInfo | str | None") -> bool:
        return self._compared(other) < 0

    def __le__(self, other: "VersionInfo | str | None") -> bool:
        return self._compared(other) <= 0

    def __gt__(self, other: "VersionInfo | str | None") -> bool:
        return self._compared(other) > 0

    def __ge__(self, other: "VersionInfo | str | None") -> bool:
        return self._compared(other) >= 0

    def __str__(self) -> str:
        return self.text or ""

    def __repr__(self) -> str:
        return f"VersionInfo({self.text!r})"

    def _compared(self, other: "VersionInfo | str | None") -> int:
        if not isinstance(other, _Comparable):
            raise TypeError(f"A version is compared with a version or its text, found {type(other).__name__}.")
        return compare_versions(self.text, _text_of(other))


_Comparable = (VersionInfo, str, type(None))


def _text_of(version: VersionInfo | str | None) -> str | None:
    return version.text if isinstance(version, VersionInfo) else version


def compare_versions(left: str | None, right: str | None) -> int:
    """Return -1, 0 or 1 as ``left`` is older than, equal to or newer than ``right``.

    The order is the one of this module's documentation; it never fails for a missing version. Raises
    VersionOrderError when the two differ and at least one of them is opaque.
    """
    if versions_equal(left, right):
        return 0
    if not left or not right:
        return 1 if left else -1
    first, second = _ordered(left), _ordered(right)
    if first is None or second is None:
        opaque = left if first is None else right
        raise VersionOrderError(
            f"The versions {left!r} and {right!r} have no order, because {opaque!r} is not a version that PEP 440 can "
            "read (such as '1.10.0' or '2025-10-23'). Test opaque versions for equality, or use ordered ones."
        )
    return -1 if first < second else 1


def versions_equal(left: str | None, right: str | None) -> bool:
    """Whether both are the same version: ``1.0`` equals ``1.0.0``, and None equals an empty one."""
    if not left or not right:
        return not left and not right
    first = _ordered(left)
    return left == right or (first is not None and first == _ordered(right))


def is_orderable(version: str | None) -> bool:
    """Whether ``version`` has a place in the order, that is: it is missing or not opaque."""
    return not version or _ordered(version) is not None


def check_version(options: VersioningOptions, instance_version: str | None) -> VersionMismatch | None:
    """Return why a worker with ``options`` must not run an instance of this version, or None if it may."""
    message = _CHECKS[options.match_strategy](instance_version, options.version)
    return None if message is None else VersionMismatch(message, options.failure_strategy)


def _any(instance: str | None, worker: str | None) -> str | None:
    return None


def _strict(instance: str | None, worker: str | None) -> str | None:
    if versions_equal(instance, worker):
        return None
    return f"The orchestration version '{instance or ''}' does not match the worker version '{worker or ''}'."


def _current_or_older(instance: str | None, worker: str | None) -> str | None:
    try:
        newer = compare_versions(instance, worker) > 0
    except VersionOrderError as error:
        return f"The orchestration version '{instance}' does not match the worker version '{worker}': {error}"
    if not newer:
        return None
    return f"The orchestration version '{instance}' is greater than the worker version '{worker or ''}'."


_CHECKS = {
    VersionMatchStrategy.NONE: _any,
    VersionMatchStrategy.STRICT: _strict,
    VersionMatchStrategy.CURRENT_OR_OLDER: _current_or_older,
}


@lru_cache(maxsize=1024)
def _ordered(version: str) -> Version | None:
    date = _DATE.fullmatch(version.strip())
    try:
        return Version(".".join(part for part in date.groups() if part) if date else version)
    except ValueError:
        # InvalidVersion, or a number with more digits than the interpreter converts.
        return None


def _member(kind: type[Enum], value: Any, default: Enum) -> Any:
    if value is None:
        return default
    if isinstance(value, kind):
        return value
    known = ", ".join(str(member) for member in kind)
    raise ValueError(f"Unknown {kind.__name__} {value!r}: expected one of {known}, or None for {default}.")
