"""One core for threads that hand over to each other, all cores for user code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from durabletask import client, task, worker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from durabletask_scheduler import Scheduler, engine
from durabletask_scheduler.limits import ServiceOptions
from durabletask_scheduler.machine import ENOUGH_WAITS
from durabletask_scheduler.shared_core import NO_CORE, SHARED_CORE, SharedCore, start_elsewhere
from durabletask_scheduler.storage.sqlite import SqliteStorage

SECONDS = 20
needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="this machine has one core for us, or cannot tell a thread which to use",
)


class FakeMachine:
    """Its cores do what a test says; this process works on none of them."""

    def __init__(self):
        self.now = 50.0
        self.cores = dict.fromkeys(sorted(os.sched_getaffinity(0)), 0.0)
        self.sent = {"36:": dict.fromkeys(self.cores, 0)}

    def clock(self):
        return self.now

    def busy(self):
        return dict(self.cores)

    def own(self):
        return {}

    def interrupts(self):
        return {device: dict(counts) for device, counts in self.sent.items()}


def used(chance=0.0, machine=FakeMachine):
    """A core that is shared; it is the first one that the process may use."""
    core = SharedCore(machine=machine, chance=lambda: chance)
    core.use()
    assert core.core == min(os.sched_getaffinity(0))
    return core


def on_a_thread(run):
    """What it returns; a thread of its own keeps what it does to its cores from the others."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join(SECONDS)
    return found[0]


def cores():
    return os.sched_getaffinity(0)


@needs_cores
def test_a_thread_that_enters_keeps_to_the_core_until_it_leaves():
    core, allowed = used(), cores()

    def run():
        before = cores()
        core.enter()
        core.enter()
        inside = cores()
        core.leave()
        outside = cores()
        core.leave()
        return before, inside, outside, cores()

    assert on_a_thread(run) == (allowed, {core.core}, allowed, allowed)


@needs_cores
def test_a_thread_gets_back_what_it_had_and_not_more():
    core, allowed = used(), cores()
    own = {min(allowed), max(allowed)}

    def run():
        os.sched_setaffinity(0, own)
        core.enter()
        inside = cores()
        core.leave()
        return inside, cores()

    assert on_a_thread(run) == ({core.core}, own)


@needs_cores
def test_a_thread_that_its_owner_keeps_elsewhere_stays_there():
    core, elsewhere = used(), {max(cores())}

    def run():
        os.sched_setaffinity(0, elsewhere)
        core.enter()
        inside = cores()
        core.leave()
        return inside, cores()

    assert on_a_thread(run) == (elsewhere, elsewhere)


@needs_cores
def test_what_an_owner_changes_while_outside_counts():
    core, elsewhere = used(), {max(cores())}

    def run():
        core.enter()
        core.leave()
        os.sched_setaffinity(0, elsewhere)
        core.enter()
        core.leave()
        return cores()

    assert on_a_thread(run) == elsewhere


@needs_cores
def test_nothing_is_shared_before_it_is_used_and_never_if_it_is_off():
    core, allowed = SharedCore(machine=FakeMachine), cores()

    def run():
        core.enter()
        return cores()

    assert on_a_thread(run) == allowed
    NO_CORE.use()
    assert NO_CORE.core is None


@needs_cores
@pytest.mark.parametrize("chance", [0.0, 0.4999, 0.9999, 1.0])
def test_the_core_is_one_of_those_that_the_process_may_use(chance):
    core = SharedCore(machine=FakeMachine, chance=lambda: chance)
    core.use()
    assert core.core in cores()


@needs_cores
def test_where_others_take_the_core_another_one_is_shared():
    machine = FakeMachine()
    core = used(machine=lambda: machine)
    first, other = sorted(cores())[:2]

    def look_after(seconds, **busy):
        machine.now += seconds
        for name, share in busy.items():
            machine.cores[first if name == "first" else other] += seconds * share
        core.look()
        return core.core

    assert look_after(0.01, first=1.0) == first, "too soon to tell"
    for _ in range(6):
        assert look_after(1.0, first=0.2) == first
    assert look_after(0.9, first=1.0) == first, "at most once a second"
    for number in sorted(cores()):
        if number not in (first, other):
            machine.cores[number] += 100.0
    assert look_after(1.0, first=0.9, other=0.1) == other

    def run():
        core.enter()
        return cores()

    assert on_a_thread(run) == {other}


def wait_for_disk(core, machine, times, back_to):
    for _ in range(times):
        core.waited_for_disk()
        machine.sent["36:"][back_to] += 2
        if core.is_to_look:
            core.look()
            assert not core.is_to_look


