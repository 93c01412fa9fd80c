"""The identity of entities, and what clients are told of them."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest
from durabletask import task
from durabletask.entities import EntityInstanceId, EntityMetadata, EntityOperationFailedException
from durabletask.serialization import DEFAULT_DATA_CONVERTER
from durabletask_proto import orchestrator_service_pb2 as pb


def test_names_are_the_same_in_any_case_and_keys_are_not() -> None:
    """pinned 18"""
    entity_id = EntityInstanceId("Counter", "Total")
    assert (entity_id.entity, entity_id.key, str(entity_id)) == ("counter", "Total", "@counter@Total")
    assert entity_id == EntityInstanceId("COUNTER", "Total") != EntityInstanceId("counter", "total")
    assert EntityInstanceId.parse("@COUNTER@Total") == entity_id
    assert task.EntityInstanceId is EntityInstanceId


def test_ids_can_be_keys_copied_and_sent_as_values() -> None:
    entity_id = EntityInstanceId("Counter", "a")
    assert {entity_id: 1}[EntityInstanceId("counter", "a")] == 1
    assert copy.deepcopy(entity_id) == pickle.loads(pickle.dumps(entity_id)) == entity_id
    text = DEFAULT_DATA_CONVERTER.serialize({"id": entity_id})
    assert text == '{"id": "@counter@a"}'
    assert DEFAULT_DATA_CONVERTER.deserialize('"@counter@a"', EntityInstanceId) == entity_id


def test_ids_are_ordered_by_their_text() -> None:
    ids = [EntityInstanceId("b", "1"), EntityInstanceId("a", "2"), EntityInstanceId("a", "10")]
    assert [str(i) for i in sorted(ids)] == ["@a@10", "@a@2", "@b@1"]
    with pytest.raises(TypeError):
        _ = ids[0] < "@a@1"  # type: ignore[operator]


@pytest.mark.parametrize("parts", [("", "k"), ("n", ""), ("n@", "k"), ("n", "k@"), (None, "k"), ("n", None), (1, "k")])
def test_bad_parts_are_refused(parts: Any) -> None:
    with pytest.raises(ValueError, match="entity"):
        EntityInstanceId(*parts)


@pytest.mark.parametrize("text", ["", "n", "n@k", "@n", "@n@", "@@k", "@a@b@c", None])
def test_bad_texts_are_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="entity"):
        EntityInstanceId.parse(text)


@pytest.mark.parametrize(("text", "key"), [("@N@", ""), ("@n@user@example.com", "user@example.com")])
def test_ids_that_only_other_sdks_make_are_read_from_the_wire(text: str, key: str) -> None:
    entity_id = EntityInstanceId.from_wire(text)
    assert (entity_id.entity, entity_id.key) == ("n", key)
    assert EntityInstanceId.from_wire(str(entity_id)) == entity_id


def metadata(state: str | None = None, **fields: Any) -> EntityMetadata:
    message = pb.EntityMetadata(instanceId="@counter@a", **fields)
    if state is not None:
        message.serializedState.value = state
    return EntityMetadata.from_entity_metadata(message, True, DEFAULT_DATA_CONVERTER)


def test_metadata_says_what_the_task_hub_knows() -> None:
    message = pb.EntityMetadata(instanceId="@counter@a", backlogQueueSize=3)
    message.lastModifiedTime.FromDatetime(datetime(2026, 1, 2))
    message.lockedBy.value = "owner"
    found = EntityMetadata.from_entity_response(pb.GetEntityResponse(exists=True, entity=message), False)
    assert found.id == EntityInstanceId("counter", "a")
    assert found.last_modified == datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert (found.backlog_queue_size, found.locked_by, found.includes_state) == (3, "owner", False)
    assert found.get_locked_by() is None, "an orchestration holds it, not an entity"
    assert "locked_by='owner'" in repr(found)


STATES = [
    ("5", None, "5", 5),
    ("5", int, 5, 5),
    ('"5"', int, 5, 5),
    ("0", int, 0, 0),
    ("[]", list, [], []),
    (None, int, None, None),
]


@pytest.mark.parametrize(("text", "kind", "state", "typed"), STATES)
def test_a_state_is_read_as_text_or_as_a_type(text: Any, kind: Any, state: Any, typed: Any) -> None:
    """pinned 18, pinned 19"""
    assert metadata(text).get_state(kind) == state
    assert metadata(text).get_typed_state(kind) == typed


@pytest.mark.parametrize("read", ["get_state", "get_typed_state"])
def test_a_state_that_cannot_become_the_type_is_an_error(read: str) -> None:
    with pytest.raises(TypeError, match=r"@counter@a.*cannot become int"):
        getattr(metadata('"x"'), read)(int)


def test_a_state_that_was_not_asked_for_is_none() -> None:
    message = pb.EntityMetadata(instanceId="@counter@a")
    message.serializedState.value = "5"
    assert EntityMetadata.from_entity_metadata(message, False).get_state() is None


def test_the_failure_names_entity_and_operation() -> None:
    entity_id = EntityInstanceId("counter", "a")
    details = pb.TaskFailureDetails(errorType="builtins.ValueError", errorMessage="boom")
    error = EntityOperationFailedException(entity_id, "add", details)
    assert str(error) == "Operation 'add' on entity '@counter@a' failed with error: boom"
    assert (error.entity_instance_id, error.operation_name, error.failure_details) == (entity_id, "add", details)
