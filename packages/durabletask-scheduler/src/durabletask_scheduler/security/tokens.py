"""Static bearer tokens: random secrets of which the scheduler keeps only hashes, in a file.

A line of the file is ``NAME ROLE[,ROLE] HUB|* sha256:HEX``; ``#`` begins a comment. A token may have several lines
(one a task hub), and a name several tokens (while one replaces the other).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace

from durabletask_scheduler.security.errors import Rejected, SecurityError
from durabletask_scheduler.security.roles import ROLES, Grant, Principal, unknown_roles
from durabletask_scheduler.security.watched import CHECK_SECONDS, WatchedFile

PREFIX = "dts_"
"""Begins every token, so that scanners for leaked secrets can tell them."""

_SECRET_BYTES = 32
_WHAT = "the token file"
_CREDENTIAL = re.compile(r"sha256:([0-9a-f]{64})")
_EXPECTED = "NAME ROLE[,ROLE] HUB|* sha256:HEX, as printed by 'durabletask-scheduler token create'"


def new_token() -> str:
    """A new random token, with 256 bits that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def token_digest(token: str) -> str:
    """SHA-256 as hex. A fast hash is enough: the tokens are random, so there is nothing to try out."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def token_line(name: str, roles: Iterable[str], task_hub: str, token: str) -> str:
    """The line of the token file that admits this token.

    Raises:
        SecurityError: the name or the task hub is empty or has spaces, or a role is unknown.
    """
    line = f"{name} {','.join(roles)} {task_hub} sha256:{token_digest(token)}"
    if len(line.split()) != 4 or "#" in line:
        raise SecurityError(
            f"a token needs a name and a task hub without spaces or '#', found {name!r} and {task_hub!r}"
        )
    _parse_line(line)
    return line


class TokenFile:
    """Accepts the tokens of one file, which may change at any time: a token whose line is removed is revoked.

    Raises:
        SecurityError: the file cannot be read, or a line is wrong.
    """

    def __init__(self, path: str, *, check_seconds: float = CHECK_SECONDS) -> None:
        self._file = WatchedFile(_WHAT, path, lambda content: _parse(path, content), check_seconds=check_seconds)

    def authenticate(self, token: str) -> Principal:
        """Whose token it is.

        Raises:
            Rejected: nobody's.
        """
        found = self._find(token_digest(token))
        if found is None:
            raise Rejected("the token is not in the token file")
        return found

    def current(self, principal: Principal) -> Principal | None:
        """The same principal as the file has it now; None once the token is revoked."""
        return principal if principal.digest is None else self._find(principal.digest)

    def _find(self, digest: str) -> Principal | None:
        # The look-up takes a time that depends on the hash alone, from which nothing about a token follows.
        found = self._file.value().get(digest)
        if found is None or found.digest is None or not hmac.compare_digest(found.digest, digest):
            return None
        return found


def _parse(path: str, content: bytes) -> Mapping[str, Principal]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SecurityError(f"{_WHAT} {path} is not text in UTF-8; expected lines of {_EXPECTED}") from error
    principals: dict[str, Principal] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        try:
            _add(principals, *_parse_line(line))
        except SecurityError as error:
            raise SecurityError(f"{path}, line {number}: {error}") from error
    return principals


def _add(principals: dict[str, Principal], name: str, digest: str, grant: Grant) -> None:
    known = principals.get(digest)
    if known is None:
        principals[digest] = Principal(name, (grant,), digest)
        return
    if known.name != name:
        raise SecurityError(f"the token of {known.name!r} is listed again for {name!r}; give each a token of its own")
    principals[digest] = replace(known, grants=(*known.grants, grant))


def _parse_line(line: str) -> tuple[str, str, Grant]:
    fields = line.split()
    if len(fields) != 4:
        raise SecurityError(f"expected {_EXPECTED}; found {len(fields)} fields")
    name, roles, task_hub, credential = fields
    found = _CREDENTIAL.fullmatch(credential)
    if found is None:
        # Not shown: it may well be a token that was pasted in clear.
        raise SecurityError(f"expected {_EXPECTED}; the last field is not sha256: and 64 digits of 0-9a-f")
    names = roles.split(",")
    if unknown_roles(names):
        raise SecurityError(f"unknown role {unknown_roles(names)[0]!r}; expected {', '.join(ROLES)}")
    return name, found.group(1), Grant(frozenset(names), task_hub)
