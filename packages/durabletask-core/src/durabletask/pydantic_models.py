"""How a pydantic model is written so that the model reads it back; pydantic itself is not imported here.

By default a model is written by the names of its fields and with what it computes. Only where the model would not
take that back is it written otherwise, because plain data that others read must not change without need.
"""

import inspect
import sys
import typing
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any


def is_model(cls: type) -> bool:
    """Whether ``cls`` is a model of pydantic 2, or has the two methods of one that matter here."""
    return all(callable(getattr(cls, name, None)) for name in ("model_dump", "model_validate"))


def dump_options(cls: type) -> Mapping[str, Any]:
    """The arguments of ``model_dump`` for values of class ``cls``, as far as its signature has them."""
    return _dump_options(cls)


@lru_cache(maxsize=1024)
def _dump_options(cls: Any) -> Mapping[str, Any]:
    options: dict[str, Any] = {"mode": "json"}
    try:
        models = list(_models_of(cls, set()))
        if any(map(_needs_aliases, models)) and all(map(_reads_aliases, models)):
            options["by_alias"] = True
        if any(map(_needs_round_trip, models)):
            options["round_trip"] = True
        known = inspect.signature(cls.model_dump).parameters
    except Exception:
        # A class that only looks like a model, or builds its fields in a way of its own: as it is by default.
        return {"mode": "json"}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    return {name: value for name, value in options.items() if takes_any or name in known or name == "mode"}


def _models_of(annotation: Any, seen: set[int]) -> Iterator[Any]:
    """The models in an annotation, and those in the annotations of their fields."""
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    if isinstance(annotation, type) and is_model(annotation):
        yield annotation
        for field in _fields(annotation).values():
            yield from _models_of(field.annotation, seen)
    for argument in typing.get_args(annotation):
        yield from _models_of(argument, seen)


def _fields(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(model, "model_fields", {})
    return found


def _reads_names(model: Any) -> bool:
    config = getattr(model, "model_config", {})
    return bool(config.get("populate_by_name") or config.get("validate_by_name"))


def _needs_aliases(model: Any) -> bool:
    return not _reads_names(model) and any(f.validation_alias is not None for f in _fields(model).values())


def _reads_aliases(model: Any) -> bool:
    """Whether every key of a dump by alias is one that validation takes."""
    by_name = _reads_names(model)
    return all(
        (field.serialization_alias or name) in _keys_read(name, field, by_name)
        for name, field in _fields(model).items()
    )


def _keys_read(name: str, field: Any, by_name: bool) -> list[Any]:
    alias = field.validation_alias
    names = [name] if by_name or alias is None else []
    return names + list(getattr(alias, "choices", [alias]))


def _needs_round_trip(model: Any) -> bool:
    """Whether there are fields that are read from JSON text, or computed ones that the model refuses to be given."""
    keeps_or_refuses = getattr(model, "model_config", {}).get("extra") in ("forbid", "allow")
    if keeps_or_refuses and getattr(model, "model_computed_fields", None):
        return True
    json = getattr(sys.modules.get("pydantic"), "Json", None)
    return json is not None and any(_mentions(field, json) for field in _fields(model).values())


def _mentions(field: Any, kind: Any) -> bool:
    waiting = [field.annotation, *field.metadata]
    while waiting:
        part = waiting.pop()
        if part is kind or isinstance(part, kind):
            return True
        waiting.extend(typing.get_args(part))
        waiting.extend(getattr(part, "__metadata__", ()))
    return False
