"""The types that have a JSON form here beyond JSON's own: to plain data, and back when the type is declared."""

import base64
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, Protocol
from uuid import UUID

from durabletask import pydantic_models
from durabletask.type_discovery import resolved


class Coercer(Protocol):
    """What a ``from_json`` hook may use to build its parts."""

    def coerce(self, value: Any, target_type: Any | None = None) -> Any: ...


def plain(value: Any) -> Any:
    """``value`` one level towards JSON data; raises TypeError naming a type that has no JSON form."""
    kind = type(value)
    hook = getattr(kind, "to_json", None)
    if callable(hook):
        return hook(value)
    for known, convert in _TO_PLAIN:
        if isinstance(value, known):
            return convert(value)
    if pydantic_models.is_model(kind):
        return value.model_dump(**pydantic_models.dump_options(kind))
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"Object of type {kind.__module__}.{kind.__qualname__} is not JSON serializable")


def build(value: Any, target: Any, coercer: Coercer) -> Any:
    """JSON data ``value`` as ``target``; raises whatever the target's constructor or hook raises."""
    if target is Any or value is None or isinstance(target, typing.TypeVar):
        return value
    origin = typing.get_origin(target)
    if origin is not None:
        return _build_generic(value, target, origin, coercer)
    if not isinstance(target, type):
        return value
    if isinstance(value, target):
        return value
    hook = getattr(target, "from_json", None)
    if callable(hook):
        return hook(value, converter=coercer) if _wants_converter(hook) else hook(value)
    for known, rebuild_class in _FROM_PLAIN:
        if issubclass(target, known):
            return rebuild_class(value, target)
    if callable(getattr(target, "model_validate", None)):
        return target.model_validate(value)  # type: ignore[attr-defined]  # a pydantic model, which is not imported here
    if dataclasses.is_dataclass(target):
        return _dataclass(value, target, coercer)
    return target(value)


def _build_generic(value: Any, target: Any, origin: Any, coercer: Coercer) -> Any:
    rebuild = _FROM_GENERIC.get(origin)
    if rebuild is not None:
        return rebuild(value, typing.get_args(target), coercer)
    if isinstance(origin, type) and _is_structured(origin):
        return build(value, origin, coercer)
    return value


def is_rebuildable(target: Any) -> bool:
    """Whether an annotation with ``target`` has values delivered as that type."""
    origin = typing.get_origin(target)
    if origin in _UNIONS or origin in (list, Sequence):
        return any(is_rebuildable(argument) for argument in typing.get_args(target))
    if origin in (set, frozenset):
        return True
    if origin is not None:
        # A generic class, such as a pydantic model with parameters, counts as its origin does.
        return isinstance(origin, type) and _is_structured(origin)
    return isinstance(target, type) and (_is_structured(target) or issubclass(target, _SCALARS))


def _is_structured(cls: type) -> bool:
    hooks = (getattr(cls, name, None) for name in ("from_json", "model_validate"))
    return dataclasses.is_dataclass(cls) or any(callable(hook) for hook in hooks)


def _wants_converter(hook: Callable[..., Any]) -> bool:
    try:
        return "converter" in inspect.signature(hook).parameters
    except (TypeError, ValueError):
        return False


def _sorted_items(value: Set[Any]) -> list[Any]:
    """A set's items in an order that does not depend on hashing, so that a replay writes the same text."""
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=lambda item: (type(item).__name__, repr(item)))


def _duration_text(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    seconds, fraction = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}PT{seconds}{f'.{fraction:06d}' if fraction else ''}S"


_DURATION = re.compile(
    r"(?P<sign>[-+]?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,9}))?S)?)?"
)


def _duration(value: Any, target: type) -> Any:
    if isinstance(value, (int, float)):
        return target(seconds=value)
    found = _DURATION.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is neither an ISO 8601 duration nor a number of seconds")
    parts = found.groupdict()
    names = ("weeks", "days", "hours", "minutes", "seconds")
    micros = int((parts["fraction"] or "0")[:6].ljust(6, "0"))
    length = target(microseconds=micros, **{name: int(parts[name] or 0) for name in names})
    return -length if parts["sign"] == "-" else length


def _iso(value: Any, target: Any) -> Any:
    # Before Python 3.11 fromisoformat() does not read the Z of RFC 3339.
    return target.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)


