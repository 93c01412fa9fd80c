"""Schedules as data and as an entity: what is kept in which form, and when the next start is."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from durabletask import scheduled
from durabletask.entities.testing import EntityFixture
from durabletask.scheduled import ScheduleCreationOptions, ScheduleQuery, ScheduleStatus, ScheduleUpdateOptions
from durabletask.scheduled.client import ScheduledTaskClient
from durabletask.scheduled.models import ScheduleConfiguration, ScheduleState
from durabletask.scheduled.schedule_entity import Schedule
from durabletask.scheduled.transitions import is_valid_transition
from durabletask.serialization import DEFAULT_DATA_CONVERTER

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
AGES = timedelta(days=365 * 9000)
NAIVE = datetime(2026, 1, 2, 3, 4, 5)
AWARE = NAIVE.replace(tzinfo=timezone.utc)


def options(interval: timedelta = HOUR, **more: Any) -> ScheduleCreationOptions:
    return ScheduleCreationOptions("nightly", "report", interval, **more)


def created(**more: Any) -> EntityFixture:
    schedule = EntityFixture(Schedule, key="nightly", default_version="2.0.0")
    schedule.run("create_schedule", options(**more))
    return schedule


def run_planned(schedule: EntityFixture) -> None:
    """Deliver the signal that the schedule sent itself last."""
    planned = schedule.signals[-1]
    assert (planned.entity_id, planned.operation) == (schedule.entity_id, "run_schedule")
    schedule.run("run_schedule", planned.input)


def state_of(schedule: EntityFixture) -> ScheduleState:
    state = schedule.get_state(ScheduleState)
    assert state is not None
    return state


def now() -> datetime:
    return datetime.now(timezone.utc)


class TestForms:
    """pinned 33"""

    def test_the_state_has_the_form_of_the_dotnet_sdk(self) -> None:
        schedule = created(
            interval=timedelta(days=1, seconds=3, microseconds=5),
            orchestration_input={"a": 1},
            orchestration_instance_id="fixed",
            start_at=datetime(2100, 1, 1),
            end_at=datetime(2101, 1, 1, tzinfo=timezone(HOUR)),
            start_immediately_if_late=True,
        )
        state = schedule.state
        token, created_at, modified_at = (
            state.pop(name) for name in ("ExecutionToken", "ScheduleCreatedAt", "ScheduleLastModifiedAt")
        )
        assert len(token) == 32 and created_at == modified_at
        assert abs(datetime.fromisoformat(created_at) - now()) < timedelta(minutes=1)
        assert state == {
            "Status": 1,
            "LastRunAt": None,
            "NextRunAt": None,
            "ScheduleConfiguration": {
                "ScheduleId": "nightly",
                "OrchestrationName": "report",
                "Interval": "1.00:00:03.0000050",
                "OrchestrationInput": '{"a": 1}',
                "OrchestrationInstanceId": "fixed",
                "StartAt": "2100-01-01T00:00:00+00:00",
                "EndAt": "2100-12-31T23:00:00+00:00",
                "StartImmediatelyIfLate": True,
            },
        }

    def test_a_state_comes_back_as_it_was(self) -> None:
        state = state_of(created(orchestration_input=[1], start_at=NAIVE, end_at=AWARE + HOUR))
        again = ScheduleState.from_json(json.loads(json.dumps(state.to_json())))
        assert again.to_description() == state.to_description()
        assert again.to_description().start_at == AWARE

    def test_states_that_others_wrote_are_read(self) -> None:
        dotnet = {
            "Status": "Paused",
            "LastRunAt": "2026-01-02T03:04:05.1234567Z",
            "NextRunAt": "2026-01-02T04:04:05.5+01:00",
            "ScheduleConfiguration": {"ScheduleId": "x", "OrchestrationName": "o", "Interval": "00:00:05"},
        }
        state = ScheduleState.from_json(dotnet)
        assert (state.status, state.last_run_at) == (ScheduleStatus.PAUSED, AWARE.replace(microsecond=123456))
        assert state.next_run_at == AWARE.replace(microsecond=500000)
        older = {
            "status": "Active",
            "execution_token": "t",
            "schedule_configuration": {
                "schedule_id": "x",
                "orchestration_name": "o",
                "interval_seconds": 5,
                "orchestration_input": {"a": 1},
            },
        }
        state = ScheduleState.from_json(older)
        description = state.to_description()
        assert (description.status, description.execution_token) == (ScheduleStatus.ACTIVE, "t")
        assert (description.interval, description.orchestration_input) == (5 * SECOND, {"a": 1})

    def test_options_travel_in_the_form_of_the_python_sdk(self) -> None:
        wire = DEFAULT_DATA_CONVERTER.serialize(options(start_at=NAIVE, orchestration_input={"a": 1}))
        assert wire is not None and json.loads(wire) == {
            "schedule_id": "nightly",
            "orchestration_name": "report",
            "interval_seconds": 3600.0,
            "orchestration_input": {"a": 1},
            "orchestration_instance_id": None,
            "start_at": "2026-01-02T03:04:05",
            "end_at": None,
            "start_immediately_if_late": False,
        }
        update = ScheduleUpdateOptions(interval=HOUR, end_at=AWARE)
        assert ScheduleUpdateOptions.from_json(update.to_json()) == update

    STATUSES = [(0, "UNINITIALIZED"), (1, "ACTIVE"), (2, "PAUSED"), ("1", "ACTIVE"), ("Paused", "PAUSED")]
    STATUSES += [(None, "UNINITIALIZED"), (7, "UNINITIALIZED"), (True, "UNINITIALIZED"), ("?", "UNINITIALIZED")]

    @pytest.mark.parametrize(("value", "name"), STATUSES)
    def test_a_status_is_read_from_its_ordinal_or_its_name(self, value: Any, name: str) -> None:
        assert ScheduleStatus.from_dotnet(value) is ScheduleStatus[name]

    BAD: list[dict[str, Any]] = [
        {"schedule_id": ""},
        {"orchestration_name": ""},
        {"interval": timedelta(0)},
        {"interval": timedelta(milliseconds=999)},
        {"start_at": AWARE, "end_at": NAIVE - SECOND},
        {"orchestration_instance_id": "@order@1"},
    ]

    @pytest.mark.parametrize("bad", BAD)
    def test_bad_options_are_refused(self, bad: dict[str, Any]) -> None:
        values: dict[str, Any] = {"schedule_id": "s", "orchestration_name": "o", "interval": HOUR, **bad}
        with pytest.raises(ValueError):
            ScheduleConfiguration.from_create_options(ScheduleCreationOptions(**values))

    @pytest.mark.parametrize("bad", [{"orchestration_name": ""}, {"orchestration_instance_id": "@order@1"}])
    def test_a_bad_update_is_refused(self, bad: dict[str, Any]) -> None:
        """The first made a state that nothing could read any more, the second a schedule that started nothing."""
        with pytest.raises(ValueError, match=next(iter(bad))):
            ScheduleUpdateOptions(**bad)

    def test_an_update_that_is_refused_changes_nothing(self) -> None:
        configuration = ScheduleConfiguration.from_create_options(options(start_at=AWARE))
        with pytest.raises(ValueError, match="start_at cannot be later than end_at"):
            configuration.update(ScheduleUpdateOptions(end_at=AWARE - HOUR, interval=SECOND))
        assert (configuration.end_at, configuration.interval) == (None, HOUR)

    def test_an_update_tells_what_it_changed(self) -> None:
        configuration = ScheduleConfiguration.from_create_options(options(start_at=NAIVE))
        assert configuration.update(ScheduleUpdateOptions(start_at=AWARE, interval=HOUR)) == set()
        assert configuration.update(ScheduleUpdateOptions(interval=SECOND, orchestration_input=0)) == {
            "interval",
            "orchestration_input",
        }

    FILTERS: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"status": ScheduleStatus.ACTIVE}, True),
        ({"status": ScheduleStatus.PAUSED}, False),
        ({"schedule_id_prefix": "night"}, True),
        ({"schedule_id_prefix": "day"}, False),
        ({"created_from": NAIVE}, False),
        ({"created_from": NAIVE - SECOND}, True),
        ({"created_to": AWARE}, False),
        ({"created_to": AWARE + SECOND}, True),
    ]

    @pytest.mark.parametrize(("filters", "selected"), FILTERS)
    def test_queries_select_with_exclusive_bounds(self, filters: dict[str, Any], selected: bool) -> None:
        state = state_of(created())
        state.schedule_created_at = AWARE
        assert ScheduledTaskClient.matches_filter(state, ScheduleQuery(**filters)) is selected


class TestRuns:
    def test_the_first_start_is_one_interval_after_the_creation(self) -> None:
        schedule = created()
        run_planned(schedule)
        state = state_of(schedule)
        assert state.schedule_created_at is not None
        assert state.next_run_at == schedule.signals[-1].signal_time == state.schedule_created_at + HOUR
        assert schedule.orchestrations == []

    def test_a_start_in_the_future_is_waited_for(self) -> None:
        begin = now() + 3 * HOUR
        schedule = created(start_at=begin, start_immediately_if_late=True)
        run_planned(schedule)
        assert state_of(schedule).next_run_at == begin and schedule.orchestrations == []

    @pytest.mark.parametrize("immediately", [True, False])
    def test_a_late_schedule_stays_in_step_with_its_beginning(self, immediately: bool) -> None:
        begin = now() - 2.5 * HOUR
        schedule = created(start_at=begin, start_immediately_if_late=immediately)
        run_planned(schedule)
        assert state_of(schedule).next_run_at == begin + 3 * HOUR
        assert len(schedule.orchestrations) == (1 if immediately else 0)

    def test_a_due_start_happens_once_with_the_time_in_its_id_and_the_workers_version(self) -> None:
        """R6, lesson 13"""
        schedule = created(orchestration_input={"a": 1})
        run_planned(schedule)
        due = state_of(schedule).next_run_at
        assert due is not None
        # The task hub delivers the planned run when it is due; this machine's clock is behind.
        run_planned(schedule)
        (started,) = schedule.orchestrations
        assert (started.name, started.input, started.version) == ("report", {"a": 1}, "2.0.0")
        assert started.instance_id == f"nightly-{due.isoformat()}"
        state = state_of(schedule)
        assert (state.last_run_at, state.next_run_at) == (due, due + HOUR)

    def test_a_fixed_instance_id_is_used_as_it_is(self) -> None:
        schedule = created(start_immediately_if_late=True, orchestration_instance_id="fixed")
        run_planned(schedule)
        assert schedule.orchestrations[0].instance_id == "fixed"

    def test_a_run_that_was_planned_before_a_change_is_void(self) -> None:
        schedule = created(start_immediately_if_late=True)
        void = schedule.signals[-1].input
        schedule.run("update_schedule", ScheduleUpdateOptions(orchestration_name="other"))
        before = schedule.state
        schedule.run("run_schedule", void)
        assert (schedule.state, schedule.orchestrations) == (before, [])
        run_planned(schedule)
        assert [o.name for o in schedule.orchestrations] == ["other"]

    def test_an_update_without_a_change_sends_nothing(self) -> None:
        schedule = created()
        before = schedule.state, len(schedule.signals)
        schedule.run("update_schedule", ScheduleUpdateOptions(interval=HOUR))
        assert (schedule.state, len(schedule.signals)) == before

    def test_an_update_keeps_the_planned_time_unless_it_changes_the_rhythm(self) -> None:
        schedule = created()
        run_planned(schedule)
        due = state_of(schedule).next_run_at
        schedule.run("update_schedule", ScheduleUpdateOptions(orchestration_input=5))
        assert schedule.signals[-1].signal_time == state_of(schedule).next_run_at == due
        schedule.run("update_schedule", ScheduleUpdateOptions(interval=2 * HOUR))
        run_planned(schedule)
        assert due is not None and state_of(schedule).next_run_at == due + HOUR

    def test_a_paused_schedule_starts_nothing_until_it_is_resumed(self) -> None:
        schedule = created(start_immediately_if_late=True)
        planned = len(schedule.signals)
        schedule.run("pause_schedule")
        assert len(schedule.signals) == planned
        run_planned(schedule)
        state = state_of(schedule)
        assert (state.status, state.next_run_at, schedule.orchestrations) == (ScheduleStatus.PAUSED, None, [])
        schedule.run("update_schedule", ScheduleUpdateOptions(orchestration_name="other"))
        assert len(schedule.signals) == planned
        schedule.run("resume_schedule")
        run_planned(schedule)
        assert [o.name for o in schedule.orchestrations] == ["other"]

    @pytest.mark.parametrize("change", ["resume_schedule", "update_schedule"])
    def test_a_start_does_not_happen_again_where_the_clock_is_behind(self, change: str) -> None:
        """The task hub's clock says when to start; that of the worker may say that it is not yet time."""
        schedule = created()
        run_planned(schedule)
        run_planned(schedule)
        first = state_of(schedule).last_run_at
        assert first is not None and first > now()
        if change == "resume_schedule":
            schedule.run("pause_schedule")
        schedule.run(change, ScheduleUpdateOptions(start_at=first - HOUR) if change == "update_schedule" else None)
        run_planned(schedule)
        assert schedule.signals[-1].signal_time == first + HOUR
        assert len(schedule.orchestrations) == 1

    def test_a_start_happens_also_if_there_is_no_time_for_another(self) -> None:
        schedule = created(interval=AGES, start_at=now() + HOUR)
        run_planned(schedule)
        run_planned(schedule)
        assert len(schedule.orchestrations) == 1
        assert schedule.signals[-1].signal_time == datetime.max.replace(tzinfo=timezone.utc)
        schedule = created(interval=AGES, end_at=now() + HOUR)
        run_planned(schedule)
        assert (schedule.orchestrations, schedule.state) == ([], None)

    def test_a_schedule_deletes_itself_after_its_end(self) -> None:
        schedule = created(start_at=now() - HOUR, end_at=now() + 2.5 * HOUR)
        run_planned(schedule)
        run_planned(schedule)
        assert len(schedule.orchestrations) == 1 and schedule.state is not None
        run_planned(schedule)
        assert len(schedule.orchestrations) == 2 and schedule.state is None
        sent = len(schedule.signals)
        run_planned(schedule)
        assert schedule.state is None and len(schedule.signals) == sent

    def test_a_schedule_that_ends_before_its_first_start_starts_nothing(self) -> None:
        schedule = created(end_at=now() + HOUR / 2)
        run_planned(schedule)
        assert (schedule.orchestrations, schedule.state) == ([], None)

    def test_creating_it_again_changes_it_in_place(self) -> None:
        schedule = created(start_immediately_if_late=True)
        run_planned(schedule)
        first = state_of(schedule)
        schedule.run("create_schedule", options(2 * HOUR))
        second = state_of(schedule)
        assert second.schedule_created_at == first.schedule_created_at and second.last_run_at == first.last_run_at
        assert second.execution_token != first.execution_token and second.next_run_at is None
        assert second.schedule_configuration is not None and second.schedule_configuration.interval == 2 * HOUR

    REFUSED = [("update_schedule", None), ("pause_schedule", None), ("resume_schedule", None), ("resume_schedule", 1)]

    @pytest.mark.parametrize(("operation", "exists"), REFUSED)
    def test_operations_that_do_not_fit_the_status_are_refused(self, operation: str, exists: Any) -> None:
        schedule = created() if exists else EntityFixture(Schedule, key="nightly")
        before = schedule.state
        data = ScheduleUpdateOptions() if operation == "update_schedule" else None
        with pytest.raises(scheduled.ScheduleInvalidTransitionError, match=f"'nightly': operation '{operation}'"):
            schedule.run(operation, data)
        assert schedule.state == before

    def test_an_unknown_operation_has_no_transitions(self) -> None:
        assert not is_valid_transition("other", ScheduleStatus.ACTIVE, ScheduleStatus.ACTIVE)
