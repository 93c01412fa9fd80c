"""The cache of warm entity states: which state is the entity's, and which is forgotten."""

import pytest
from durabletask._worker.warm_states import WarmStates


@pytest.mark.parametrize(
    ("base", "expected"), [("token-1", "state"), ("token-2", None), ("", None)], ids=["same", "other", "none"]
)
def test_a_state_is_given_out_behind_exactly_the_batch_that_left_it(base: str, expected: str | None) -> None:
    states = WarmStates(100)
    states.keep("@e@1", "token-1", "state")
    assert states.take("@e@1", base) == expected
    assert states.take("@e@1", "token-1") is None, "whatever it was, it is out of date now"
    assert len(states) == 0


def test_an_empty_state_is_a_state() -> None:
    states = WarmStates(100)
    states.keep("@e@1", "token-1", "")
    assert states.take("@e@1", "token-1") == ""


def test_the_least_recently_used_states_make_room() -> None:
    states = WarmStates(10)
    for number in range(3):
        states.keep(f"@e@{number}", "t", "x" * 3)
    states.keep("@e@0", "t2", "y" * 3)
    states.keep("@e@3", "t", "z" * 4)
    found = {number: states.take(f"@e@{number}", token) for number, token in enumerate(("t2", "t", "t", "t"))}
    assert found == {0: "yyy", 1: None, 2: "xxx", 3: "zzzz"}
    states.keep("@e@4", "t", "x" * 11)
    assert len(states) == 0, "larger than the whole cache"


def test_dropping_by_token_spares_a_newer_state() -> None:
    states = WarmStates(100)
    states.keep("@e@1", "token-2", "new")
    states.drop("@e@1", "token-1")
    states.drop("@e@2", "token-1")
    assert states.take("@e@1", "token-2") == "new"
    states.keep("@e@1", "token-3", "newer")
    states.drop("@e@1", "token-3")
    assert len(states) == 0
    states.keep("@e@1", "token-4", "newest")
    states.clear()
    assert len(states) == 0
