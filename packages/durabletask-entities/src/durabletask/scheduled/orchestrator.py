"""The orchestration by which clients operate schedules and hear how it went."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from durabletask.entities import EntityInstanceId
from durabletask.task import OrchestrationContext, Task


@dataclass
class ScheduleOperationRequest:
    """An operation of a schedule's entity; ``entity_id`` is the text of its id."""

    entity_id: str
    operation_name: str
    input: Any | None = None

    def to_json(self) -> dict[str, Any]:
        """The request as JSON data."""
        return {"entity_id": self.entity_id, "operation_name": self.operation_name, "input": self.input}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ScheduleOperationRequest":
        """The request of JSON data."""
        return cls(data["entity_id"], data["operation_name"], data.get("input"))


def execute_schedule_operation_orchestrator(
    ctx: OrchestrationContext, request: ScheduleOperationRequest
) -> Generator[Task[Any], Any, Any]:
    """Call the operation and return its result; fails as the operation fails."""
    entity_id = EntityInstanceId.from_wire(request.entity_id)
    return (yield ctx.call_entity(entity_id, request.operation_name, request.input))
