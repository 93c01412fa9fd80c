"""Keeping the process on one core while that is faster."""

from __future__ import annotations

import io
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from operator import add

import pytest
from durabletask_scheduler.cores import BUSY_SECONDS, IDLE_SECONDS, CoreRules, OneCore
from durabletask_scheduler.machine import ENOUGH_WAITS, Disk, LinuxMachine, Neighbours, better_core

SECONDS = 20
needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="this machine has one core for us, or cannot tell a process which to use",
)


class FakeMachine:
    """A machine of three cores whose time passes when a test says so."""

    def __init__(self, refuses=False):
        self.now, self.taken = 100.0, 7.0
        self.cores = {0: 50.0, 1: 20.0, 2: 90.0}
        self.ours = {0: 3.0, 1: 4.0}
        self.runs_on = frozenset(self.cores)
        self.refuses = refuses
        self.readings = 0
        self.sent = {}

    def clock(self):
        return self.now

    def used(self):
        return self.taken

    def busy(self):
        self.readings += 1
        return dict(self.cores)

    def own(self):
        return dict(self.ours)

    def interrupts(self):
        return self.sent

    def run_on(self, allowed):
        if self.refuses:
            raise PermissionError("not allowed")
        self.runs_on = frozenset(allowed)

    def pass_time(self, seconds, load, **others):
        """This process takes ``load`` of what passes, others what ``core_N`` says of that core."""
        self.now += seconds
        self.taken += seconds * load
        for core in self.runs_on:
            self.cores[core] += seconds * load / len(self.runs_on)
            self.ours[core] = self.ours.get(core, 0.0) + seconds * load / len(self.runs_on)
        for name, share in others.items():
            self.cores[int(name[-1])] += seconds * share


def rules_of(machine, chance=0.0):
    return CoreRules(machine, frozenset(machine.cores), lambda: chance)


def held(machine, load=0.5, **others):
    """Rules that hold a core after their first look."""
    rules = rules_of(machine)
    machine.pass_time(0.1, load, **others)
    rules.look()
    assert rules.held is not None and machine.runs_on == {rules.held}
    return rules


def test_the_first_look_takes_the_core_that_others_leave_alone():
    machine = FakeMachine()
    assert held(machine, core_0=0.6, core_1=0.3, core_2=0.1).held == 2


def test_how_long_cores_have_worked_before_does_not_matter():
    machine = FakeMachine()
    machine.cores[2] = 1e9
    assert held(machine, core_0=0.2, core_1=0.2).held == 2


def test_a_process_that_fills_its_core_is_given_all():
    machine = FakeMachine()
    rules = held(machine)
    machine.pass_time(0.1, 0.92)
    rules.look()
    assert rules.held is not None
    machine.pass_time(0.1, 0.97)
    rules.look()
    assert rules.held is None and machine.runs_on == {0, 1, 2}


@pytest.mark.parametrize(("load", "keeps_all"), [(1.7, True), (1.0, True), (0.9, True), (0.85, False), (0.0, False)])
def test_it_keeps_all_while_it_uses_enough_of_them(load, keeps_all):
    machine = FakeMachine()
    rules = held(machine)
    machine.pass_time(0.1, 1.0)
    rules.look()
    for _ in range(3):
        machine.pass_time(0.1, load)
        rules.look()
        assert (rules.held is None) is keeps_all


def test_after_a_try_in_vain_the_next_comes_two_seconds_later():
    machine = FakeMachine()
    rules = held(machine)
    tried = []
    for _ in range(65):
        # As busy as one core allows, and no busier with all of them.
        machine.pass_time(0.1, 0.97 if rules.held is not None else 0.8)
        rules.look()
        tried.append(rules.held is None)
    assert tried.count(True) == 4
    assert not any(first and second for first, second in itertools.pairwise(tried))


def test_looks_are_rarer_while_nothing_happens():
    machine = FakeMachine()
    rules = held(machine)
    machine.pass_time(0.1, 0.3)
    assert rules.look() == BUSY_SECONDS
    machine.pass_time(0.1, 0.01)
    assert rules.look() == IDLE_SECONDS
    machine.pass_time(0.5, 0.3)
    assert rules.look() == BUSY_SECONDS


def test_it_leaves_a_core_that_others_take():
    machine = FakeMachine()
    rules = held(machine, core_0=0.5, core_1=0.5)
    machine.pass_time(1.0, 0.4, core_2=0.6, core_1=0.1, core_0=0.4)
    rules.look()
    assert rules.held == 1


def test_it_stays_where_no_other_core_is_much_better():
    machine = FakeMachine()
    rules = held(machine, core_0=0.5, core_1=0.5)
    machine.pass_time(1.0, 0.4, core_2=0.6, core_1=0.4, core_0=0.4)
    rules.look()
    assert rules.held == 2


