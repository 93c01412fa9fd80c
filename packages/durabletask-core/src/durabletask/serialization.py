"""How inputs, outputs and events become JSON text and how declared types come back from it.

The text is that of ``json.dumps`` with its defaults, so that other languages can read it; NaN and the
infinities, which have no JSON form, are refused. A type is never taken from a payload: a value comes
back as a declared type or as plain JSON data.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from durabletask import json_types

_logger = logging.getLogger("durabletask")

_LEGACY_MARKER = "__durabletask_autoobject__"

_LONG = 1_024
_FEW = 64
# What JSON escapes or forbids in a string of ASCII; the likely ones first.
_NOT_PLAIN = tuple(dict.fromkeys(('"', "\\", "\n", *map(chr, range(0x20)), "\x7f")))


class DataConverter(ABC):
    """Turns values into text and back; pass your own as ``data_converter`` of clients and workers."""

    @abstractmethod
    def serialize(self, value: Any) -> str | None:
        """The text of ``value``; None for None. Raises when the value has no form."""

    @abstractmethod
    def deserialize(self, data: str | None, target_type: Any | None = None) -> Any:
        """The value of ``data``, as ``target_type`` if one is given; None for None and for an empty text."""

    @abstractmethod
    def coerce(self, value: Any, target_type: Any | None = None) -> Any:
        """A decoded ``value`` as ``target_type``."""

    def can_reconstruct(self, target_type: Any) -> bool:
        """Whether an annotation with ``target_type`` is enough to have values delivered as that type."""
        return False


class JsonDataConverter(DataConverter):
    """The default converter.

    Besides JSON's own types it encodes what has a ``to_json`` method (called with the value alone),
    enums, dataclasses, pydantic models, SimpleNamespace, datetime, date, time, timedelta (ISO 8601),
    UUID, Decimal, bytes (base64), sets and paths. All of these come back where their type is declared;
    a ``from_json`` hook of a type takes the decoded value, and the converter if it has a second parameter
    named ``converter``. A value that does not fit its declared type is passed on as it is, with a debug
    record on the logger ``durabletask``.
    """

    def serialize(self, value: Any) -> str | None:
        """JSON text of ``value``. Raises TypeError or ValueError naming what cannot be encoded."""
        if value is None:
            return None
        try:
            encode = _ENCODERS.get(type(value))
            return _ENCODER.encode(value) if encode is None else encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refusal(value, error) from error

    def deserialize(self, data: str | None, target_type: Any | None = None) -> Any:
        """The decoded value; raises ValueError when ``data`` is not JSON."""
        if not data:
            return None
        value = _decode(data)
        has_markers = isinstance(value, (dict, list)) and _LEGACY_MARKER in data
        if target_type is None:
            return _with_namespaces(value) if has_markers else value
        if has_markers:
            value = _without_marker(value)
        return self.coerce(value, target_type)

    def coerce(self, value: Any, target_type: Any | None = None) -> Any:
        """``value`` as ``target_type``, or unchanged when it does not fit."""
        if value is None or target_type is None:
            return value
        try:
            return json_types.build(value, target_type, self)
        except Exception as error:
            # Best effort is the contract: user hooks may raise anything, and plain data is still useful.
            _logger.debug(
                "Could not coerce a %s to %r (%s: %s); passing it on as it is.",
                type(value).__name__,
                target_type,
                type(error).__name__,
                error,
            )
            return value

    def can_reconstruct(self, target_type: Any) -> bool:
        """True for dataclasses, types with ``from_json`` and the encoded types, also in Optional, Union and list."""
        try:
            return _can_reconstruct(target_type)
        except TypeError:
            return json_types.is_rebuildable(target_type)


def encoded_text(converter: DataConverter, value: Any) -> str | None:
    """What ``converter`` makes of ``value``, as a message can carry it.

    Bytes in UTF-8 count as text. Raises what ``serialize`` raises, TypeError when it returns something else and
    ValueError when that is not UTF-8.
    """
    found: Any = converter.serialize(value)
    if found is None or (isinstance(found, str) and found.isascii()):
        return found
    expected = (
        f"{type(converter).__qualname__}.serialize() must return text or None; of a {type(value).__name__} it made"
    )
    try:
        if isinstance(found, bytes):
            return found.decode("utf-8")
        if isinstance(found, str):
            found.encode("utf-8")
            return found
    except UnicodeError as error:
        raise ValueError(
            f"{expected} what UTF-8 cannot hold ({error}). Let it escape such characters, as json.dumps() does."
        ) from error
    raise TypeError(f"{expected} a {type(found).__name__}. Let it return JSON text.")


_can_reconstruct: Callable[[Any], bool] = lru_cache(maxsize=4096)(json_types.is_rebuildable)


def _encode_text(value: str) -> str:
    return "".join(_pieces(value)) if len(value) > _LONG else _ENCODER.encode(value)


def _encode_dict(value: dict[Any, Any]) -> str:
    if not _holds_long_text(value.values()) or any(type(key) is not str for key in value):
        return _ENCODER.encode(value)
    pieces = ["{"]
    for key, item in value.items():
        pieces += (_ENCODER.encode(key), ": ", *_pieces(item), ", ")
    pieces[-1] = "}"
    return "".join(pieces)


def _encode_list(value: list[Any]) -> str:
    if not _holds_long_text(value):
        return _ENCODER.encode(value)
    pieces = ["["]
    for item in value:
        pieces += (*_pieces(item), ", ")
    pieces[-1] = "]"
    return "".join(pieces)


def _pieces(value: Any) -> tuple[str, ...]:
    """The JSON text of a value, for the caller to join: a long text is copied once only."""
    # No deeper: what refers to itself is for the encoder to find.
    if type(value) is str and len(value) > _LONG and _stands_for_itself(value):
        return ('"', value, '"')
    return (_ENCODER.encode(value),)


def _holds_long_text(items: Collection[Any]) -> bool:
    """Whether it pays to encode the items one by one."""
    return len(items) <= _FEW and any(type(item) is str and len(item) > _LONG for item in items)


_ENCODERS: dict[type, Callable[[Any], str]] = {
    str: _encode_text,
    int: int.__repr__,
    dict: _encode_dict,
    list: _encode_list,
}
"""Shorter ways for exactly these types; the text is the same."""


def _decode(data: str) -> Any:
    if len(data) > _LONG and data[0] == data[-1] == '"':
        text = data[1:-1]
        if _stands_for_itself(text):
            return text
    try:
        return _DECODER.decode(data)
    except ValueError as error:
        raise ValueError(f"The payload is not JSON ({error}): {data[:100]!r}") from error


def _stands_for_itself(text: str) -> bool:
    """Whether the text in quotes is its JSON: looking is several times faster than encoding or decoding."""
    # To look for one character in a large text takes a hundredth of what it takes to look at each.
    return text.isascii() and not any(char in text for char in _NOT_PLAIN)


def _with_namespaces(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_namespaces(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {k: _with_namespaces(v) for k, v in value.items() if k != _LEGACY_MARKER}
    return SimpleNamespace(**fields) if _LEGACY_MARKER in value else fields


def _without_marker(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_marker(item) for item in value]
    if isinstance(value, dict):
        return {k: _without_marker(v) for k, v in value.items() if k != _LEGACY_MARKER}
    return value


def _refusal(value: Any, error: Exception) -> Exception:
    kind = type(value).__name__
    if isinstance(error, RecursionError):
        return ValueError(f"A value of type {kind} is nested too deeply to be encoded as JSON.")
    if isinstance(error, ValueError) and "JSON compliant" in str(error):
        return ValueError(
            f"A value of type {kind} holds NaN or an infinity, which have no JSON form ({error}). "
            "Use None or a text in its place."
        )
    refusal = TypeError if isinstance(error, TypeError) else ValueError
    return refusal(f"A value of type {kind} cannot be encoded as JSON: {error}")


_DECODER = json.JSONDecoder()
_ENCODER = json.JSONEncoder(allow_nan=False, default=json_types.plain)

DEFAULT_DATA_CONVERTER: DataConverter = JsonDataConverter()
