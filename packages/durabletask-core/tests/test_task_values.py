"""Tasks, retry policies, failures and names as user code sees them."""

import math
from datetime import datetime, timedelta

import pytest
from durabletask import task
from durabletask.failures import MAXIMUM_DEPTH, MAXIMUM_TEXT, details_failure, failure_details, failure_of
from durabletask.registry import ActivityNotRegisteredError
from durabletask_proto import orchestrator_service_pb2 as pb

SECOND = timedelta(seconds=1)


def policy(**changes):
    return task.RetryPolicy(**{"first_retry_interval": SECOND, "max_number_of_attempts": 3, **changes})


class TestRetryPolicy:
    @pytest.mark.parametrize(
        "changes",
        [
            {"first_retry_interval": -SECOND},
            {"max_number_of_attempts": 0},
            {"backoff_coefficient": 0.5},
            {"backoff_coefficient": math.inf},
            {"backoff_coefficient": math.nan},
            {"max_retry_interval": -SECOND},
            {"retry_timeout": -SECOND},
        ],
    )
    def test_impossible_values_are_refused(self, changes):
        """lesson 7"""
        with pytest.raises(ValueError, match=next(iter(changes))):
            policy(**changes)

    def test_the_delay_saturates(self):
        """R12, lesson 7"""
        assert policy(backoff_coefficient=2).delay_after(5_000) == timedelta.max
        assert policy(backoff_coefficient=2, max_retry_interval=SECOND * 9).delay_after(5_000) == SECOND * 9
        assert policy(first_retry_interval=timedelta(0), backoff_coefficient=2).delay_after(5_000) == timedelta(0)

    def test_delays_grow_from_the_first_interval_to_the_longest(self):
        growing = policy(backoff_coefficient=2, max_retry_interval=SECOND * 5)
        assert [growing.delay_after(n) for n in (1, 2, 3, 4)] == [SECOND, SECOND * 2, SECOND * 4, SECOND * 5]

    def test_no_coefficient_means_one(self):
        assert policy(backoff_coefficient=None).backoff_coefficient == 1.0

    def test_a_retryable_task_stops_at_its_attempts(self):
        waiting = task.RetryableTask(policy(), pb.OrchestratorAction(), datetime(2030, 1, 1), False)
        delays = []
        for _ in range(3):
            delays.append(waiting.compute_next_delay())
            waiting.increment_attempt_count()
        assert delays == [SECOND, SECOND, None]


class TestTasks:
    def test_results_and_failures_are_asked_for_at_the_right_time(self):
        done = task.CompletableTask()
        for ask in (done.get_result, done.get_exception):
            with pytest.raises(ValueError):
                ask()
        done.complete(5)
        assert (done.result, done.is_complete, done.is_failed) == (5, True, False)
        for again in (lambda: done.complete(6), lambda: done.fail("no", ValueError())):
            with pytest.raises(ValueError):
                again()

    def test_when_all_fails_with_the_first_failure_once_all_are_complete(self):
        """pinned 1"""
        one, two = task.CompletableTask(), task.CompletableTask()
        both = task.when_all([one, two])
        two.fail("two", ValueError("2"))
        assert not both.is_failed and both.pending_tasks == 1 and both.get_completed_tasks() == 1
        one.fail("one", ValueError("1"))
        assert both.is_failed and both.get_exception() is two.get_exception()
        assert task.when_all([one, two]).get_exception() is one.get_exception()

    def test_a_cancelled_child_cancels_neither_cancel_nor_the_group_silently(self):
        waiting = task.CancellableTask()
        group = task.when_all([waiting])
        assert waiting.cancel() is True
        with pytest.raises(task.TaskCancelledError):
            group.get_result()

    def test_only_cancellable_tasks_can_be_cancelled(self):
        for kind in (task.CompletableTask, task.RetryableTask, task.WhenAllTask, task.WhenAnyTask):
            assert not hasattr(kind, "cancel")
        assert hasattr(task.TimerTask, "cancel")

    def test_when_any_takes_the_first_given_of_those_complete_and_lets_go_of_the_others(self):
        slow, one, two = (task.CompletableTask() for _ in range(3))
        one.complete(1)
        two.complete(2)
        assert task.when_any([slow, two, one]).get_result() is two
        three = task.CompletableTask()
        group = task.when_any([slow, three])
        three.fail("no", ValueError())
        assert group.get_result() is three and not group.is_failed
        slow.complete(0)
        assert group.get_result() is three

    def test_a_group_of_something_else_is_refused(self):
        with pytest.raises(TypeError, match="'x'"):
            task.when_all(["x"])


class TestNames:
    def test_a_lambda_has_no_name(self):
        with pytest.raises(ValueError, match="lambda"):
            task.get_name(lambda: None)
        assert task.get_name(policy) == "policy"

    def test_error_classes_are_where_their_wire_names_say(self):
        """pinned 4"""
        wire = failure_of(task.TaskFailedError("m", ValueError("v"))).errorType
        assert wire == "durabletask.task.TaskFailedError"
        assert failure_of(ActivityNotRegisteredError("m")).errorType == "durabletask.worker.ActivityNotRegisteredError"

    def test_an_unknown_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="nothing_like_this"):
            task.nothing_like_this  # noqa: B018 - the access is what is tested


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Own(ValueError):
    pass