def _bytes(value: Any, target: Any) -> Any:
    return target(base64.b64decode(value, validate=True))


_TO_PLAIN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda v: v.value),
    (SimpleNamespace, lambda v: vars(v)),
    ((datetime, date, time), lambda v: v.isoformat()),
    (timedelta, _duration_text),
    ((UUID, Decimal, PurePath), str),
    ((bytes, bytearray), lambda v: base64.b64encode(v).decode("ascii")),
    ((set, frozenset), _sorted_items),
)
_FROM_PLAIN: tuple[tuple[Any, Callable[[Any, Any], Any]], ...] = (
    (Enum, lambda v, target: target(v)),
    (SimpleNamespace, lambda v, target: target(**v)),
    ((datetime, date, time), _iso),
    (timedelta, _duration),
    ((bytes, bytearray), _bytes),
)
_SCALARS = (Enum, datetime, date, time, timedelta, UUID, Decimal, PurePath, Path, bytes, bytearray, set, frozenset)


def _dataclass(value: Any, target: Any, coercer: Coercer) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object for {target.__name__}, got {type(value).__name__}")
    hints = field_types(target)
    accepted = _constructor_names(target)
    fields = (f for f in dataclasses.fields(target) if f.name in value and f.name in accepted)
    return target(**{f.name: coercer.coerce(value[f.name], hints.get(f.name)) for f in fields})


def _constructor_names(target: Any) -> frozenset[str]:
    """Fields that the constructor takes; a hand-written one may take fields declared with init=False."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return frozenset(f.name for f in dataclasses.fields(target))
    return frozenset(parameters)


@lru_cache(maxsize=1024)
def field_types(target: type) -> dict[str, Any]:
    """The types of a class's fields; names are resolved in the module of the class that declares them."""
    try:
        return resolved(typing.get_type_hints(target), vars(sys.modules[target.__module__]))
    except Exception:
        # Annotations are the user's own expressions: one that fails must not hide the others.
        return {field.name: _single_type(target, field) for field in dataclasses.fields(target)}


def _single_type(target: type, field: Any) -> Any:
    if not isinstance(field.type, str):
        return field.type
    holder = SimpleNamespace(__annotations__={field.name: field.type})
    for cls in target.__mro__:
        try:
            return typing.get_type_hints(holder, vars(sys.modules[cls.__module__]))[field.name]
        except Exception:
            # Not a name of this class's module; a base class may have declared the field elsewhere.
            continue
    return Any


def _list(value: Any, arguments: tuple[Any, ...], coercer: Coercer) -> Any:
    if not isinstance(value, list) or not arguments:
        return value
    return [coercer.coerce(item, arguments[0]) for item in value]


def _set_of(kind: Callable[[Any], Any]) -> Callable[[Any, tuple[Any, ...], Coercer], Any]:
    return lambda value, arguments, coercer: kind(_list(value, arguments, coercer))


def _dict(value: Any, arguments: tuple[Any, ...], coercer: Coercer) -> Any:
    if not isinstance(value, dict) or len(arguments) != 2:
        return value
    return {key: coercer.coerce(item, arguments[1]) for key, item in value.items()}


def _tuple(value: Any, arguments: tuple[Any, ...], coercer: Coercer) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(coercer.coerce(item, arguments[0]) for item in value)
    if len(arguments) != len(value):
        raise ValueError(f"expected {len(arguments)} items, got {len(value)}")
    return tuple(coercer.coerce(item, argument) for item, argument in zip(value, arguments))


def _union(value: Any, arguments: tuple[Any, ...], coercer: Coercer) -> Any:
    members = [argument for argument in arguments if argument is not type(None)]
    return coercer.coerce(value, members[0]) if len(members) == 1 else value


def _annotated(value: Any, arguments: tuple[Any, ...], coercer: Coercer) -> Any:
    return coercer.coerce(value, arguments[0])


_UNIONS = (typing.Union, types.UnionType)
_FROM_GENERIC: dict[Any, Callable[[Any, tuple[Any, ...], Coercer], Any]] = {
    list: _list,
    Sequence: _list,
    dict: _dict,
    Mapping: _dict,
    tuple: _tuple,
    set: _set_of(set),
    frozenset: _set_of(frozenset),
    typing.Union: _union,
    types.UnionType: _union,
    typing.Annotated: _annotated,
}
