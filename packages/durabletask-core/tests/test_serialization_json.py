"""The default converter: JSON's own text out, declared types back."""

import enum
import json
import logging
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional, Union
from uuid import UUID

import pytest
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter
from hypothesis import given
from hypothesis import strategies as st

encode = DEFAULT_DATA_CONVERTER.serialize
decode = DEFAULT_DATA_CONVERTER.deserialize


class Color(enum.Enum):
    RED = "red"


@dataclass
class Line:
    sku: str
    price: Decimal = Decimal(0)


OPTIONAL_LINE = Optional[Line]  # noqa: UP045 - the old spelling is another type object at run time
ONE_OF_TWO = Union[Line, Color]  # noqa: UP007 - likewise


@dataclass
class Order:
    lines: list["Line"]
    color: Color | None = None
    children: "list[Order]" = field(default_factory=list)
    total: int = field(default=0, init=False)


class Hooked:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return self.n == other.n

    def to_json(self):
        return {"hooked": self.n}

    @classmethod
    def from_json(cls, value):
        return cls(value["hooked"])


class WithConverter:
    def __init__(self, line):
        self.line = line

    @classmethod
    def from_json(cls, value, converter):
        return cls(converter.coerce(value, Line))


class Pair(NamedTuple):
    a: int
    b: int


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
DECLARED = {
    datetime: st.datetimes(timezones=st.none() | st.just(timezone.utc)),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    bytes: st.binary(),
    PurePosixPath: st.sampled_from(["a", "/b/c"]).map(PurePosixPath),
    Color: st.just(Color.RED),
}


@given(JSON)
def test_plain_data_is_the_text_of_json_dumps_and_comes_back(value):
    """pinned 5"""
    assert encode(value) == (None if value is None else json.dumps(value))
    assert decode(encode(value)) == value


@given(st.one_of(*[st.tuples(st.just(kind), values) for kind, values in DECLARED.items()]))
def test_common_types_come_back_where_they_are_declared(case):
    """R19"""
    kind, value = case
    found = decode(encode(value), kind)
    assert found == value and isinstance(found, kind)
    assert DEFAULT_DATA_CONVERTER.can_reconstruct(kind)


@pytest.mark.parametrize("value", [{"b", "a"}, frozenset({3, 1, 2})])
def test_sets_come_back_and_their_text_has_one_order(value):
    """R19"""
    kind = set[str] if isinstance(value, set) else frozenset[int]
    assert json.loads(encode(value)) == sorted(value)
    assert decode(encode(value), kind) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_has_no_json_number_is_refused(value):
    """R18, lesson 9"""
    with pytest.raises(ValueError, match="NaN or an infinity"):
        encode(value)


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): 3}])
def test_what_has_no_form_is_refused_by_name(value):
    with pytest.raises(TypeError, match="cannot be encoded") as caught:
        encode(value)
    assert isinstance(caught.value.__cause__, TypeError)


def test_hooks_come_before_all_else_and_nest():
    """pinned 23"""

    @dataclass
    class Both(Hooked):
        n: int

    assert encode([Both(1), {"x": Hooked(2)}]) == '[{"hooked": 1}, {"x": {"hooked": 2}}]'
    assert decode('{"hooked": 3}', Hooked) == Hooked(3)
    assert decode('{"sku": "s"}', WithConverter).line == Line("s")


def test_dataclasses_nest_and_unknown_keys_are_ignored():
    order = Order([Line("s", Decimal("1.50"))], Color.RED, [Order([])])
    assert decode(encode(order), Order) == order
    assert decode('{"lines": [], "surplus": 1}', Order) == Order([])


CASES = [
    ('["1"]', list[int], [1]),
    ('{"a": "1"}', dict[str, int], {"a": 1}),
    ('["1", "2"]', tuple[int, str], (1, "2")),
    ('["1", "2"]', tuple[int, ...], (1, 2)),
    ('["1"]', tuple[int, str], ["1"]),
    ('{"sku": "s"}', OPTIONAL_LINE, Line("s")),
    ('{"sku": "s"}', Line | None, Line("s")),
    ('{"sku": "s"}', ONE_OF_TWO, {"sku": "s"}),
    ("null", Line, None),
    ("5", Any, 5),
    ('"5"', int, 5),
    ('"x"', int, "x"),
    ("", Line, None),
    (None, Line, None),
]


