"""The one order of versions, and the options built on it."""

import pytest
from durabletask.versioning import (
    VersionFailureStrategy,
    VersionInfo,
    VersioningOptions,
    VersionMatchStrategy,
    VersionOrderError,
    check_version,
    compare_versions,
    versions_equal,
)
from hypothesis import given
from hypothesis import strategies as st

ASCENDING = [
    None,
    "0.9",
    "1.0a1",
    "1.0.0-rc.1",
    "1.0",
    "1.9.0",
    "1.10.0",
    "2025-9-1",
    "2025-10-23",
    "2025/11",
    "2025.12",
]


def test_the_order_of_a_table_of_versions():
    """R13, R23, lesson 14"""
    for i, left in enumerate(ASCENDING):
        for j, right in enumerate(ASCENDING):
            assert compare_versions(left, right) == (i > j) - (i < j), (left, right)


@given(st.lists(st.sampled_from(ASCENDING), min_size=3, max_size=3))
def test_the_order_is_transitive_and_antisymmetric(three):
    a, b, c = three
    assert compare_versions(a, b) == -compare_versions(b, a)
    if compare_versions(a, b) <= 0 and compare_versions(b, c) <= 0:
        assert compare_versions(a, c) <= 0


@pytest.mark.parametrize(("left", "right"), [("1.0", "1.0.0"), ("", None), ("v1.0", "1.0"), ("blue", "blue")])
def test_equal_versions(left, right):
    assert versions_equal(left, right) and compare_versions(left, right) == 0


@pytest.mark.parametrize(("left", "right"), [("release-9", "release-10"), ("blue", "1.0"), ("1.0", "blue")])
def test_opaque_versions_refuse_an_order(left, right):
    """R23"""
    with pytest.raises(VersionOrderError, match="no order"):
        compare_versions(left, right)
    assert not versions_equal(left, right)
    assert compare_versions(None, left) == -1


def test_unset_options_match_everything_and_reject():
    """R1, R2, lesson 11"""
    options = VersioningOptions()
    assert options.match_strategy is VersionMatchStrategy.NONE
    assert options.failure_strategy is VersionFailureStrategy.REJECT
    assert check_version(options, "anything") is None


@pytest.mark.parametrize("wrong", [{"match_strategy": "strict"}, {"failure_strategy": 7}])
def test_unknown_strategies_are_refused_at_construction(wrong):
    """lesson 11"""
    with pytest.raises(ValueError, match="expected one of"):
        VersioningOptions("1", **wrong)


def test_a_version_without_order_does_not_pass_current_or_older():
    options = VersioningOptions("1.0", match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER)
    mismatch = check_version(options, "blue")
    assert mismatch is not None and "does not match the worker version" in mismatch.message


@given(st.sampled_from(ASCENDING), st.sampled_from(ASCENDING))
def test_a_version_value_compares_as_the_order_says(left, right):
    """R13, R23, lesson 14"""
    order, value = compare_versions(left, right), VersionInfo(left)
    for other in (right, VersionInfo(right)):
        found = (value < other, value <= other, value == other, value != other, value >= other, value > other)
        assert found == (order < 0, order <= 0, order == 0, order != 0, order >= 0, order > 0)
    assert (str(value), value.is_orderable) == (left or "", True)


def test_an_opaque_version_value_equals_itself_and_has_no_order():
    """R23"""
    blue = VersionInfo("blue")
    assert (blue == "blue", blue == "green", blue != VersionInfo(None), blue.is_orderable) == (True, False, True, False)
    with pytest.raises(VersionOrderError, match="no order"):
        _ = blue < "green"


def test_a_version_value_is_no_number_and_no_key():
    with pytest.raises(TypeError, match="found float"):
        _ = VersionInfo("1.0") >= 1.0
    assert VersionInfo("1.0") != 1.0
    with pytest.raises(TypeError, match="unhashable"):
        hash(VersionInfo("1.0"))
