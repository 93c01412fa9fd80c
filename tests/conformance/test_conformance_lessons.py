"""What is known to hang, lose or lie elsewhere, tried over gRPC on a real file. The docstrings name the lessons."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from durabletask_scheduler import Scheduler
from durabletask_scheduler.clock import SystemClock
from durabletask_scheduler.server import ServerOptions
from durabletask_scheduler.storage import StorageUnusable
from durabletask_scheduler.storage.maintenance import check

SECOND = 10**9
HOUR = 3600 * SECOND


class TestTurnsThatAreNotAnswered:
    @pytest.fixture
    def service_options(self):
        return {"turn_max_age": SECOND // 2}

    def test_a_lease_ends_at_its_age_and_the_late_answer_is_discarded(self, site, do):
        """Lessons 46 and 47: the answer under the token of an ended lease has no effect."""
        worker = site.worker()
        site.start("a")
        late = worker.turn()
        again = worker.turn()
        assert again.completionToken != late.completionToken
        worker.answer(late, do.complete(1, "late"))
        assert site.status("a") == "PENDING"
        worker.answer(again, do.complete(1, "in time"))
        assert site.wait("a").output.value == "in time"

    def test_a_long_activity_is_not_taken_away(self, site, do):
        """Lesson 46: the age of a turn does not count for activities, while the worker's stream lives."""
        worker = site.worker()
        site.start("a")
        worker.step(do.activity(1))
        item = worker.activity()
        assert worker.nothing(1.2)
        worker.result(item)
        worker.step(do.complete())
        assert site.status("a") == "COMPLETED"


def failure_of_child(item: pb.WorkItem) -> pb.TaskFailureDetails:
    return item.orchestratorRequest.newEvents[-1].subOrchestrationInstanceFailed.failureDetails


def test_a_child_id_that_is_live_fails_the_call_and_not_the_parent(site, do):
    """Lesson 48."""
    site.start("taken", "other")
    worker = site.worker(workItemFilters=pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="order")]))
    site.start("a")
    worker.step(do.child(1, "taken"))
    item = worker.turn()
    assert failure_of_child(item).errorType == "OrchestrationAlreadyExists"
    assert "'taken'" in failure_of_child(item).errorMessage
    worker.answer(item, do.complete())
    assert (site.status("a"), site.status("taken")) == ("COMPLETED", "PENDING")


def test_a_child_id_that_has_ended_is_used_again(site, do):
    """Lesson 48."""
    worker = site.worker()
    site.start("taken")
    worker.step(do.complete(1, "old"))
    site.start("a")
    worker.step(do.child(1, "taken"))
    worker.step(do.complete(1, "new"))
    item = worker.turn()
    assert item.orchestratorRequest.newEvents[-1].subOrchestrationInstanceCompleted.result.value == "new"


def test_two_children_of_one_id_are_one_child_and_one_failure(site, do):
    """Lesson 49."""
    worker = site.worker()
    site.start("a")
    worker.step(do.child(1, "b"), do.child(2, "b"))
    items = {item.orchestratorRequest.instanceId: item for item in (worker.turn(), worker.turn())}
    failed = items["a"].orchestratorRequest.newEvents[-1].subOrchestrationInstanceFailed
    assert (failed.taskScheduledId, failed.failureDetails.errorType) == (2, "OrchestrationAlreadyExists")
    worker.answer(items["b"], do.complete(1, "child"))
    worker.answer(items["a"])
    assert worker.step(do.complete(3)) == ["orchestratorStarted", "subOrchestrationInstanceCompleted"]
    assert site.status("a") == "COMPLETED"


@pytest.mark.parametrize("wanted", ["a", "b"])
def test_a_child_cannot_have_the_id_of_its_parent_or_grandparent(site, do, wanted):
    """Lesson 49: it would replace, or wait for, itself."""
    worker = site.worker()
    site.start("a")
    worker.step(do.child(1, "b"))
    worker.step(do.child(1, wanted))
    item = worker.turn()
    assert item.orchestratorRequest.instanceId == "b"
    assert failure_of_child(item).errorType == "OrchestrationAlreadyExists"
    worker.answer(item, do.complete(2))
    worker.step(do.complete(2))
    assert site.wait("a").orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED


