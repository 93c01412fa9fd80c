"""Failures that workers report, made safe to keep.

Causes and properties may be nested, and a reader of protobuf gives up at 100 levels: a failure that was
just short enough to arrive would never be read back from the history, where it lies some levels deeper.
"""

from __future__ import annotations

from collections.abc import Iterable

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.struct_pb2 import Value

LEFT_OUT = "left out: nested too deeply for the task hub"


def bounded(details: pb.TaskFailureDetails, depth: int) -> pb.TaskFailureDetails:
    """The details themselves if not too deep, else a copy that is cut there and says so.

    Args:
        depth: how many causes, one within the other. Properties, each level of which takes up to three of
            protobuf's, may be nested half as deeply.
    """
    if _fits(details, depth):
        return details
    copy = pb.TaskFailureDetails()
    copy.CopyFrom(details)
    _cut(copy, depth)
    return copy


def _fits(details: pb.TaskFailureDetails, depth: int) -> bool:
    levels = 0
    current = details
    while levels < depth:
        if any(not _shallow(value, depth // 2) for value in current.properties.values()):
            return False
        if not current.HasField("innerFailure"):
            return True
        current = current.innerFailure
        levels += 1
    return False


def _cut(details: pb.TaskFailureDetails, depth: int) -> None:
    current = details
    for _ in range(depth):
        for name, value in current.properties.items():
            if not _shallow(value, depth // 2):
                current.properties[name].string_value = LEFT_OUT
        if not current.HasField("innerFailure"):
            return
        current = current.innerFailure
    current.CopyFrom(pb.TaskFailureDetails(errorType=current.errorType, errorMessage=f"(causes {LEFT_OUT})"))


def _shallow(value: Value, depth: int) -> bool:
    level: list[Value] = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return True
    return False


def _inner(value: Value) -> Iterable[Value]:
    if value.HasField("list_value"):
        return value.list_value.values
    if value.HasField("struct_value"):
        return value.struct_value.fields.values()
    return ()
