"""A bulk start: what both clients share.

A server of ours starts many instances with one call, in one transaction. Any other gets a call for each, a
bounded number at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from durabletask_proto import scheduler_additions_pb2 as additions_pb

from durabletask._client.calls import Call, unchanged
from durabletask._client.health import status_code
from durabletask._client.models import BulkStartError
from durabletask.transport.additions import code_of

# Servers give other callers their turn between two of these calls.
_MOST_STARTS: Final = 2_000
# Well below what gRPC accepts unless told otherwise (4 MiB); a larger request travels by itself.
_MOST_BYTES: Final = 2 * 1024 * 1024

# The server did not look at any of the starts: it lacks the call, or a frame was too large for it.
_NOT_TAKEN = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED)


def started_ids(calls: Sequence[Call[str]], outcomes: Sequence[str | Exception]) -> list[str]:
    """The ids in the order of the requests.

    Raises:
        BulkStartError: Some were not started.
    """
    started = [outcome for outcome in outcomes if isinstance(outcome, str)]
    failures = [
        (getattr(call.request, "instanceId", ""), outcome)
        for call, outcome in zip(calls, outcomes)
        if isinstance(outcome, Exception)
    ]
    if failures:
        raise BulkStartError(failures, started)
    return started


class BulkStart:
    """How the starts of one bulk start travel together, and what becomes of each.

    Args:
        calls: The calls that would start them one by one.
    """

    def __init__(self, calls: Sequence[Call[str]]) -> None:
        self._calls = calls
        self._outcomes: dict[int, str | Exception] = {}
        self._part: list[int] = []

    def fail(self, index: int, error: Exception) -> None:
        """The call of this index failed before it was sent."""
        self._outcomes[index] = error

    def parts(self) -> Iterator[Call[additions_pb.StartInstancesResponse]]:
        """One call after the other; tell how it ended with ``answered`` or ``refused`` before the next."""
        for part in self._split():
            self._part = part
            requests: list[Any] = [self._calls[index].request for index in part]
            request = additions_pb.StartInstancesRequest(requests=requests)
            yield Call("StartInstances", request, unchanged)

    def answered(self, response: additions_pb.StartInstancesResponse) -> None:
        self._outcomes.update(zip(self._part, response.instanceIds))
        for refusal in response.refusals:
            self._outcomes[self._part[refusal.index]] = _error(refusal)

    def refused(self, error: Exception) -> None:
        """The call failed as a whole."""
        if not (isinstance(error, grpc.RpcError) and status_code(error) in _NOT_TAKEN):
            self._outcomes.update((index, error) for index in self._part)

    def left(self) -> list[Call[str]]:
        """The calls that are to be carried out one by one after all."""
        return [call for index, call in enumerate(self._calls) if index not in self._outcomes]

    def outcomes(self, left: Sequence[str | Exception]) -> list[str | Exception]:
        """Ids or errors, in the order of the calls; ``left`` are those of the calls that were left."""
        rest = iter(left)
        return [
            next(rest) if (outcome := self._outcomes.get(index)) is None else _ended(call, outcome)
            for index, call in enumerate(self._calls)
        ]

    def _split(self) -> Iterator[list[int]]:
        part: list[int] = []
        size = 0
        for index, call in enumerate(self._calls):
            if index in self._outcomes:
                continue
            call_size = call.request.ByteSize()
            if part and (len(part) == _MOST_STARTS or size + call_size > _MOST_BYTES):
                yield part
                part, size = [], 0
            part.append(index)
            size += call_size
        if part:
            yield part


def _ended(call: Call[str], outcome: str | Exception) -> str | Exception:
    """The same outcome, which the call's span has seen."""
    if call.span is None:
        return outcome
    try:
        with call.span:
            if isinstance(outcome, Exception):
                raise outcome
    except Exception as error:
        return error
    return outcome


def _error(refusal: additions_pb.Refusal) -> grpc.RpcError:
    """What a call of its own would have raised."""
    return grpc.aio.AioRpcError(code_of(refusal), grpc.aio.Metadata(), grpc.aio.Metadata(), refusal.message, "")