def test_its_own_work_does_not_drive_it_away():
    machine = FakeMachine()
    rules = held(machine)
    first = rules.held
    for _ in range(5):
        machine.pass_time(1.0, 0.85)
        rules.look()
    assert rules.held == first


def test_of_two_processes_that_disturb_each_other_one_may_stay():
    machine = FakeMachine()
    rules = rules_of(machine, chance=0.7)
    machine.pass_time(0.1, 0.5, core_0=0.5, core_1=0.5)
    rules.look()
    machine.pass_time(1.0, 0.4, core_2=0.6)
    rules.look()
    assert rules.held == 2


def test_what_a_core_did_before_the_process_came_is_not_held_against_it():
    machine = FakeMachine()
    rules = held(machine, core_0=0.5, core_1=0.5)
    machine.pass_time(1.0, 0.4, core_2=0.9)
    rules.look()
    moved_to = rules.held
    assert moved_to in (0, 1)
    machine.pass_time(1.0, 0.4)
    rules.look()
    assert rules.held == moved_to


def test_the_cores_are_asked_about_once_a_second_at_most():
    machine = FakeMachine()
    rules = held(machine)
    for _ in range(20):
        machine.pass_time(0.1, 0.5)
        rules.look()
    before = machine.readings
    for _ in range(30):
        machine.pass_time(0.1, 0.5)
        rules.look()
    assert 2 <= machine.readings - before <= 3


def test_the_end_gives_everything_back():
    machine = FakeMachine()
    rules = held(machine)
    rules.end()
    assert machine.runs_on == {0, 1, 2}


def test_a_refusal_of_the_system_is_the_callers():
    machine = FakeMachine(refuses=True)
    rules = rules_of(machine)
    machine.pass_time(0.1, 0.5)
    with pytest.raises(PermissionError):
        rules.look()


@needs_cores
def test_every_thread_is_moved_and_new_ones_follow():
    allowed = os.sched_getaffinity(0)
    end = threading.Event()
    seen = {}

    def wait_for_the_end(name):
        seen[name] = threading.get_native_id()
        end.wait(SECONDS)

    first = threading.Thread(target=wait_for_the_end, args=("first",))
    second = threading.Thread(target=wait_for_the_end, args=("second",))
    core = min(allowed)
    try:
        first.start()
        LinuxMachine().run_on({core})
        second.start()
        wait_until(lambda: len(seen) == 2)
        assert [os.sched_getaffinity(thread) for thread in (0, seen["first"], seen["second"])] == [{core}] * 3
        LinuxMachine().run_on(allowed)
        assert [os.sched_getaffinity(thread) for thread in (0, seen["first"], seen["second"])] == [allowed] * 3
    finally:
        LinuxMachine().run_on(allowed)
        end.set()
        first.join(SECONDS)
        second.join(SECONDS)


@needs_cores
def test_the_machine_tells_how_long_each_core_has_worked():
    machine = LinuxMachine()
    before, used = machine.busy(), machine.used()
    assert set(before) >= os.sched_getaffinity(0)
    while machine.used() < used + 0.2:
        sum(range(1000))
    after = machine.busy()
    assert sum(after.values()) - sum(before.values()) >= 0.1
    assert all(after[core] >= before[core] for core in before)


def test_the_share_of_others_is_what_a_core_works_without_this_process():
    machine = FakeMachine()
    neighbours = Neighbours(machine, machine.cores)
    machine.pass_time(0.5, 0.9, core_0=0.2, core_2=0.7)
    assert neighbours.see() == pytest.approx({0: 0.2, 1: 0.0, 2: 0.7})
    for _ in range(9):
        machine.pass_time(1.0, 0.0)
        assert neighbours.see() is not None
    machine.pass_time(0.9, 0.9, core_0=0.2)
    assert neighbours.see() is None, "less than a second"
    machine.pass_time(0.3, 0.9, core_0=0.2, core_1=0.4)
    assert neighbours.see() == pytest.approx({0: 0.2, 1: 0.1, 2: 0.0}, abs=1e-6)


@pytest.mark.parametrize(
    ("shares", "chance", "expected"),
    [
        ({0: 0.9, 1: 0.1}, 0.0, 1),
        ({0: 0.9, 1: 0.1}, 0.6, 0),
        ({0: 0.9, 1: 0.7}, 0.0, 0),
        ({0: 0.1, 1: 0.9}, 0.0, 0),
        ({0: 0.9, 1: 0.3, 2: 0.2}, 0.0, 2),
    ],
)
def test_a_much_better_core_is_taken_half_of_the_time(shares, chance, expected):
    assert better_core(0, shares, lambda: chance) == expected


