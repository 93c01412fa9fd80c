"""Calls that wait for an instance."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb


def test_a_wait_for_an_instance_that_does_not_exist_yet_is_held(runtime, do):
    waiting = runtime.wait("a")
    worker = runtime.worker()
    assert not runtime.get("a").exists
    assert not waiting.done()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete()).result(5)
    assert waiting.result(5).exists


def test_a_wait_for_what_is_already_there_is_answered_at_once(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete()).result(5)
    assert runtime.wait("a").result(5).orchestrationState.output.value == "1"
    assert runtime.wait("a", "WaitForInstanceStart").result(5).exists


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("TerminateInstance", pb.TerminateRequest(instanceId="a")),
        ("SuspendInstance", pb.SuspendRequest(instanceId="a")),
    ],
)
def test_a_wait_for_the_start_ends_when_the_instance_leaves_pending_otherwise(runtime, rpc, request_):
    runtime.start("a")
    waiting = runtime.wait("a", "WaitForInstanceStart")
    runtime.call(rpc, request_)
    assert waiting.result(5).exists


def test_continue_as_new_does_not_end_a_wait(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    waiting = runtime.wait("a")
    again = do.complete(1, "2", pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW)
    runtime.answer(worker.next(), again).result(5)
    second = worker.next()
    assert not waiting.done()
    runtime.answer(second, do.complete()).result(5)
    assert waiting.result(5).exists


def test_thousands_wait_without_threads_and_leave_nothing_behind_when_they_go(runtime, do):
    """Conformance case 15."""
    before = threading.active_count()
    waits = [runtime.wait("a") for _ in range(2_000)]
    kept = runtime.wait("a")
    assert threading.active_count() <= before
    for wait in waits:
        wait.cancel_call()
        wait.cancel_call()
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete()).result(5)
    assert kept.result(5).exists
    assert not any(wait.done() for wait in waits)


def test_all_who_wait_are_answered(runtime, do):
    waits = [runtime.wait("a") for _ in range(500)]
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete()).result(5)
    assert all(wait.result(5).exists for wait in waits)


class TestFewMayWait:
    @pytest.fixture
    def options(self, options):
        return dataclasses.replace(options, parked_waits=1)

    def test_one_that_goes_before_the_scheduler_has_come_to_it_leaves_its_place(self, runtime, do):
        """Both reach the scheduler while it writes: the call and its end are looked at together."""
        writes, go_on = threading.Event(), threading.Event()

        def block(commits):
            writes.set()
            assert go_on.wait(10)

        runtime.storage.before_write = block
        starting = runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="a", name="order"))
        assert writes.wait(10)
        gone = runtime.wait("a")
        gone.cancel_call()
        kept = runtime.wait("a")
        runtime.storage.before_write = lambda commits: None
        go_on.set()
        assert starting.result(5).instanceId == "a"
        runtime.answer(runtime.worker().next(), do.complete()).result(5)
        assert kept.result(5).exists
        assert not gone.done()
