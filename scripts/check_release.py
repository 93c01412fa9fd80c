"""Check that a release tag fits its package, before anything is built.

    python scripts/check_release.py durabletask-core-v0.1.0 [--notes FILE]

Prints ``package=`` and ``version=`` for a workflow's output, writes the changelog's entry to FILE, and exits 1
with the reason when the tag, the package's version and its changelog do not say the same, or the changelog's entry
has no date yet.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import date
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TAG = re.compile(r"(?P<package>durabletask-[a-z]+)-v(?P<version>[0-9][0-9a-z.]*)")


class ReleaseError(Exception):
    """The tag and the files disagree; the message says how, and what to do."""


class Release(NamedTuple):
    package: str
    version: str
    notes: str


def project_version(folder: Path) -> str:
    """Return the static version in a package's ``pyproject.toml``."""
    found = re.search(r'^version = "([^"]+)"$', (folder / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ReleaseError(f'{folder.name}: pyproject.toml has no static version; add version = "...".')
    return found[1]


class Entry(NamedTuple):
    """What a changelog says of a version: its heading line, and the text below it."""

    heading: str
    text: str


def changelog_entry(folder: Path, version: str) -> Entry:
    """Return the entry with the heading ``## VERSION``, released or not, of a package's changelog."""
    text = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^(## {re.escape(version)}(?!\S)[^\n]*)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ReleaseError(
            f"{folder.name}: CHANGELOG.md has no entry for {version}; add '## {version} - YYYY-MM-DD' and the changes."
        )
    if not found[2].strip():
        raise ReleaseError(f"{folder.name}: the entry for {version} in CHANGELOG.md is empty; say what changed.")
    return Entry(found[1].strip(), found[2].strip())


def require_date(folder: Path, version: str, heading: str) -> None:
    """Raise ReleaseError unless the heading of an entry is ``## VERSION - YYYY-MM-DD``, with a day that exists."""
    try:
        if heading == f"## {version} - {date.fromisoformat(heading[-10:])}":
            return
    except ValueError:
        pass
    raise ReleaseError(
        f"{folder.name}: expected '## {version} - YYYY-MM-DD' in CHANGELOG.md, with the day of the release, "
        f"found {heading!r}."
    )


def check(tag: str, root: Path = ROOT) -> Release:
    """Return what the tag releases.

    Raises:
        ReleaseError: the tag is malformed, names no package, or differs from the version or the changelog, or the
            changelog's entry has no date.
    """
    found = TAG.fullmatch(tag)
    if found is None:
        raise ReleaseError(f"expected a tag like durabletask-<package>-v<version>, found {tag!r}.")
    package, version = found["package"], found["version"]
    folder = root / "packages" / package
    if not folder.is_dir():
        raise ReleaseError(f"there is no package {package!r} in packages/, which the tag {tag!r} names.")
    if version != (actual := project_version(folder)):
        raise ReleaseError(f"the tag {tag!r} does not match the version {actual!r} in {package}'s pyproject.toml.")
    entry = changelog_entry(folder, version)
    require_date(folder, version, entry.heading)
    return Release(package, version, entry.text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Check that a release tag fits its package.")
    parser.add_argument("tag")
    parser.add_argument("--notes", type=Path, help="write the changelog's entry to this file")
    arguments = parser.parse_args()
    try:
        release = check(arguments.tag)
    except ReleaseError as error:
        sys.exit(f"check_release: {error}")
    if arguments.notes:
        arguments.notes.write_text(release.notes + "\n", encoding="utf-8")
    print(f"package={release.package}\nversion={release.version}")


if __name__ == "__main__":
    main()
