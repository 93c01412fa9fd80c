"""Values on their way to PostgreSQL and back.

Its texts cannot hold the character NUL. NUL is written as U+0001 U+0001, and U+0001 as U+0001 U+0002: nothing is lost,
and texts, and what begins with a text, keep their order.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_JSONB_VERSION = b"\x01"
_NO_TAGS = _JSONB_VERSION + b"{}"

_BOOL, _BYTEA, _INT8, _TEXT, _JSONB = 16, 17, 20, 25, 3802
"""Numbers of PostgreSQL's own types, which never change."""

_int8 = struct.Struct(">q")


def escape(text: str) -> str:
    if "\0" not in text and "\1" not in text:
        return text
    return text.replace("\1", "\1\2").replace("\0", "\1\1")


def unescape(text: str) -> str:
    return text.replace("\1\1", "\0").replace("\1\2", "\1")


def tags_bytes(tags: dict[str, str]) -> bytes:
    """Tags as a binary ``jsonb``."""
    if not tags:
        return _NO_TAGS
    escaped = {escape(name): escape(value) for name, value in tags.items()}
    return _JSONB_VERSION + json.dumps(escaped, ensure_ascii=False).encode()


def tags_from(data: bytes) -> dict[str, str]:
    """Tags from a binary ``jsonb``."""
    if data == _NO_TAGS:
        return {}
    return {unescape(name): unescape(value) for name, value in json.loads(data[len(_JSONB_VERSION) :]).items()}


def text_bytes(text: str) -> bytes:
    return escape(text).encode()


def _texts_bytes(texts: list[str]) -> bytes:
    """A ``text[]``: dimensions, whether there are NULLs, the type, the length, the number of the first; the texts."""
    parts = [struct.pack(">iiIii", 1, 0, _TEXT, len(texts), 1)] if texts else [struct.pack(">iiI", 0, 0, _TEXT)]
    for text in map(text_bytes, texts):
        parts += (struct.pack(">i", len(text)), text)
    return b"".join(parts)


def _same(value: bytes | None) -> bytes | None:
    return value


_ENCODERS: dict[type, Callable[[Any], bytes | None]] = {
    int: _int8.pack,
    str: text_bytes,
    bytes: _same,
    list: _texts_bytes,
    dict: tags_bytes,
    type(None): _same,
}


def encoded(row: Iterable[object]) -> Sequence[bytes | None]:
    """Parameters of a statement in binary form: ``bigint``, ``text``, ``text[]``, tags, and bytes as they are.

    Raises:
        struct.error: a number of more than 64 bits.
        UnicodeError: a text that is not Unicode.
    """
    return [_ENCODERS[type(value)](value) for value in row]


def _text_from(data: bytes) -> str:
    text = data.decode()
    return unescape(text) if "\1" in text else text


_DECODERS: dict[int, Callable[[bytes], object]] = {
    _BOOL: lambda data: data == b"\1",
    _BYTEA: bytes,
    _INT8: lambda data: _int8.unpack(data)[0],
    _TEXT: _text_from,
    _JSONB: tags_from,
}


def decoder(type_number: int) -> Callable[[bytes], object]:
    """What makes a value of the binary form of a type."""
    return _DECODERS[type_number]
