"""Hand-written SQL, kept in .sql files: named statements and numbered migrations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


def statements(store: str, file: str) -> Mapping[str, str]:
    """The named statements of ``sql/<store>/<file>.sql``.

    A line ``-- name: x`` begins statement x. Comment lines and a closing semicolon are dropped.
    """
    text = (resources.files(__package__) / "sql" / store / f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: _COMMENT.sub("", body).strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2])}


def migrations(store: str) -> list[tuple[int, str]]:
    """(number, SQL script) of every migration of a store, in the order in which they are applied."""
    folder = resources.files(__package__) / "sql" / store / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name.partition("_")[0]), file.read_text(encoding="utf-8")) for file in files)