def test_a_thread_that_has_changed_cores_is_not_taken_for_others():
    machine = FakeMachine()
    neighbours = Neighbours(machine, machine.cores)
    machine.now += 1.0
    machine.cores[1] += 0.9
    machine.cores[2] += 0.1
    machine.ours[0] += 0.8
    assert neighbours.see() == pytest.approx({0: 0.0, 1: 0.2, 2: 0.1})


def test_the_first_looks_at_others_come_sooner_one_after_the_other():
    machine = FakeMachine()
    neighbours = Neighbours(machine, machine.cores)
    seen = []
    for _ in range(400):
        machine.pass_time(0.01, 0.0)
        if neighbours.see() is not None:
            seen.append(round(machine.now - 100.0, 2))
    between = [after - before for before, after in itertools.pairwise([0.0, *seen])]
    assert between == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0], abs=0.011)


@pytest.mark.parametrize(
    ("shares", "disk", "expected"),
    [
        ({0: 0.0, 1: 0.0}, 1, 1),
        ({0: 0.0, 1: 0.25}, 1, 1),
        ({0: 0.0, 1: 0.9}, 1, 0),
        ({0: 0.9, 1: 0.0}, 0, 1),
        ({0: 0.0, 1: 0.0}, 7, 0),
        ({0: 0.0, 1: 0.0}, None, 0),
    ],
)
def test_the_core_of_the_disk_is_taken_unless_others_have_it(shares, disk, expected):
    assert better_core(0, shares, lambda: 0.0, disk) == expected


class TestDisk:
    """Interrupts of devices on a machine of three cores, while this process waits for its disk a hundred times."""

    def core(self, waits=100, **sent):
        machine = FakeMachine()
        machine.sent = {device: {0: 7_000, 1: 800, 2: 90_000} for device in sent}
        disk = Disk(machine)
        machine.sent = {device: dict(enumerate(map(add, (7_000, 800, 90_000), new))) for device, new in sent.items()}
        return disk.core(waits)

    def test_it_is_the_core_to_which_one_device_sends_so_many(self):
        assert self.core(disk=(0, 300, 0)) == 1
        assert self.core(disk=(0, 3, 100), network=(0, 5, 0), unused=(0, 0, 0)) == 2

    def test_it_is_not_clear_with_too_few_or_too_many(self):
        assert self.core(disk=(0, 50, 0)) is None
        assert self.core(disk=(0, 5_000, 0)) is None

    def test_it_is_not_clear_with_a_disk_that_tells_several_cores(self):
        assert self.core(disk=(100, 100, 100)) is None

    def test_it_is_not_clear_with_two_devices_on_two_cores(self):
        assert self.core(disk=(0, 300, 0), network=(200, 0, 0)) is None
        assert self.core(disk=(0, 300, 0), network=(0, 200, 0)) == 1

    def test_few_waits_tell_nothing_and_are_counted_later(self):
        assert self.core(waits=ENOUGH_WAITS - 1, disk=(0, 100, 0)) is None
        machine = FakeMachine()
        machine.sent = {"36:": {0: 0, 1: 0}}
        disk = Disk(machine)
        machine.sent = {"36:": {0: 0, 1: 20}}
        assert disk.core(20) is None
        machine.sent = {"36:": {0: 0, 1: 40}}
        assert disk.core(40) == 1

    def test_it_is_told_once_a_second_at_most_and_sooner_at_first(self):
        machine = FakeMachine()
        machine.sent = {"36:": {0: 0, 1: 0}}
        disk, told = Disk(machine), []
        for number in range(1, 400):
            machine.pass_time(0.01, 0.0)
            machine.sent = {"36:": {0: 0, 1: 100 * number}}
            if disk.core(100 * number) is not None:
                told.append(machine.now)
        between = [after - before for before, after in itertools.pairwise(told)]
        assert between == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0], abs=0.011)

    def test_a_device_that_has_just_come_is_not_taken_for_the_disk_by_its_past(self):
        machine = FakeMachine()
        machine.sent = {}
        disk = Disk(machine)
        machine.sent = {"36:": {0: 0, 1: 200}}
        assert disk.core(100) == 1


@pytest.mark.skipif(not os.path.exists("/proc/interrupts"), reason="this system does not tell of its interrupts")
def test_the_machine_tells_of_the_interrupts_of_its_devices():
    before = LinuxMachine().interrupts()
    after = LinuxMachine().interrupts()
    assert before.keys() <= after.keys()
    for device, counts in before.items():
        assert device.rstrip(":").isdigit()
        assert all(after[device][core] >= count for core, count in counts.items())


