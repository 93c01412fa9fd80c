"""The names, parameters, defaults and results of the API that this package is a drop-in for, one table."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import pytest
from durabletask import entities, scheduled, task
from durabletask.scheduled.schedule_entity import Schedule

CLIENT = "ScheduledTaskClient"
SCHEDULE = "ScheduleClient"
CREATION = (
    "(schedule_id, orchestration_name, interval, orchestration_input=None, orchestration_instance_id=None, "
    "start_at=None, end_at=None, start_immediately_if_late=False)"
)
UPDATE = (
    "(orchestration_name=None, orchestration_input=None, orchestration_instance_id=None, start_at=None, end_at=None, "
    "interval=None, start_immediately_if_late=None)"
)
DESCRIPTION = (
    "(schedule_id, orchestration_name=None, orchestration_input=None, orchestration_instance_id=None, start_at=None, "
    "end_at=None, interval=None, start_immediately_if_late=None, status=ScheduleStatus.UNINITIALIZED, "
    "execution_token='', last_run_at=None, next_run_at=None)"
)

# Names of parameters that are ours; all of them can only be given by keyword and have a default.
ADDED = frozenset({"version", "default_version", "cron", "time_zone"})
# Defaults where there were none: existing code gives these.
EASED = {
    ("durabletask.entities:EntityContext", "data_converter"),
    ("durabletask.entities:EntityMetadata", "data_converter"),
    ("durabletask.entities:EntityMetadata.from_entity_response", "data_converter"),
    ("durabletask.entities:EntityMetadata.from_entity_metadata", "data_converter"),
    ("durabletask.scheduled:ScheduleCreationOptions", "interval"),
    ("durabletask.scheduled.models:ScheduleConfiguration", "interval"),
}

ENTITIES = {
    "EntityInstanceId": "(entity, key)",
    "EntityInstanceId.parse": "(entity_id) -> EntityInstanceId",
    "EntityInstanceId.validate_entity_name": "(name) -> None",
    "EntityInstanceId.validate_key": "(key) -> None",
    "EntityContext": "(orchestration_id, operation, state, entity_id, data_converter)",
    "EntityContext.orchestration_id": "str",
    "EntityContext.operation": "str",
    "EntityContext.entity_id": "EntityInstanceId",
    "EntityContext.get_state": "(self, intended_type=None, default=None) -> Any",
    "EntityContext.set_state": "(self, new_state) -> None",
    "EntityContext.signal_entity": "(self, entity_instance_id, operation, input=None, signal_time=None) -> None",
    "EntityContext.schedule_new_orchestration": "(self, orchestration_name, input=None, instance_id=None) -> str",
    "DurableEntity": "()",
    "DurableEntity.get_state": "(self, intended_type=None, default=None) -> Any",
    "DurableEntity.set_state": "(self, state) -> None",
    "DurableEntity.signal_entity": "(self, entity_instance_id, operation, input=None, signal_time=None) -> None",
    "DurableEntity.schedule_new_orchestration": "(self, orchestration_name, input=None, instance_id=None) -> str",
    "DurableEntity.delete": "(self, input=None) -> None",
    "EntityLock": "(context)",
    "EntityMetadata": "(id, last_modified, backlog_queue_size, locked_by, includes_state, state, data_converter)",
    "EntityMetadata.from_entity_response": "(entity_response, includes_state, data_converter) -> EntityMetadata",
    "EntityMetadata.from_entity_metadata": "(entity, includes_state, data_converter) -> EntityMetadata",
    "EntityMetadata.get_state": "(self, intended_type=None) -> Any",
    "EntityMetadata.get_typed_state": "(self, intended_type=None) -> Any",
    "EntityMetadata.get_locked_by": "(self) -> EntityInstanceId | None",
    "EntityOperationFailedException": "(entity_instance_id, operation_name, failure_details)",
}
SCHEDULES = {
    "ScheduleCreationOptions": CREATION,
    "ScheduleUpdateOptions": UPDATE,
    "ScheduleDescription": DESCRIPTION,
    "ScheduleQuery": "(status=None, schedule_id_prefix=None, created_from=None, created_to=None, page_size=None)",
    "ScheduleStatus.to_dotnet_ordinal": "(self) -> int",
    "ScheduleStatus.from_dotnet": "(value) -> ScheduleStatus",
    "ScheduleNotFoundError": "(schedule_id)",
    "ScheduleClientValidationError": "(schedule_id, message)",
    "ScheduleInvalidTransitionError": "(schedule_id, from_status, to_status, operation_name)",
    **{
        name: text
        for prefix in ("", "Async")
        for name, text in {
            f"{prefix}{CLIENT}": "(client, *, operation_timeout=60)",
            f"{prefix}{CLIENT}.get_schedule_client": f"(self, schedule_id) -> {prefix}{SCHEDULE}",
            f"{prefix}{CLIENT}.create_schedule": f"(self, options) -> {prefix}{SCHEDULE}",
            f"{prefix}{CLIENT}.get_schedule": "(self, schedule_id) -> ScheduleDescription | None",
            f"{prefix}{CLIENT}.list_schedules": "(self, schedule_query=None) -> list[ScheduleDescription]",
            f"{prefix}{CLIENT}.matches_filter": "(state, schedule_query) -> bool",
            f"{prefix}{SCHEDULE}": "(client, schedule_id, *, operation_timeout=60)",
            f"{prefix}{SCHEDULE}.schedule_id": "str",
            f"{prefix}{SCHEDULE}.create": "(self, options) -> None",
            f"{prefix}{SCHEDULE}.update": "(self, options) -> None",
            f"{prefix}{SCHEDULE}.pause": "(self) -> None",
            f"{prefix}{SCHEDULE}.resume": "(self) -> None",
            f"{prefix}{SCHEDULE}.delete": "(self) -> None",
            f"{prefix}{SCHEDULE}.describe": "(self) -> ScheduleDescription",
        }.items()
    },
}
SUBMODULES = {
    "durabletask.scheduled.models:ScheduleConfiguration": "(schedule_id, orchestration_name, interval)",
    "durabletask.scheduled.models:ScheduleConfiguration.from_create_options": "(options) -> ScheduleConfiguration",
    "durabletask.scheduled.models:ScheduleConfiguration.update": "(self, options) -> set[str]",
    "durabletask.scheduled.models:ScheduleConfiguration.to_json": "(self) -> dict[str, Any]",
    "durabletask.scheduled.models:ScheduleConfiguration.from_json": "(data) -> ScheduleConfiguration",
    "durabletask.scheduled.models:ScheduleState": "()",
    "durabletask.scheduled.models:ScheduleState.refresh_execution_token": "(self) -> None",
    "durabletask.scheduled.models:ScheduleState.to_json": "(self) -> dict[str, Any]",
    "durabletask.scheduled.models:ScheduleState.from_json": "(data, converter=None) -> ScheduleState",
    "durabletask.scheduled.models:ScheduleState.to_description": "(self) -> ScheduleDescription",
    "durabletask.scheduled.orchestrator:ScheduleOperationRequest": "(entity_id, operation_name, input=None)",
    "durabletask.scheduled.transitions:is_valid_transition": "(operation, from_status, target_status) -> bool",
}
SURFACE = {
    **{f"durabletask.entities:{name}": text for name, text in ENTITIES.items()},
    **{f"durabletask.scheduled:{name}": text for name, text in SCHEDULES.items()},
    **SUBMODULES,
}
VALUES = {
    "durabletask.entities:PACKAGE_NAME": "durabletask.entities",
    "durabletask.scheduled:PACKAGE_NAME": "durabletask.scheduled",
    "durabletask.scheduled:ScheduleQuery.DEFAULT_PAGE_SIZE": 100,
    "durabletask.scheduled.schedule_entity:ENTITY_NAME": "schedule",
    "durabletask.scheduled.schedule_entity:DELETE_OPERATION": "delete",
    "durabletask.scheduled.schedule_entity:RUN_SCHEDULE_OPERATION": "run_schedule",
    "durabletask.scheduled.transitions:CREATE_SCHEDULE": "create_schedule",
    "durabletask.scheduled.transitions:UPDATE_SCHEDULE": "update_schedule",
    "durabletask.scheduled.transitions:PAUSE_SCHEDULE": "pause_schedule",
    "durabletask.scheduled.transitions:RESUME_SCHEDULE": "resume_schedule",
}


def find(path: str) -> Any:
    module, _, names = path.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def annotated(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"(?:\w+\.)+(\w+)|['\"]", r"\1", text)


def parameter(path: str, found: inspect.Parameter) -> str:
    is_eased = (path, found.name) in EASED
    if found.default is inspect.Parameter.empty or is_eased:
        assert not is_eased or found.default is not inspect.Parameter.empty
        return found.name
    shown_as = str if isinstance(found.default, scheduled.ScheduleStatus) else repr
    return f"{found.name}={shown_as(found.default)}"


def shown(path: str) -> str:
    """What is there, in the form of the table and without what is ours."""
    found = find(path)
    if isinstance(found, property):
        return annotated(inspect.signature(found.fget or found).return_annotation)
    signature = inspect.signature(found)
    parts: list[str] = []
    for one in signature.parameters.values():
        if one.name in ADDED:
            assert one.kind is one.KEYWORD_ONLY and one.default is not one.empty, f"{path}: {one}"
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(parameter(path, one))
    text = f"({', '.join(parts)})"
    return text if isinstance(found, type) else f"{text} -> {annotated(signature.return_annotation)}"


@pytest.mark.parametrize(("path", "expected"), SURFACE.items(), ids=SURFACE)
def test_the_surface_is_there(path: str, expected: str) -> None:
    assert shown(path) == expected


@pytest.mark.parametrize(("path", "expected"), VALUES.items(), ids=VALUES)
def test_values_are_as_they_were(path: str, expected: Any) -> None:
    assert find(path) == expected


def test_everything_is_exported_and_lives_where_it_did() -> None:
    assert set(entities.__all__) == {name for name in ENTITIES if "." not in name}
    listed = {name for name in SCHEDULES if "." not in name} | {"ScheduleStatus", "ScheduleError"}
    assert set(scheduled.__all__) == listed
    for name in ("DurableEntity", "EntityInstanceId", "EntityLock", "EntityContext"):
        assert getattr(task, name) is getattr(entities, name)
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        assert getattr(import_module(f"durabletask.entities.{snake}"), name) is getattr(entities, name)
    for module in ("client", "exceptions", "models", "orchestrator", "schedule_entity", "schedule_status"):
        import_module(f"durabletask.scheduled.{module}")


def test_kinds_are_as_they_were() -> None:
    assert issubclass(Schedule, entities.DurableEntity)
    assert entities.DurableEntity.__annotations__["entity_context"] is entities.EntityContext
    assert issubclass(scheduled.ScheduleStatus, str)
    assert [(s.value, s.to_dotnet_ordinal()) for s in scheduled.ScheduleStatus] == [
        ("Uninitialized", 0),
        ("Active", 1),
        ("Paused", 2),
    ]
    for error in (
        scheduled.ScheduleNotFoundError,
        scheduled.ScheduleClientValidationError,
        scheduled.ScheduleInvalidTransitionError,
    ):
        assert issubclass(error, scheduled.ScheduleError)
    for name in ("create", "update", "pause", "resume", "delete", "describe"):
        assert inspect.iscoroutinefunction(getattr(scheduled.AsyncScheduleClient, name))
    for name in ("create_schedule", "get_schedule", "list_schedules"):
        assert inspect.iscoroutinefunction(getattr(scheduled.AsyncScheduledTaskClient, name))
    assert not inspect.iscoroutinefunction(scheduled.AsyncScheduledTaskClient.get_schedule_client)
