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
to_camel = pytest.importorskip("pydantic.alias_generators").to_camel
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


class Aliased(pydantic.BaseModel):
    order_id: int = pydantic.Field(alias="orderId")


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel)
    first_order: Aliased
    more_orders: list[Aliased] = []


class Holder(pydantic.BaseModel):
    """Has no aliases of its own."""

    held: dict[str, Aliased | None]


class EitherName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    order_id: int = pydantic.Field(alias="orderId")


class WrittenOtherwise(pydantic.BaseModel):
    order_id: int = pydantic.Field(serialization_alias="orderId")


class Chosen(pydantic.BaseModel):
    order_id: int = pydantic.Field(
        validation_alias=pydantic.AliasChoices("orderId", "id"), serialization_alias="orderId"
    )


class Area(pydantic.BaseModel):
    width: int

    @pydantic.computed_field
    @property
    def area(self) -> int:
        return self.width**2


class StrictArea(Area):
    model_config = pydantic.ConfigDict(extra="forbid")


class OpenArea(Area):
    model_config = pydantic.ConfigDict(extra="allow")


class Raw(pydantic.BaseModel):
    raw: pydantic.Json
    more: list[pydantic.Json[list[int]]] = []


class Tree(pydantic.BaseModel):
    branches: "list[Tree]" = []
    leaf: int = pydantic.Field(1, alias="theLeaf")


class OwnDump(Aliased):
    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        return super().model_dump(mode=mode, by_alias=True)


ALIASED = Aliased(orderId=3)
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
        (ALIASED, Aliased),
        (Camel(firstOrder=ALIASED, moreOrders=[ALIASED]), Camel),
        (Holder(held={"a": ALIASED, "b": None}), Holder),
        (Envelope[Aliased](body=ALIASED), Envelope[Aliased]),
        (EitherName(orderId=3), EitherName),
        (WrittenOtherwise(order_id=3), WrittenOtherwise),
        (Chosen(id=3), Chosen),
        (Area(width=2), Area),
        (StrictArea(width=2), StrictArea),
        (OpenArea(width=2, other=3), OpenArea),
        (Raw(raw='{"a": [1]}', more=["[1]"]), Raw),
        (Tree(branches=[Tree(theLeaf=2)]), Tree),
        (OwnDump(orderId=3), OwnDump),
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (EitherName(orderId=3), '{"order_id": 3}'),
        (WrittenOtherwise(order_id=3), '{"order_id": 3}'),
        (Area(width=2), '{"width": 2, "area": 4}'),
    ],
)
def test_what_a_model_takes_back_by_name_is_written_by_name_and_whole(value: Any, text: str) -> None:
    """Others read it as plain data."""
    assert CONVERTER.serialize(value) == text


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
