"""When schedules start: intervals, cron expressions in time zones with their changes of the clock, backfills."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

import pytest
from durabletask.entities.testing import EntityFixture
from durabletask.scheduled import ScheduleCreationOptions, ScheduleUpdateOptions
from durabletask.scheduled.models import ScheduleBackfillRequest, ScheduleConfiguration, ScheduleState
from durabletask.scheduled.recurrence import next_start, starts_between
from durabletask.scheduled.schedule_entity import Schedule

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 1, 1, 10, 30, tzinfo=timezone.utc)


def configuration(**rhythm: Any) -> ScheduleConfiguration:
    return ScheduleConfiguration.from_create_options(ScheduleCreationOptions("s", "report", **rhythm))


def starts(count: int, after: str, **rhythm: Any) -> list[str]:
    """The first starts after a time, as the clock on the wall of the expression's zone shows them."""
    found, moment = [], datetime.fromisoformat(after).astimezone(timezone.utc)
    for _ in range(count):
        moment = next_start(configuration(**rhythm), moment, moment)
        found.append(moment)
    return [moment.strftime("%m-%dT%H:%MZ") for moment in found]


INTERVALS = [
    (BEGIN - 5 * HOUR, BEGIN),
    (BEGIN, BEGIN + HOUR),
    (BEGIN + HOUR / 2, BEGIN + HOUR),
    (BEGIN + HOUR, BEGIN + 2 * HOUR),
    (BEGIN + 1000.5 * HOUR, BEGIN + 1001 * HOUR),
]


@pytest.mark.parametrize(("after", "expected"), INTERVALS)
def test_an_interval_stays_in_step_with_its_beginning(after: datetime, expected: datetime) -> None:
    assert next_start(configuration(interval=HOUR), BEGIN, after) == expected


def test_the_starts_of_a_time_are_those_within_it() -> None:
    def between(first: datetime, last: datetime) -> list[datetime]:
        return list(starts_between(configuration(interval=HOUR), BEGIN, first, last))

    assert between(BEGIN - HOUR, BEGIN + HOUR) == [BEGIN - HOUR, BEGIN, BEGIN + HOUR]
    assert between(BEGIN + timedelta(seconds=1), BEGIN + 1.5 * HOUR) == [BEGIN + HOUR]
    assert between(BEGIN + HOUR, BEGIN) == []


RHYTHMS: list[dict[str, Any]] = [{}, {"interval": HOUR, "cron": "* * * * *"}, {"interval": HOUR, "time_zone": "UTC"}]


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_a_schedule_has_one_rhythm(rhythm: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="interval"):
        ScheduleCreationOptions("s", "report", **rhythm)


def test_a_cron_expression_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(RuntimeError, match=r"pip install durabletask-entities\[cron\]"):
        configuration(cron="* * * * *")


class TestCron:
    @pytest.fixture(autouse=True)
    def needs_cronsim(self) -> None:
        pytest.importorskip("cronsim")

    BERLIN = "Europe/Berlin"
    # Berlin puts its clocks forward from 02:00 to 03:00 on 29 March 2026 (01:00Z),
    # and back from 03:00 to 02:00 on 25 October 2026 (01:00Z).
    EXPRESSIONS = [
        ("30 9 * * 1-5", None, "2026-01-02T12:00:00+00:00", ["01-05T09:30Z", "01-06T09:30Z"]),
        ("30 9 * * *", BERLIN, "2026-03-28T00:00:00+00:00", ["03-28T08:30Z", "03-29T07:30Z", "03-30T07:30Z"]),
        ("30 2 * * *", BERLIN, "2026-03-28T00:00:00+00:00", ["03-28T01:30Z", "03-29T01:00Z", "03-30T00:30Z"]),
        ("30 2 * * *", BERLIN, "2026-10-24T00:00:00+00:00", ["10-24T00:30Z", "10-25T00:30Z", "10-26T01:30Z"]),
        ("0 * * * *", BERLIN, "2026-03-29T00:30:00+00:00", ["03-29T01:00Z", "03-29T02:00Z"]),
        ("0 * * * *", BERLIN, "2026-10-24T23:30:00+00:00", ["10-25T00:00Z", "10-25T01:00Z", "10-25T02:00Z"]),
        ("0 0 29 2 *", None, "2026-01-01T00:00:00+00:00", ["02-29T00:00Z"]),
    ]

    @pytest.mark.parametrize(("cron", "zone", "after", "expected"), EXPRESSIONS)
    def test_starts_follow_the_clock_of_the_zone(
        self, cron: str, zone: str | None, after: str, expected: list[str]
    ) -> None:
        assert starts(len(expected), after, cron=cron, time_zone=zone) == expected

    def test_the_beginning_itself_may_be_a_start(self) -> None:
        begin = datetime(2026, 1, 1, 9, 0, tzinfo=timezone.utc)
        daily = configuration(cron="0 9 * * *")
        assert next_start(daily, begin, begin - HOUR) == begin
        assert next_start(daily, begin, begin) == begin + 24 * HOUR
        assert next_start(daily, begin + timedelta(seconds=1), begin - HOUR) == begin + 24 * HOUR
        found = starts_between(daily, begin, begin - 48 * HOUR, begin)
        assert list(islice(found, 5)) == [begin - 48 * HOUR, begin - 24 * HOUR, begin]

    BAD = [
        ("nonsense", None),
        ("* * * *", None),
        ("0 0 30 2 *", None),
        ("0 0 * * *", "Mars/Base"),
        ("0 0 * * *", "../x"),
    ]

    @pytest.mark.parametrize(("cron", "zone"), BAD)
    def test_what_is_no_cron_expression_or_zone_is_refused(self, cron: str, zone: str | None) -> None:
        with pytest.raises(ValueError):
            configuration(cron=cron, time_zone=zone)

    def test_a_cron_schedule_comes_back_as_it_was_and_adds_nothing_to_others(self) -> None:
        schedule = EntityFixture(Schedule, key="s")
        options = ScheduleCreationOptions("s", "report", cron="0 9 * * *", time_zone=self.BERLIN)
        assert ScheduleCreationOptions.from_json(options.to_json()) == options
        schedule.run("create_schedule", options)
        kept = schedule.state["ScheduleConfiguration"]
        assert (kept["Cron"], kept["TimeZone"], kept["Interval"]) == ("0 9 * * *", self.BERLIN, None)
        state = schedule.get_state(ScheduleState)
        assert state is not None
        description = state.to_description()
        assert (description.cron, description.time_zone, description.interval) == ("0 9 * * *", self.BERLIN, None)
        assert "Cron" not in configuration(interval=HOUR).to_json()

    def test_a_cron_schedule_plans_its_next_start(self) -> None:
        schedule = EntityFixture(Schedule, key="s")
        schedule.run("create_schedule", ScheduleCreationOptions("s", "report", cron="* * * * *"))
        for count in range(3):
            schedule.run("run_schedule", schedule.signals[-1].input)
            assert len(schedule.orchestrations) == count
        first, second = (o.instance_id.removeprefix("s-") for o in schedule.orchestrations)
        assert datetime.fromisoformat(second) - datetime.fromisoformat(first) == timedelta(minutes=1)
        assert datetime.fromisoformat(first).second == 0

    def test_one_rhythm_takes_the_place_of_the_other(self) -> None:
        changing = configuration(interval=HOUR)
        changed = changing.update(ScheduleUpdateOptions(cron="0 9 * * *", time_zone=self.BERLIN))
        assert changed == {"cron", "time_zone", "interval"} and changing.interval is None
        assert changing.update(ScheduleUpdateOptions(time_zone="UTC")) == {"time_zone"}
        with pytest.raises(ValueError):
            changing.update(ScheduleUpdateOptions(cron="nonsense"))
        assert changing.update(ScheduleUpdateOptions(interval=HOUR)) == {"cron", "time_zone", "interval"}
        assert (changing.cron, changing.time_zone) == (None, None)
        with pytest.raises(ValueError):
            changing.update(ScheduleUpdateOptions(time_zone="UTC"))


