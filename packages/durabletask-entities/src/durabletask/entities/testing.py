"""Unit tests of entities: operations run as in a worker, without a worker and without a task hub.

For example::

    def test_a_counter_adds_up():
        counter = EntityFixture(Counter)
        counter.run("add", 2)
        assert counter.run("get") == 2
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar, overload

from durabletask.entities.entity_context import require_type
from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.entities.operations import BatchRunner, Operation
from durabletask.entities.registration import add_entity
from durabletask.features import WorkItemHost
from durabletask.registry import Registry
from durabletask.replay import RunOptions
from durabletask.replay.times import to_datetime
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter
from durabletask.versioning import VersioningOptions
from durabletask_proto import orchestrator_service_pb2 as pb

T = TypeVar("T")

__all__ = ["EntityFixture", "Outcome", "SentSignal", "StartedOrchestration"]


@dataclass(frozen=True)
class Outcome:
    """How an operation of a batch ended: ``error`` is what it raised, None if it succeeded."""

    operation: str
    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class SentSignal:
    """A signal that an operation sent; ``signal_time`` is aware, in UTC, or None for at once."""

    entity_id: EntityInstanceId
    operation: str
    input: Any = None
    signal_time: datetime | None = None


@dataclass(frozen=True)
class StartedOrchestration:
    """An orchestration that an operation started."""

    name: str
    instance_id: str
    input: Any = None
    version: str | None = None


class EntityFixture:
    """One entity under test. What its operations send is kept here and goes nowhere.

    Args:
        entity: The entity, a function or a class derived from DurableEntity.
        key: The key in its id; its name is that under which a worker would register it.
        state: The state to begin with; None for none.
        default_version: The worker's ``default_version``.
        data_converter: The worker's data converter.

    Raises:
        ValueError: The key cannot be one.
        TypeError: ``entity`` is not an entity.
    """

    def __init__(
        self,
        entity: Any,
        *,
        key: str = "test",
        state: Any = None,
        default_version: str | None = None,
        data_converter: DataConverter = DEFAULT_DATA_CONVERTER,
    ) -> None:
        registry = Registry()
        self.entity_id = EntityInstanceId(add_entity(registry, entity), key)
        self._converter = data_converter
        versioning = VersioningOptions(default_version=default_version)
        options = RunOptions(versioning=versioning, data_converter=data_converter)
        host = WorkItemHost(logging.getLogger("durabletask.entities.testing"), _run_apart)
        self._runner = BatchRunner(str(self.entity_id), data_converter.serialize(state), registry, options, host)

    def run(self, operation: str, input: Any = None, *, return_type: type[Any] | None = None) -> Any:
        """Run one operation and return its result.

        Input, result and state pass through JSON, as they do in reality.

        Raises:
            Exception: What the operation raises; state and sent messages are then as before.
        """
        output = self._runner.perform(self._operation(operation, input))
        return self._converter.deserialize(output, return_type)

    def run_batch(self, operations: Iterable[tuple[str, Any]]) -> list[Outcome]:
        """Run operations, each a name and an input, as one batch; one that raises does not stop the others."""
        return [self._outcome(operation, input) for operation, input in operations]

    @overload
    def get_state(self, intended_type: type[T]) -> T | None: ...

    @overload
    def get_state(self, intended_type: None = None) -> Any: ...

    def get_state(self, intended_type: type[Any] | None = None) -> Any:
        """The state, as ``intended_type`` if one is given; None if there is none.

        Raises TypeError when it cannot become that type.
        """
        value = self._converter.deserialize(self._runner.state.text, intended_type)
        if value is not None:
            require_type(value, intended_type, f"The state of entity '{self.entity_id}'")
        return value

    @property
    def state(self) -> Any:
        """The state as plain JSON data, None for none."""
        return self.get_state()

    @property
    def signals(self) -> list[SentSignal]:
        """The signals sent so far, in order."""
        actions = self._runner.state.actions
        return [self._signal(action.sendSignal) for action in actions if action.HasField("sendSignal")]

    @property
    def orchestrations(self) -> list[StartedOrchestration]:
        """The orchestrations started so far, in order."""
        actions = self._runner.state.actions
        return [self._start(a.startNewOrchestration) for a in actions if a.HasField("startNewOrchestration")]

    def _outcome(self, operation: str, input: Any) -> Outcome:
        try:
            return Outcome(operation, self.run(operation, input))
        except Exception as error:
            return Outcome(operation, error=error)

    def _operation(self, name: str, input: Any) -> Operation:
        return Operation(name, self._converter.serialize(input) or "", is_signal=False)

    def _signal(self, signal: pb.SendSignalAction) -> SentSignal:
        due = to_datetime(signal.scheduledTime).replace(tzinfo=timezone.utc)
        return SentSignal(
            EntityInstanceId.from_wire(signal.instanceId),
            signal.name,
            self._converter.deserialize(signal.input.value),
            due if signal.HasField("scheduledTime") else None,
        )

    def _start(self, start: pb.StartNewOrchestrationAction) -> StartedOrchestration:
        return StartedOrchestration(
            start.name,
            start.instanceId,
            self._converter.deserialize(start.input.value),
            start.version.value if start.HasField("version") else None,
        )


def _run_apart(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a thread of its own: the test may itself run on an event loop."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend([asyncio.run(coroutine), None])
        except BaseException as error:
            outcome.extend([None, error])

    thread = threading.Thread(target=run, name="EntityFixture", daemon=True)
    thread.start()
    thread.join()
    value, error = outcome
    if error is not None:
        raise error
    return value