@needs_cores
def test_the_core_that_the_disk_comes_back_to_is_shared():
    machine = FakeMachine()
    core = used(machine=lambda: machine)
    first, other = sorted(cores())[:2]
    wait_for_disk(core, machine, ENOUGH_WAITS - 1, other)
    assert core.core == first, "too few to tell"
    wait_for_disk(core, machine, ENOUGH_WAITS, other)
    assert core.core == other


@needs_cores
def test_the_core_of_the_disk_is_left_to_others_that_take_it():
    machine = FakeMachine()
    core = used(machine=lambda: machine)
    first, other = sorted(cores())[:2]
    machine.now += 1.0
    machine.cores[other] += 0.6
    core.look()
    wait_for_disk(core, machine, 2 * ENOUGH_WAITS, other)
    assert core.core == first


@needs_cores
@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_machine_that_does_not_tell_of_interrupts_still_has_a_shared_core(caplog, when):
    machine = FakeMachine()
    core = used(machine=lambda: machine)

    def unreadable():
        raise OSError("no interrupts here")

    if when == "later":
        core.waited_for_disk()
    machine.interrupts = unreadable
    with caplog.at_level(logging.INFO, "durabletask_scheduler.cores"):
        for _ in range(4 * ENOUGH_WAITS):
            core.waited_for_disk()
            core.look()
    assert core.core == min(cores())
    assert [record.getMessage() for record in caplog.records] == [
        "the shared core is not chosen by the disk: no interrupts here"
    ]


@pytest.mark.parametrize(
    ("synchronous", "waits"), [("FULL", True), ("NORMAL", False), ("OFF", False)], ids=["FULL", "NORMAL", "OFF"]
)
def test_only_writes_that_wait_for_the_disk_are_counted(tmp_path, synchronous, waits):
    with contextlib.closing(SqliteStorage(tmp_path / "one.db", synchronous=synchronous)) as storage:
        assert storage.waits_for_disk is waits
    with contextlib.closing(SqliteStorage(":memory:", synchronous=synchronous)) as storage:
        assert not storage.waits_for_disk


@needs_cores
def test_a_scheduler_whose_writes_wait_finds_the_core_of_the_disk(tmp_path, monkeypatch):
    """Lent threads look while the engine's own sleeps."""
    machine = FakeMachine()
    core = used(machine=lambda: machine)
    other = sorted(cores())[1]
    monkeypatch.setattr(engine, "SHARED_CORE", core)
    counted = core.waited_for_disk

    def comes_back():
        counted()
        machine.sent["36:"][other] += 2

    core.waited_for_disk = comes_back
    with Scheduler(tmp_path / "one.db") as scheduler, worker.TaskHubGrpcWorker(channel=scheduler.channel()) as working:
        working.add_orchestrator(nothing)
        working.start()
        caller = client.TaskHubGrpcClient(channel=scheduler.channel())
        for _ in range(3 * ENOUGH_WAITS):
            caller.wait_for_orchestration_completion(caller.schedule_new_orchestration(nothing), timeout=SECONDS)
    assert core.core == other


def nothing(ctx, _):
    return None


@needs_cores
def test_threads_inside_follow_to_the_next_core():
    core = used()
    first, other = sorted(cores())[:2]

    def run():
        core.enter()
        core.core = other
        core.enter()
        inside = cores()
        core.leave()
        return inside, cores()

    assert on_a_thread(run) == ({other}, cores())
    assert first != other


@needs_cores
@pytest.mark.parametrize("when", ["entering", "leaving"])
def test_a_system_that_refuses_is_reported_once_and_left_alone(monkeypatch, caplog, when):
    core = used()

    def refuse(*_):
        raise PermissionError("the sandbox allows no such call")

    def run():
        if when == "leaving":
            core.enter()
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "durabletask_scheduler.cores"):
            patched.setattr(os, "sched_setaffinity", refuse)
            for _ in range(3):
                core.enter()
                core.leave()

    on_a_thread(run)
    assert core.core is None
    assert [record.getMessage() for record in caplog.records] == [
        "the system refuses to say or set which core a thread runs on: the sandbox allows no such call"
    ]


@needs_cores
def test_a_machine_that_cannot_be_read_shares_no_core(caplog):
    def unreadable():
        raise OSError("no /proc here")

    core = SharedCore(machine=unreadable)
    with caplog.at_level(logging.INFO, "durabletask_scheduler.cores"):
        core.use()
        core.use()
    assert core.core is None
    assert [record.getMessage() for record in caplog.records] == ["no core is shared: no /proc here"]


