"""Which batches of entity operations are so brief that they may be done before the scheduler goes on."""

from __future__ import annotations

import pytest
from durabletask._worker.batches import Paces
from durabletask_proto import orchestrator_service_pb2 as pb


def second_form(operations: int, entity: str = "@counter@a") -> pb.WorkItem:
    events = [pb.HistoryEvent(eventId=-1) for _ in range(operations)]
    return pb.WorkItem(entityRequestV2=pb.EntityRequest(instanceId=entity, operationRequests=events))


def first_form(operations: int) -> pb.WorkItem:
    requests = [pb.OperationRequest() for _ in range(operations)]
    return pb.WorkItem(entityRequest=pb.EntityBatchRequest(instanceId="@counter@a", operations=requests))


@pytest.mark.parametrize("batch", [first_form, second_form])
def test_a_batch_is_brief_if_the_pace_of_the_last_one_says_so(batch):
    paces = Paces()
    assert not paces.is_brief(batch(1)), "nothing is known yet"
    paces.note(batch(2), 0.000_2)
    assert [paces.is_brief(batch(count)) for count in (1, 5, 50)] == [True, True, False]


def test_one_slow_batch_is_enough_and_one_quick_batch_makes_up_for_it():
    paces = Paces()
    for seconds, brief in [(0.000_1, True), (0.5, False), (0.000_1, True)]:
        paces.note(second_form(1), seconds)
        assert paces.is_brief(second_form(1)) is brief


def test_each_name_has_its_own_pace_whatever_the_key():
    paces = Paces()
    paces.note(second_form(1, "@quick@a"), 0.000_1)
    paces.note(second_form(1, "@slow@a"), 0.5)
    assert paces.is_brief(second_form(1, "@quick@b@c"))
    assert not paces.is_brief(second_form(1, "@slow@b"))


def test_names_without_end_do_not_fill_the_memory():
    paces = Paces()
    for number in range(5_000):
        paces.note(second_form(1, f"@{number}@a"), 0.000_1)
    assert sum(paces.is_brief(second_form(1, f"@{number}@a")) for number in range(5_000)) <= 1_000


def test_a_batch_without_operations_has_a_pace_too():
    paces = Paces()
    paces.note(second_form(0), 0.000_1)
    assert paces.is_brief(second_form(1))
