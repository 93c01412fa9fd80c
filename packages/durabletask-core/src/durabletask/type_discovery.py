"""Which types a registered function declares for its input and its output.

An annotation that cannot be resolved counts as none: the payload then arrives as plain JSON data.
"""

import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from functools import lru_cache, partial
from types import SimpleNamespace, UnionType
from typing import Any

_CACHED = 4096


def input_type(function: Callable[..., Any]) -> Any | None:
    """The annotation of the second positional parameter, or None."""
    return _remembered(_input_type, function)


def output_type(function: Callable[..., Any]) -> Any | None:
    """The annotation of the result (what awaiting or driving the function gives), or None."""
    return _remembered(_output_type, function)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine: an ``async def``, also as a partial or a callable object."""
    while isinstance(function, partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004 - the class's own method is wanted, not callability
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """All annotations of ``function`` that can be resolved, by parameter name and ``return``."""
    while isinstance(function, partial):
        function = function.func
    # A callable object declares its types on its class's __call__; its own annotations are those of its fields.
    target = function if inspect.isroutine(function) else getattr(type(function), "__call__", function)  # noqa: B004
    try:
        return resolved(typing.get_type_hints(target), getattr(target, "__globals__", {}))
    except Exception:
        # Annotations run the user's own expressions: whatever they raise means that no type is known.
        return {k: v for k, v in _annotations(target).items() if not isinstance(v, str)}


def resolved(hints: dict[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """``hints`` with the names inside containers looked up, as in ``list["Order"]``.

    Python 3.10 leaves them as text. Raises NameError for one that ``scope`` does not have.
    """
    return {name: _resolve(hint, dict(scope)) for name, hint in hints.items()}


def _resolve(hint: Any, scope: dict[str, Any]) -> Any:
    if isinstance(hint, str):
        return typing.get_type_hints(SimpleNamespace(__annotations__={"hint": hint}), scope)["hint"]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin not in _CONTAINERS:
        return hint
    found = tuple(_resolve(argument, scope) for argument in arguments)
    if found == arguments:
        return hint
    return typing.Union[found] if origin in _UNIONS else origin[found]  # noqa: UP007 - built at run time


_UNIONS = (typing.Union, UnionType)
_CONTAINERS = (*_UNIONS, list, tuple, dict, set, frozenset, Sequence, Mapping)


def _annotations(target: Any) -> dict[str, Any]:
    try:
        return dict(target.__annotations__)
    except Exception:
        # Python 3.14 evaluates annotations on this access, so a name may be missing here too.
        return {}


def _input_type(function: Callable[..., Any]) -> Any | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError, NameError):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return hints_of(function).get(positional[1].name) if len(positional) > 1 else None


def _output_type(function: Callable[..., Any]) -> Any | None:
    declared = hints_of(function).get("return")
    unwrap = _RESULT_POSITIONS.get(typing.get_origin(declared))
    arguments = typing.get_args(declared)
    return arguments[unwrap] if unwrap is not None and len(arguments) > unwrap else declared


_RESULT_POSITIONS: dict[Any, int] = {Generator: 2, Coroutine: 2, Awaitable: 0}


def _remembered(discover: Callable[[Callable[..., Any]], Any], function: Callable[..., Any]) -> Any | None:
    try:
        return _memo(discover, function)
    except TypeError:
        # An unhashable callable cannot be a key; its types are discovered anew.
        return discover(function)


@lru_cache(maxsize=_CACHED)
def _memo(discover: Callable[[Callable[..., Any]], Any], function: Callable[..., Any]) -> Any | None:
    return discover(function)