@needs_cores
def test_a_machine_that_can_no_longer_be_read_shares_no_core(caplog):
    machine = FakeMachine()
    core = used(machine=lambda: machine)

    def unreadable():
        raise OSError("/proc is gone")

    machine.busy = unreadable
    machine.now += 2.0
    with caplog.at_level(logging.WARNING, "durabletask_scheduler.cores"):
        core.look()
    assert core.core is None
    assert "/proc is gone" in caplog.text


@needs_cores
def test_a_thread_started_elsewhere_has_all_cores():
    SHARED_CORE.use()
    allowed, found = cores(), []

    def run():
        SHARED_CORE.enter()
        inside = cores()
        thread = threading.Thread(target=lambda: found.append(cores()))
        start_elsewhere(thread)
        thread.join(SECONDS)
        return inside

    assert on_a_thread(run) == {SHARED_CORE.core}
    assert found == [allowed]


# -- a scheduler with its worker and client ----------------------------------------------------


def activity_cores(_: task.ActivityContext, __: object) -> list[int]:
    return sorted(cores())


def child_cores(_: task.ActivityContext, __: object) -> str:
    code = "import os; print(*sorted(os.sched_getaffinity(0)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def async_cores(_: task.ActivityContext, __: object) -> list[int]:
    return sorted(cores())


def report(ctx: task.OrchestrationContext, _: object):
    turns = [sorted(cores())]
    found = []
    for activity in (activity_cores, child_cores, async_cores):
        found.append((yield ctx.call_activity(activity)))
        turns.append(sorted(cores()))
    for _ in range(20):
        found.extend((yield task.when_all([ctx.call_activity(activity_cores) for _ in range(5)])))
        turns.append(sorted(cores()))
    return {"turns": turns, "found": found}


@pytest.fixture
def run():
    """Runs an orchestrator on a scheduler with these options; the scheduler goes on until the test ends."""
    opened = []

    def run(orchestrator, **options):
        scheduler = Scheduler(":memory:", service_options=ServiceOptions(**options))
        scheduler.start()
        opened.append(scheduler.stop)
        w = worker.TaskHubGrpcWorker(channel=scheduler.channel())
        w.add_orchestrator(orchestrator)
        for activity in (activity_cores, child_cores, async_cores):
            w.add_activity(activity)
        w.start()
        opened.append(w.stop)
        c = client.TaskHubGrpcClient(channel=scheduler.channel())
        state = c.wait_for_orchestration_completion(c.schedule_new_orchestration(orchestrator), timeout=SECONDS)
        assert state is not None and state.runtime_status is client.OrchestrationStatus.COMPLETED, state
        return state.get_output(), scheduler

    yield run
    for close in reversed(opened):
        close()


def threads_of_ours():
    """The cores of each thread of the scheduler and the worker."""
    ours = [
        thread for thread in threading.enumerate() if thread.name.startswith(("DurableTask_", "durabletask-engine"))
    ]
    return [os.sched_getaffinity(thread.native_id) for thread in ours]


@needs_cores
def test_user_code_and_what_it_starts_have_all_cores_while_our_threads_wait_on_one(run):
    allowed = sorted(cores())
    found, _ = run(report)
    assert all(turn == allowed for turn in found["turns"])
    assert found["found"][1] == " ".join(map(str, allowed))
    assert all(seen == allowed for seen in found["found"] if isinstance(seen, list))
    assert cores() == set(allowed), "the caller"
    wait_until(lambda: threads_of_ours() and all(seen == {SHARED_CORE.core} for seen in threads_of_ours()))


@needs_cores
def test_callbacks_of_calls_have_all_cores(run):
    _, scheduler = run(report)
    channel, seen, done = scheduler.channel(), [], threading.Event()
    call = TaskHubSidecarServiceStub(channel).GetInstance.future(pb.GetInstanceRequest(instanceId="none"))
    call.add_done_callback(lambda _: (seen.append(cores()), done.set()))
    assert done.wait(SECONDS)
    assert seen == [cores()]


@needs_cores
def test_a_service_that_is_told_to_share_none_leaves_its_threads_alone(run):
    allowed = cores()
    run(report, shares_core=False)
    assert threads_of_ours()
    assert all(seen == allowed for seen in threads_of_ours())


@needs_cores
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_an_interrupted_caller_has_its_cores_back():
    allowed = cores()

    def interrupt(*_):
        raise KeyboardInterrupt

    with Scheduler(":memory:") as scheduler:
        c = client.TaskHubGrpcClient(channel=scheduler.channel())
        instance_id = c.schedule_new_orchestration("nobody runs it")
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for number in range(20):
                signal.setitimer(signal.ITIMER_REAL, 0.001 * (number + 1))
                with pytest.raises(KeyboardInterrupt):
                    c.wait_for_orchestration_completion(instance_id, timeout=SECONDS)
                assert cores() == allowed
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)
