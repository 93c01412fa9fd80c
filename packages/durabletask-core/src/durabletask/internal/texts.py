"""Arguments that are text on the wire: anything else is refused where it is given, not at every turn later on."""

import reprlib
from collections.abc import Mapping
from typing import Any


def require_version(version: Any, argument: str = "version") -> str | None:
    """Return the version if it is a text or None.

    Args:
        version: The version as the user gave it.
        argument: What the user knows it by.

    Raises:
        TypeError: It is something else.
    """
    if version is None or isinstance(version, str):
        return version
    example = version if isinstance(version, int | float) and not isinstance(version, bool) else "1.0"
    raise TypeError(f'{argument} must be a text or None, found {_shown(version)}: write {argument}="{example}"')


def require_tags(tags: Any) -> None:
    """See that tags are texts by name; None is none.

    Raises:
        TypeError: They are something else.
    """
    if tags is None:
        return
    if not isinstance(tags, Mapping):
        raise TypeError(f'tags must be a dict of texts, found {_shown(tags)}: write tags={{"team": "1"}}')
    for name, value in tags.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            found = f"{_shown(value)} for {_shown(name)}"
            raise TypeError(f'tags must be a dict of texts by texts, found {found}: write tags={{"team": "1"}}')


def _shown(value: Any) -> str:
    return f"{reprlib.repr(value)} of type {type(value).__name__}"
