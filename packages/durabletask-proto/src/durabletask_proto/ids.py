"""Random ids, in the form that instances, executions and completion tokens of our schedulers have."""

import os

_IDS_AT_ONCE = 64
_DIGITS = 32

# Asking the system gives up the interpreter: for every id anew, that wakes other threads for nothing each time.
_fetched: list[str] = []
if hasattr(os, "register_at_fork"):
    # A child would give out what its parent gives out.
    os.register_at_fork(after_in_child=_fetched.clear)


def random_id() -> str:
    """32 random hexadecimal digits. Safe to call from any thread."""
    try:
        return _fetched.pop()
    except IndexError:
        digits = os.urandom(_IDS_AT_ONCE * _DIGITS // 2).hex()
        first, *others = [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
        _fetched.extend(others)
        return first


def random_uuid() -> str:
    """A random UUID (version 4) as text with hyphens."""
    digits = random_id()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