class Answering(Exception):
    """Asks what it was given for attributes that it does not have."""

    def __getattr__(self, name):
        return {}[name]


class Falsy(Exception):
    def __len__(self):
        return 0


class Undecided(Exception):
    def __bool__(self):
        raise TypeError("no truth value")


class BadDetails(Exception):
    details = task.FailureDetails(message=5, error_type="e", stack_trace=None)


class NoCause(Exception):
    @property
    def __cause__(self):
        raise LookupError("no cause")


class TestFailures:
    def test_a_chain_of_causes_becomes_inner_failures(self):
        try:
            try:
                raise KeyError("inner")
            except KeyError as inner:
                raise ValueError("outer") from inner
        except ValueError as error:
            details = failure_details(failure_of(error))
        assert (details.error_type, details.message) == ("builtins.ValueError", "outer")
        assert details.inner_failure.error_type == "builtins.KeyError"
        assert "test_a_chain_of_causes" in details.stack_trace

    def test_cycles_and_depth_are_bounded(self):
        """lesson 32"""
        one, two = ValueError("1"), ValueError("2")
        one.__cause__, two.__cause__ = two, one
        assert not failure_of(one).innerFailure.HasField("innerFailure")
        deep = error = ValueError("0")
        for n in range(50):
            error.__cause__ = ValueError(str(n))
            error = error.__cause__
        depth, failure = 1, failure_of(deep)
        while failure.HasField("innerFailure"):
            depth, failure = depth + 1, failure.innerFailure
        assert depth == MAXIMUM_DEPTH

    @pytest.mark.parametrize(
        ("error", "expected"),
        [(Unprintable(), "RuntimeError"), (ValueError("x" * 10**6), "cut"), (ValueError("\ud800"), "\\ud800")],
    )
    def test_awkward_texts_are_reported_anyway(self, error, expected):
        """lesson 32"""
        failure = failure_of(error)
        assert expected in failure.errorMessage
        assert len(failure.SerializeToString()) < MAXIMUM_TEXT * 2

    @pytest.mark.parametrize("kind", [Answering, BadDetails, NoCause, Falsy, Undecided])
    def test_an_exception_with_faulty_attributes_is_reported(self, kind):
        """lesson 32"""
        failure = failure_of(kind("m"))
        assert (failure.errorType, failure.errorMessage) == (f"{__name__}.{kind.__name__}", "m")

    def test_what_cannot_be_reported_is_told_by_its_type(self):
        """lesson 32"""

        def warn(text):
            raise RuntimeError(text)

        class Provider:
            def get_exception_properties(self, exception):
                return 5

        failure = failure_of(ValueError("v"), Provider(), warn)
        assert failure.errorType == "ValueError" and "RuntimeError" in failure.errorMessage

    @pytest.mark.parametrize("kind", [Falsy, Undecided, Answering])
    def test_a_cause_is_told_whatever_its_truth_value(self, kind):
        """lesson 32"""
        error = ValueError("outer")
        error.__cause__ = kind("inner")
        assert failure_of(error).innerFailure.errorMessage == "inner"

    def test_properties_come_from_the_provider(self):
        class Provider:
            def get_exception_properties(self, exception):
                return {"n": 1, "list": [True, None], "map": {1: "x"}, "other": {1}.__class__}

        details = failure_details(failure_of(ValueError(), Provider()))
        assert details.properties == {"n": 1.0, "list": [True, None], "map": {"1": "x"}, "other": "<class 'set'>"}
        assert failure_details(details_failure(details)) == details

    @pytest.mark.parametrize("answer", [5, RuntimeError("bad provider")])
    def test_a_faulty_provider_costs_only_the_properties(self, answer):
        class Provider:
            def get_exception_properties(self, exception):
                if isinstance(answer, Exception):
                    raise answer
                return answer

        warnings = []
        assert failure_details(failure_of(ValueError("v"), Provider(), warnings.append)).properties is None
        assert len(warnings) == 1

    @pytest.mark.parametrize(
        ("stored", "asked", "expected"),
        [
            ("builtins.ValueError", ValueError, True),
            ("builtins.ValueError", Exception, True),
            ("builtins.ValueError", KeyError, False),
            ("ValueError", ValueError, True),
            ("builtins.ValueError", "ValueError", True),
            ("builtins.ValueError", "other.ValueError", False),
            ("builtins.ValueError", "builtins.ValueError", True),
            (f"{__name__}.Own", ValueError, True),
            ("", Exception, False),
            ("", "ValueError", False),
        ],
    )
    def test_is_caused_by(self, stored, asked, expected):
        stored = stored.replace(f"{__name__}.Own", f"{Own.__module__}.Own")
        assert task.FailureDetails("m", stored, None).is_caused_by(asked) is expected

    @pytest.mark.parametrize("asked", [5, int, None])
    def test_is_caused_by_refuses_what_is_no_exception(self, asked):
        with pytest.raises(TypeError):
            task.FailureDetails("m", "builtins.ValueError", None).is_caused_by(asked)
