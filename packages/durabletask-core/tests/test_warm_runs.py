"""The cache of warm runs: which run may go on, and which is forgotten."""

from durabletask._worker.warm import WarmRuns


class Run:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_a_run_goes_on_behind_exactly_the_turn_it_answered() -> None:
    runs: WarmRuns[Run] = WarmRuns(10, Run.close)
    run = Run()
    runs.keep("a", "token-1", run)

    assert runs.take("a", "token-1") is run
    assert runs.take("a", "token-1") is None
    assert not run.closed


def test_a_run_behind_another_turn_is_closed_not_continued() -> None:
    """The server committed another worker's turn meanwhile."""
    runs: WarmRuns[Run] = WarmRuns(10, Run.close)
    run = Run()
    runs.keep("a", "token-1", run)

    assert runs.take("a", "token-2") is None
    assert run.closed
    assert len(runs) == 0


def test_a_base_without_a_token_matches_nothing() -> None:
    runs: WarmRuns[Run] = WarmRuns(10, Run.close)
    runs.keep("a", "", Run())

    assert runs.take("a", "") is None


def test_the_least_recently_used_run_makes_room() -> None:
    runs: WarmRuns[Run] = WarmRuns(2, Run.close)
    first, second, third = Run(), Run(), Run()
    runs.keep("a", "1", first)
    runs.keep("b", "2", second)
    assert runs.take("a", "1") is first
    runs.keep("a", "3", first)

    runs.keep("c", "4", third)

    assert second.closed and not first.closed and not third.closed
    assert len(runs) == 2


def test_dropping_by_token_spares_a_newer_run() -> None:
    """A late refusal of an old completion must not cost the run that a newer turn left behind."""
    runs: WarmRuns[Run] = WarmRuns(10, Run.close)
    newer = Run()
    runs.keep("a", "token-2", newer)

    runs.drop("a", "token-1")
    assert runs.take("a", "token-2") is newer


def test_a_dropped_run_is_closed_by_the_thread_that_runs_turns() -> None:
    runs: WarmRuns[Run] = WarmRuns(10, Run.close)
    dropped = Run()
    runs.keep("a", "1", dropped)

    runs.drop("a", "1")
    assert not dropped.closed
    runs.clear()

    assert dropped.closed


def test_no_capacity_keeps_nothing() -> None:
    runs: WarmRuns[Run] = WarmRuns(0, Run.close)
    run = Run()
    runs.keep("a", "1", run)

    assert run.closed and not runs.enabled and len(runs) == 0