_INTERRUPTS = """\
           CPU0       CPU2
  1:          0         17   IO-APIC   1-edge      i8042
 36:          4   32537372   PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
LOC:      40000      50000   Local timer interrupts
ERR:          0
"""


def test_only_devices_are_told_with_the_cores_that_are_there(monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(_INTERRUPTS))
    assert LinuxMachine().interrupts() == {"1:": {0: 0, 2: 17}, "36:": {0: 4, 2: 32537372}}


@pytest.mark.parametrize("content", ["CPUs 2\n 1: 2", "CPU0\n 1: x"])
def test_interrupts_that_nobody_expects_cannot_be_read(monkeypatch, content):
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(content))
    with pytest.raises(OSError, match="/proc/interrupts is not what Linux writes there"):
        LinuxMachine().interrupts()


@needs_cores
def test_the_machine_tells_what_of_a_core_is_this_process():
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    machine = LinuxMachine()
    try:
        os.sched_setaffinity(0, {core})
        before, used = machine.own(), machine.used()
        while machine.used() < used + 0.3:
            sum(range(1000))
        after = machine.own()
    finally:
        os.sched_setaffinity(0, allowed)
    assert 0.25 <= after[core] - before[core] <= 0.6
    others = sum(after.values()) - after[core] - sum(before.values()) + before[core]
    assert 0 <= others <= 0.2


@needs_cores
@pytest.mark.parametrize("content", ["", "1 (x) S 1", "cpu0 a b c d e f g h\n1 (x) " + "x " * 50])
def test_a_machine_that_says_what_nobody_expects_cannot_be_read(monkeypatch, content):
    """Sandboxes write their own ``/proc``."""

    def other(path, **_):
        assert path.startswith("/proc/")
        return io.StringIO(content)

    machine = LinuxMachine()
    monkeypatch.setattr("builtins.open", other)
    with pytest.raises(OSError, match=r"/proc/self/task/\d+/stat is not what Linux writes there"):
        machine.own()
    if "cpu0" in content:
        with pytest.raises(OSError, match="/proc/stat is not what Linux writes there"):
            machine.busy()


@needs_cores
def test_a_program_is_kept_on_one_core_until_it_stops_that():
    allowed = os.sched_getaffinity(0)
    one_core = OneCore()
    with one_core:
        assert one_core.start(), "a second start is none"
        wait_until(lambda: len(os.sched_getaffinity(0)) == 1)
    assert os.sched_getaffinity(0) == allowed
    one_core.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "durabletask-cores"]


@needs_cores
def test_a_system_that_refuses_is_reported_and_left_alone(monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError("the sandbox allows no such call")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with caplog.at_level(logging.WARNING, "durabletask_scheduler.cores"), OneCore():
        wait_until(lambda: caplog.records)
    assert "the sandbox allows no such call" in caplog.text


@needs_cores
def test_a_machine_that_can_no_longer_be_read_gives_the_cores_back(monkeypatch, caplog):
    allowed = os.sched_getaffinity(0)
    with caplog.at_level(logging.WARNING, "durabletask_scheduler.cores"), OneCore():
        wait_until(lambda: len(os.sched_getaffinity(0)) == 1)

        def fail(_):
            raise OSError("/proc is gone")

        monkeypatch.setattr(LinuxMachine, "busy", fail)
        wait_until(lambda: os.sched_getaffinity(0) == allowed)
        wait_until(lambda: "/proc is gone" in caplog.text)


@pytest.mark.parametrize("reason", ["one core", "another system", "no interpreter lock"])
def test_where_it_has_no_effect_it_says_so(monkeypatch, reason):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    if reason == "one core":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    elif reason == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with OneCore() as one_core:
        assert not one_core.start()


@needs_cores
@pytest.mark.processes
@pytest.mark.parametrize(("arguments", "is_kept"), [((), True), (("--cores", "all"), False)])
def test_serve_keeps_to_one_core_unless_told_otherwise(tmp_path, arguments, is_kept):
    command = [sys.executable, "-m", "durabletask_scheduler", "serve", "--port", "0", "--db", ":memory:", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert "ready on" in process.stdout.readline()
        allowed = os.sched_getaffinity(0)
        if is_kept:
            wait_until(lambda: all(len(cores) == 1 for cores in thread_cores(process.pid)))
        else:
            # Ten times as long as it is until the first look of one that keeps to a core.
            until = time.monotonic() + 10 * BUSY_SECONDS
            while time.monotonic() < until:
                assert set(thread_cores(process.pid)) == {frozenset(allowed)}
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def thread_cores(pid):
    return [frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir(f"/proc/{pid}/task")]


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)
