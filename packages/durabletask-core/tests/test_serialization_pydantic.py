"""Models of pydantic travel like dataclasses: as JSON, and back where their type is declared."""

from datetime import datetime, timezone
from enum import Enum
from typing import Any, Generic, TypeVar
from uuid import UUID

import pytest
from durabletask import task
from durabletask.activities import run_activity
from durabletask.registry import Registry
from durabletask.serialization import JsonDataConverter
from durabletask_proto import orchestrator_service_pb2 as pb

pydantic = pytest.importorskip("pydantic")
CONVERTER = JsonDataConverter()
T = TypeVar("T")


class Size(Enum):
    SMALL = "s"


class Item(pydantic.BaseModel):
    name: str
    size: Size = Size.SMALL


class Order(pydantic.BaseModel):
    id: UUID
    placed: datetime
    items: list[Item]


class Envelope(pydantic.BaseModel, Generic[T]):
    body: T


ORDER = Order(
    id=UUID(int=1),
    placed=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    items=[Item(name="tea"), Item(name="é")],
)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (ORDER, Order),
        ([ORDER, ORDER], list[Order]),
        ({"a": Item(name="tea")}, dict[str, Item]),
        (None, Order | None),
        (Item(name="tea"), Item | None),
        (Envelope[Item](body=Item(name="tea")), Envelope[Item]),
        (Envelope[list[Order]](body=[ORDER]), Envelope[list[Order]]),
    ],
    ids=str,
)
def test_models_come_back_where_they_are_declared(value: Any, declared: Any) -> None:
    """Lesson 31: also generic ones."""
    text = CONVERTER.serialize(value)
    found = CONVERTER.deserialize(text, declared)
    assert found == value
    if value is not None:
        assert type(found) is type(value)


def test_the_text_is_json_with_the_separators_of_json_dumps() -> None:
    """Pinned 5"""
    assert CONVERTER.serialize({"item": Item(name="é")}) == '{"item": {"name": "\\u00e9", "size": "s"}}'


@pytest.mark.parametrize("model", [Order, Envelope[Item]], ids=lambda model: model.__name__)
def test_an_annotation_alone_is_enough(model: Any) -> None:
    """Lesson 31"""
    assert CONVERTER.can_reconstruct(model)
    assert CONVERTER.can_reconstruct(list[model])


def total(ctx: task.ActivityContext, given: Envelope[Item]) -> Envelope[Item]:
    assert isinstance(given, Envelope) and isinstance(given.body, Item)
    return given


def test_an_activity_gets_and_returns_models() -> None:
    """Lesson 31"""
    registry = Registry()
    registry.add_activity(total)
    request = pb.ActivityRequest(name="total")
    request.input.value = '{"body": {"name": "tea", "size": "s"}}'
    response = run_activity(registry.activity("total"), request)
    assert response.result.value == request.input.value, response.failureDetails