class TestTriggerAndBackfill:
    def created(self, **more: Any) -> EntityFixture:
        schedule = EntityFixture(Schedule, key="s")
        values: dict[str, Any] = {"start_at": datetime.now(timezone.utc) - 10.5 * HOUR, **more}
        schedule.run("create_schedule", ScheduleCreationOptions("s", "report", HOUR, 7, **values))
        return schedule

    def test_a_trigger_starts_one_more_and_changes_no_plan(self) -> None:
        schedule = self.created()
        schedule.run("pause_schedule")
        before = schedule.state, len(schedule.signals)
        instance_id = schedule.run("trigger_schedule")
        (started,) = schedule.orchestrations
        assert (started.instance_id, started.name, started.input) == (instance_id, "report", 7)
        assert (schedule.state, len(schedule.signals)) == before

    def test_a_backfill_starts_what_was_missed(self) -> None:
        schedule = self.created()
        state = schedule.get_state(ScheduleState)
        assert state is not None and state.schedule_configuration is not None
        begin = state.schedule_configuration.start_at
        assert begin is not None
        before = schedule.state
        request = ScheduleBackfillRequest(begin + HOUR, begin + 3 * HOUR)
        ids = schedule.run("backfill_schedule", request)
        assert ids == [o.instance_id for o in schedule.orchestrations]
        assert ids == [f"s-{(begin + n * HOUR).isoformat()}" for n in (1, 2, 3)]
        assert schedule.state == before

    def test_whatever_starts_an_orchestration_gives_it_the_workers_version(self) -> None:
        """R6, lesson 13"""
        schedule = EntityFixture(Schedule, key="s", default_version="2.0.0")
        begin = datetime.now(timezone.utc) - 2.5 * HOUR
        schedule.run("create_schedule", ScheduleCreationOptions("s", "report", HOUR, start_at=begin))
        schedule.run("trigger_schedule")
        schedule.run("backfill_schedule", ScheduleBackfillRequest(begin, begin + HOUR))
        assert [started.version for started in schedule.orchestrations] == ["2.0.0"] * 3

    def test_a_backfill_keeps_to_the_beginning_and_the_end_of_the_schedule(self) -> None:
        now = datetime.now(timezone.utc)
        schedule = self.created(start_at=now - 3 * HOUR, end_at=now - 1.5 * HOUR)
        request = ScheduleBackfillRequest(now - 100 * HOUR, now)
        expected = [f"s-{(now - n * HOUR).isoformat()}" for n in (3, 2)]
        assert schedule.run("backfill_schedule", request) == expected
        assert len(self.created(start_at=None).run("backfill_schedule", request)) == 100

    def test_a_backfill_that_makes_no_sense_is_refused(self) -> None:
        now = datetime.now(timezone.utc)
        cases = [
            (self.created(), ScheduleBackfillRequest(now, now + HOUR), "has passed"),
            (self.created(start_at=None), ScheduleBackfillRequest(now - 1001 * HOUR, now), "at most 1,000"),
            (
                self.created(orchestration_instance_id="x"),
                ScheduleBackfillRequest(now - HOUR, now),
                "fixed instance id",
            ),
            (EntityFixture(Schedule, key="none"), ScheduleBackfillRequest(now - HOUR, now), "no such schedule"),
        ]
        for schedule, request, message in cases:
            with pytest.raises(ValueError, match=message):
                schedule.run("backfill_schedule", request)
            assert schedule.orchestrations == []
