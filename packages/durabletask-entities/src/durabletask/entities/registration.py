"""The entities of a worker: what is registered under which name, and how an operation calls it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from durabletask import type_discovery
from durabletask.entities.durable_entity import DurableEntity, new_entity
from durabletask.entities.entity_context import EntityContext
from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.features import ENTITIES
from durabletask.registry import Registry
from durabletask.serialization import DataConverter
from durabletask.task import get_entity_name


class EntityCode(Protocol):
    """User code that runs operations."""

    def call(self, context: EntityContext, data: str, converter: DataConverter) -> Any:
        """Run ``context.operation`` on an input in JSON text; the result may have to be awaited."""


class FunctionEntity:
    """A function of a context and an input, which runs every operation."""

    def __init__(self, function: Callable[[EntityContext, Any], Any]) -> None:
        self._function = function
        self._input_type = type_discovery.input_type(function)

    def call(self, context: EntityContext, data: str, converter: DataConverter) -> Any:
        return self._function(context, _decoded(data, self._input_type, converter))


class ClassEntity:
    """A class whose methods are the operations."""

    def __init__(self, entity_class: type[DurableEntity]) -> None:
        self._class = entity_class
        self._methods: dict[str, _Method] = {}

    def call(self, context: EntityContext, data: str, converter: DataConverter) -> Any:
        name = context.operation
        method = self._found(new_entity(self._class, context), context)
        known = self._methods.get(name) or self._described(name, method)
        value = _decoded(data, known.input_type, converter)
        return method(value) if known.needs_input or value is not None else method()

    def _described(self, name: str, method: Callable[..., Any]) -> "_Method":
        described = _described(method)
        # A class with __getattr__ answers to any name, and names come from outside.
        if hasattr(self._class, name):
            self._methods[name] = described
        return described

    def _found(self, entity: DurableEntity, context: EntityContext) -> Callable[..., Any]:
        name = context.operation
        # Operation names come from outside: Python's own methods, such as __init__, are none.
        method = None if name.startswith("__") else getattr(entity, name, None)
        if method is None:
            raise AttributeError(f"Entity '{context.entity_id}' does not have operation '{name}'")
        if not callable(method):
            raise TypeError(
                f"Operation '{name}' of entity '{context.entity_id}' is not a method of {self._class.__name__} but "
                f"a value of type {type(method).__name__}"
            )
        found: Callable[..., Any] = method
        return found


@dataclass(frozen=True, slots=True)
class _Method:
    needs_input: bool
    input_type: Any | None


def _described(method: Callable[..., Any]) -> _Method:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = [p for p in inspect.signature(method).parameters.values() if p.kind in positional]
    except (TypeError, ValueError):
        # Some callables of extension modules have no signature; such a one is given what was sent.
        return _Method(needs_input=False, input_type=None)
    needed = any(p.default is inspect.Parameter.empty for p in parameters)
    declared = type_discovery.hints_of(method).get(parameters[0].name) if parameters else None
    return _Method(needed, declared)


def _decoded(data: str, declared: Any | None, converter: DataConverter) -> Any:
    expected = declared if declared is not None and converter.can_reconstruct(declared) else None
    return converter.deserialize(data, expected)


def add_entity(registry: Registry, entity: Any, name: str | None = None) -> str:
    """Register an entity under a name, by default its own, and return that name as given.

    Raises:
        ValueError: ``entity`` is None, or the name is empty, contains ``@``, or is taken in any letter case.
        TypeError: ``entity`` is neither a function nor a class derived from DurableEntity.
    """
    if entity is None:
        raise ValueError("An entity function or class is required, got None.")
    code = _code_of(entity)
    if name is None:
        name = get_entity_name(entity)
    EntityInstanceId.validate_entity_name(name)
    table = _table(registry)
    if name.lower() in table:
        raise ValueError(f"The entity {name!r} is already registered; names of entities are the same in any case.")
    table[name.lower()] = code
    return name


def entity_named(registry: Registry, name: str) -> EntityCode | None:
    """What is registered under a name in lower case, or None."""
    return _table(registry).get(name)


def entity_names(registry: Registry) -> list[str]:
    """All registered names, in lower case, in order of registration."""
    return list(_table(registry))


def _table(registry: Registry) -> dict[str, EntityCode]:
    table: dict[str, EntityCode] = registry.features.setdefault(ENTITIES, {})
    return table


def _code_of(entity: Any) -> EntityCode:
    if not isinstance(entity, type):
        if callable(entity):
            return FunctionEntity(entity)
    elif issubclass(entity, DurableEntity):
        return ClassEntity(entity)
    raise TypeError(
        f"An entity is a function of a context and an input, or a class derived from DurableEntity; got {entity!r}."
    )