def test_a_terminated_instance_stays_so_whatever_still_arrives(site, do):
    """Lesson 50: results, timers, events and children's results of before do not open it again."""
    worker = site.worker()
    site.start("a")
    worker.step(do.activity(1), do.timer(2, SECOND // 5), do.child(3, "b"))
    activity, child = worker.activity(), worker.turn()
    site.terminate("a", "why")
    before = site.kinds("a")
    worker.result(activity)
    worker.answer(child, do.complete())
    site.raise_event("a")
    assert worker.nothing(0.5)
    assert (site.status("a"), site.kinds("a")) == ("TERMINATED", before)
    assert check(site.database) == []


class TestDescendants:
    """Lesson 51: a tree whose middle has ended, a > b (completed) > c (running) > d (running)."""

    @pytest.fixture
    def tree(self, site, do):
        worker = site.worker()
        site.start("a")
        worker.step(do.child(1, "b"))
        # It ends without waiting for its child.
        worker.step(do.child(1, "c"), do.complete(2))
        for _ in range(2):
            item = worker.turn()
            worker.answer(item, *([do.child(1, "d")] if item.orchestratorRequest.instanceId == "c" else []))
        worker.step()
        assert [site.status(name) for name in "abcd"] == ["RUNNING", "COMPLETED", "RUNNING", "RUNNING"]

    def test_terminate_reaches_below_a_child_that_has_ended(self, site, tree):
        site.terminate("a", '"all"', recursive=True)
        assert [site.status(name) for name in "abcd"] == ["TERMINATED", "COMPLETED", "TERMINATED", "TERMINATED"]
        assert site.state("d").output.value == '"all"'

    def test_terminate_of_an_ended_instance_reaches_what_lives_below_it(self, site, tree):
        site.terminate("b", recursive=True)
        assert [site.status(name) for name in "abcd"] == ["RUNNING", "COMPLETED", "TERMINATED", "TERMINATED"]

    def test_terminate_without_recursion_reaches_nothing_below(self, site, tree):
        site.terminate("a")
        assert [site.status(name) for name in "abcd"] == ["TERMINATED", "COMPLETED", "RUNNING", "RUNNING"]

    def test_purge_reaches_them_too_once_they_have_ended(self, site, tree):
        site.terminate("a", recursive=True)
        request = pb.PurgeInstancesRequest(instanceId="a", recursive=True, isOrchestration=True)
        assert site.stub.PurgeInstances(request).deletedInstanceCount == 4
        assert not any(site.get(name).exists for name in "abcd")


def test_a_timer_does_not_fire_early_because_something_else_arrives(site, do, tools):
    """Lesson 53."""
    worker = site.worker()
    site.start("a")
    worker.step(do.timer(1, SECOND))
    begun = time.monotonic()
    for _ in range(3):
        site.raise_event("a")
        assert "timerFired" not in worker.step()
    assert "timerFired" in worker.step(do.complete())
    assert time.monotonic() - begun > 0.9


def test_timers_that_are_due_together_all_fire_and_each_once(site, do):
    """Lesson 55."""
    worker = site.worker()
    site.start("a")
    at = time.time_ns() + SECOND // 5
    worker.step(*[do.timer(number, seconds=at // SECOND, nanos=at % SECOND) for number in range(50)])
    fired: Counter[int] = Counter()
    while len(fired) < 50:
        item = worker.turn()
        events = item.orchestratorRequest.newEvents
        fired.update(event.timerFired.timerId for event in events if event.HasField("timerFired"))
        worker.answer(item, *([do.complete()] if len(fired) == 50 else []))
    assert fired == Counter(range(50))
    assert site.kinds("a").count("timerFired") == 50


class SteppedClock:
    """A system time that can be set, beside the time that elapses."""

    def __init__(self) -> None:
        self.step = 0
        self.clock = SystemClock(lambda: time.time_ns() + self.step, time.monotonic_ns)


class TestClockSteps:
    """Lesson 54: the machine's time is set by an hour while orchestrations run."""

    stepped: SteppedClock

    @pytest.fixture
    def service_options(self) -> dict[str, object]:
        self.stepped = SteppedClock()
        return {"clock": self.stepped.clock, "turn_max_age": 3 * SECOND}

    @pytest.mark.parametrize("step", [-HOUR, HOUR])
    def test_timers_leases_and_history_go_on(self, site, do, step):
        worker = site.worker()
        site.start("a")
        worker.step(do.timer(1, SECOND // 2))
        lost_worker = site.worker(channel=site.connect())
        self.stepped.step = step
        begun = time.monotonic()
        assert worker.turn_or_from(lost_worker) is not None
        # It was never answered; its stream ends, and another worker gets it after the grace.
        lost_worker.close()
        worker.close()
        again = site.worker(channel=site.connect())
        item = again.turn()
        assert "timerFired" in [e.WhichOneof("eventType") for e in item.orchestratorRequest.newEvents]
        assert time.monotonic() - begun < 10
        again.answer(item, do.complete())
        begins = [event for event in site.history("a") if event.HasField("orchestratorStarted")]
        times = [event.timestamp.ToNanoseconds() for event in begins]
        assert times == sorted(set(times))

    def test_new_timers_take_as_long_as_they_should(self, site, do):
        worker = site.worker()
        site.start("a")
        worker.step()
        self.stepped.step = -HOUR
        site.raise_event("a")
        item = worker.turn()
        now = item.orchestratorRequest.newEvents[0].timestamp.ToNanoseconds() + SECOND // 5
        begun = time.monotonic()
        worker.answer(item, do.timer(1, seconds=now // SECOND, nanos=now % SECOND))
        assert "timerFired" in worker.step(do.complete())
        assert time.monotonic() - begun < 5


def test_the_clock_goes_on_when_the_system_s_time_is_set_back_and_follows_it_forward(caplog):
    """Lesson 54."""
    times = {"wall": 1_000 * SECOND, "elapsed": 50 * SECOND}
    clock = SystemClock(lambda: times["wall"], lambda: times["elapsed"])

    def after(elapsed: int, step: int = 0) -> int:
        times["elapsed"] += elapsed
        times["wall"] += elapsed + step
        return clock.now() // SECOND

    assert after(SECOND) == 1_001
    assert after(SECOND, -HOUR) == 1_002
    assert after(SECOND) == 1_003
    assert sum("set back" in message for message in caplog.messages) == 1
    assert after(SECOND, HOUR) == 1_004
    assert after(SECOND, HOUR) == 1_005 + 3_600


def test_fifty_clients_race_for_one_id_and_one_wins(site, do, tools):
    """Lesson 56."""
    barrier = threading.Barrier(50)

    def start(number: int) -> str:
        barrier.wait(10)
        try:
            site.start("a", input=tools.text(str(number)))
        except grpc.RpcError as error:
            return error.code().name
        return "started"

    with ThreadPoolExecutor(50) as pool:
        outcomes = Counter(pool.map(start, range(50)))
    assert outcomes == {"started": 1, "ALREADY_EXISTS": 49}
    worker = site.worker()
    worker.step(do.complete())
    assert worker.nothing(0.2)


def test_work_that_no_worker_serves_is_parked_and_costs_nothing(site, do, tools):
    """Lesson 57: an unknown orchestrator, version or activity waits, visibly, until a worker for it comes."""
    filters = pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="order", versions=["1"])])
    worker = site.worker(workItemFilters=filters)
    site.start("unknown", "nobody's")
    site.start("newer", version=tools.text("2"))
    assert worker.nothing(0.3)
    assert (site.status("unknown"), site.status("newer")) == ("PENDING", "PENDING")
    site.worker(channel=site.connect()).step(do.complete())


def test_a_turn_that_is_given_back_again_and_again_comes_at_growing_intervals(site, do):
    """Lesson 57."""
    worker = site.worker()
    site.start("a")
    begun, gaps = time.monotonic(), []
    for _ in range(2):
        item = worker.turn()
        site.stub.AbandonTaskOrchestratorWorkItem(
            pb.AbandonOrchestrationTaskRequest(completionToken=item.completionToken)
        )
        gaps.append(time.monotonic() - begun)
        begun = time.monotonic()
    item = worker.turn()
    gaps.append(time.monotonic() - begun)
    assert gaps[0] < 0.5 < 0.9 < gaps[1] < 1.8 < 1.9 < gaps[2] < 5


class Proxy:
    """Forwards bytes until it is told to go silent, as a cable that is pulled does: neither end hears of it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.silent = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if self.silent.is_set():
                    return
                target.sendall(data)
        except OSError:
            pass


class TestHalfOpenConnections:
    """Lesson 34, from the scheduler's side."""

    @pytest.fixture
    def server_options(self):
        return ServerOptions(keepalive_seconds=1.0, keepalive_timeout_seconds=1.0)

    @pytest.fixture
    def proxy(self, site) -> Iterator[Proxy]:
        proxy = Proxy(site.port)
        yield proxy
        proxy.close()

    def test_the_work_of_a_vanished_peer_goes_to_another_within_seconds(self, site, do, proxy):
        vanished = site.worker(channel=site.connect(address=f"127.0.0.1:{proxy.port}"))
        site.start("a")
        lost = vanished.turn()
        proxy.silent.set()
        begun = time.monotonic()
        other = site.worker(channel=site.connect())
        again = other.turn()
        assert again.completionToken != lost.completionToken
        assert time.monotonic() - begun < 8
        other.answer(again, do.complete())
        assert site.status("a") == "COMPLETED"


class TestTwoThatRecoverTheSame:
    """Lesson 59: of two that take up the same work, the one that lost the claim has no effect."""

    def test_the_twin_that_lost_the_turn_consumes_no_event(self, site, do):
        loser, channel = site.worker(), site.connect()
        site.start("a")
        loser.step(do.timer(1, HOUR))
        site.raise_event("a", "go", '"once"')
        lost = loser.turn()
        loser.close()
        winner = site.worker(channel=channel)
        won = winner.turn()
        for item in (lost, won):
            assert item.orchestratorRequest.newEvents[-1].eventRaised.input.value == '"once"'
        # The loser has seen the event and is done; the event belongs to the winner nevertheless.
        winner.answer(lost, do.complete(2, '"by the loser"'))
        assert site.status("a") == "RUNNING"
        winner.answer(won, do.complete(2, '"by the winner"'))
        assert site.wait("a").output.value == '"by the winner"'
        assert site.kinds("a").count("eventRaised") == 1

    def test_the_twin_that_lost_an_activity_has_no_say(self, site, do):
        loser, channel = site.worker(), site.connect()
        site.start("a")
        loser.step(do.activity(1))
        lost = loser.activity()
        loser.close()
        winner = site.worker(channel=channel)
        won = winner.activity()
        winner.result(lost, '"by the loser"')
        winner.result(won, '"by the winner"')
        item = winner.turn()
        assert item.orchestratorRequest.newEvents[-1].taskCompleted.result.value == '"by the winner"'
        assert winner.nothing(0.2)

    def test_after_a_restart_each_item_goes_to_one_worker(self, site, do):
        worker = site.worker()
        for name in "abcd":
            site.start(name)
            worker.step(do.activity(1))
        site.restart()
        charging = pb.WorkItemFilters(activities=[pb.ActivityFilter(name="charge")])
        first, second = (site.worker(channel=site.connect(), workItemFilters=charging) for _ in range(2))
        taken: Counter[str] = Counter()
        end = time.monotonic() + 20
        while sum(taken.values()) < 4 and time.monotonic() < end:
            for one in (first, second):
                while not one.nothing(0.02):
                    item = one.activity()
                    taken[item.activityRequest.orchestrationInstance.instanceId] += 1
                    one.result(item)
        assert taken == Counter("abcd")

    def test_a_second_scheduler_that_lost_the_claim_runs_nothing(self, site, do):
        worker = site.worker()
        site.start("a")
        item = worker.turn()
        for _ in range(3):
            with pytest.raises(StorageUnusable, match="in use by another scheduler"):
                Scheduler(site.database).start()
        worker.answer(item, do.complete())
        assert site.status("a") == "COMPLETED"
        assert worker.nothing(0.1)


class TestTroubleWithTheFile:
    """Lesson 60, through the calls: UNAVAILABLE, nothing half written, and it works again afterwards."""

    def trouble(self, site, do, tools, begin, end) -> None:
        worker = site.worker()
        site.start("before")
        item = worker.turn()
        begin()
        try:
            code, details = tools.refused(lambda: site.start("during"))
            assert code == "UNAVAILABLE", details
            assert "nothing was changed; try again" in details
            code, _ = tools.refused(lambda: worker.answer(item, do.activity(1)))
            assert code == "UNAVAILABLE"
        finally:
            end()
        assert not site.get("during").exists
        worker.answer(worker.turn_of("before"), do.activity(1))
        worker.result(worker.activity())
        worker.answer(worker.turn_of("before"), do.complete())
        site.start("after")
        worker.answer(worker.turn_of("after"), do.complete())
        assert [site.status(name) for name in ("before", "after")] == ["COMPLETED", "COMPLETED"]
        assert check(site.database) == []

    def test_a_full_disk(self, site, do, tools):
        resource = pytest.importorskip("resource")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        # What SQLite writes beyond this size fails as on a full disk. The log is cut first, so that it has to grow.
        with sqlite3.connect(site.database) as stranger:
            stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        stranger.close()
        self.trouble(
            site,
            do,
            tools,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, limit[1])),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        )

    def test_a_file_that_was_moved_away(self, site, do, tools):
        away = site.database.with_name("away.db")
        self.trouble(site, do, tools, lambda: os.rename(site.database, away), lambda: os.rename(away, site.database))

    def test_a_stranger_who_holds_the_file_for_a_while_delays_and_loses_nothing(self, site, do):
        worker = site.worker()
        site.start("before")
        item = worker.turn()
        stranger = sqlite3.connect(site.database, isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        during = site.stub.StartInstance.future(pb.CreateInstanceRequest(instanceId="during", name="order"))
        assert not during.done()
        stranger.execute("ROLLBACK")
        stranger.close()
        assert during.result(10).instanceId == "during"
        worker.answer(item, do.complete())
        assert site.status("before") == "COMPLETED"

    def test_many_writers_at_once_have_one_owner(self, site, do):
        """No "database is locked", however many clients write."""
        stub = TaskHubSidecarServiceStub(site.channel)

        def start(number: int) -> str:
            return stub.StartInstance(pb.CreateInstanceRequest(instanceId=f"a{number}", name="order")).instanceId

        with ThreadPoolExecutor(32) as pool:
            assert len(set(pool.map(start, range(500)))) == 500