@pytest.mark.parametrize(("data", "kind", "expected"), CASES)
def test_declared_types(data, kind, expected):
    """pinned 23"""
    assert decode(data, kind) == expected


def test_what_does_not_fit_is_passed_on_with_a_debug_record(caplog):
    """pinned 23"""
    with caplog.at_level(logging.DEBUG, logger="durabletask"):
        assert decode('"x"', int) == "x"
    assert "coerce" in caplog.text


def test_payloads_of_old_releases():
    """pinned 24"""
    data = '{"sku": "s", "inner": {"x": 1, "__durabletask_autoobject__": true}, "__durabletask_autoobject__": true}'
    assert decode(data) == SimpleNamespace(sku="s", inner=SimpleNamespace(x=1))
    assert decode(data, Line) == Line("s")


def test_namedtuples_and_namespaces():
    assert encode(Pair(1, 2)) == "[1, 2]"
    assert encode(SimpleNamespace(a=1)) == '{"a": 1}'


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Line, True),
        (Hooked, True),
        (list[Line], True),
        (set[int], True),
        (OPTIONAL_LINE, True),
        (dict[str, Line], False),
        (tuple[Line, int], False),
        (int, False),
        (str, False),
        (list[int], False),
        (Any, False),
    ],
)
def test_what_an_annotation_alone_reconstructs(kind, expected):
    assert DEFAULT_DATA_CONVERTER.can_reconstruct(kind) is expected


def test_text_that_is_not_json_is_a_clear_error():
    with pytest.raises(ValueError, match="not JSON"):
        decode("{")


def test_a_converter_of_ones_own_reconstructs_nothing_unless_it_says_so():
    class Own(DataConverter):
        def serialize(self, value):
            return str(value)

        def deserialize(self, data, target_type=None):
            return data

        def coerce(self, value, target_type=None):
            return value

    assert Own().can_reconstruct(Line) is False


@pytest.mark.parametrize(
    "special", ["", '"', "\\", "\x00", "\x1f", "\x7f", "\n", "\u00e9", "\u2028", "\ud83d", "\U0001f600"]
)
@pytest.mark.parametrize(
    ("at", "length"),
    [(0, 1_200), (600, 1_200), (1_200, 1_200), (16_383, 40_000), (16_384, 40_000), (40_000, 40_000)],
)
def test_long_texts_have_the_text_of_json_dumps_too(special, at, length):
    value = "x" * at + special + "y" * (length - at)
    text = encode(value)
    assert text == json.dumps(value)
    assert decode(text) == value


@pytest.mark.parametrize("inside", ['"', "\\", "\x01", "\\x"])
def test_a_long_text_that_is_not_json_is_a_clear_error(inside):
    with pytest.raises(ValueError, match="The payload is not JSON"):
        decode('"' + "x" * 1_200 + inside + '"')


LONG = "x" * 2_000


@pytest.mark.parametrize(
    "value",
    [
        {"a": LONG},
        {"a": LONG, "b": [1, {"c": None}], "d": 1.5, "e": True},
        {'a"é': LONG + "é", "b": LONG + '"'},
        {1: LONG, "b": 2},
        {True: LONG, None: 1},
        [LONG],
        [LONG, 1, None, True, "short", LONG + "\n"],
        (LONG, 1),
        {"outer": {"inner": LONG}},
        [LONG] * 100,
        {str(number): LONG for number in range(100)},
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_holds_long_texts_has_the_text_of_json_dumps(value):
    text = encode(value)
    assert text == json.dumps(value)
    assert decode(text) == json.loads(text)


@pytest.mark.parametrize("value", [0, -7, 10**40, True, False], ids=repr)
def test_whole_numbers_and_truth_values_have_the_text_of_json_dumps(value):
    assert encode(value) == json.dumps(value)


def test_what_holds_long_texts_and_itself_is_refused():
    value = {"text": LONG}
    value["self"] = value
    with pytest.raises(ValueError, match="Circular"):
        encode(value)


@pytest.mark.parametrize("value", [{"text": LONG, "n": float("nan")}, [LONG, object()]], ids=["nan", "object"])
def test_what_has_no_form_is_refused_beside_long_texts_too(value):
    with pytest.raises((TypeError, ValueError), match=f"A value of type {type(value).__name__}"):
        encode(value)
