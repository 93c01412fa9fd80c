"""Failures are kept as they are reported, unless so deep that they could not be read back."""

from __future__ import annotations

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.failures import bounded
from durabletask_scheduler.hub.model import Limits
from google.protobuf.struct_pb2 import Value

DEPTH = Limits().failure_depth


def nested(causes: int, levels: int, *, structs: bool) -> pb.TaskFailureDetails:
    """A failure with so many causes, of which the innermost has a property nested so deeply."""
    details = pb.TaskFailureDetails(errorType="E", errorMessage="outermost")
    inner = details
    for _ in range(causes):
        inner = inner.innerFailure
        inner.errorType = "Inner"
    value: Value = inner.properties["deep"]
    for _ in range(levels):
        value = value.struct_value.fields["x"] if structs else value.list_value.values.add()
    value.string_value = "far down"
    return details


def read_back(details: pb.TaskFailureDetails) -> str:
    event = pb.HistoryEvent(taskFailed=pb.TaskFailedEvent(failureDetails=details))
    return str(pb.HistoryChunk.FromString(pb.HistoryChunk(events=[event]).SerializeToString()))


@pytest.mark.parametrize("structs", [True, False])
def test_what_is_within_the_bounds_is_kept_and_can_be_read_back(structs):
    details = nested(DEPTH - 1, DEPTH // 2 - 1, structs=structs)
    assert bounded(details, DEPTH) is details
    assert "far down" in read_back(details)


@pytest.mark.parametrize("structs", [True, False])
@pytest.mark.parametrize(("causes", "levels"), [(0, 40), (60, 0), (DEPTH, 0), (DEPTH - 1, DEPTH // 2), (3, 20)])
def test_what_is_deeper_is_cut_where_it_begins_and_says_so(causes, levels, structs):
    details = nested(causes, levels, structs=structs)
    before = details.SerializeToString()
    cut = bounded(details, DEPTH)
    text = read_back(cut)
    assert "nested too deeply" in text
    assert "far down" not in text
    assert cut.errorMessage == "outermost"
    assert details.SerializeToString() == before
