"""A bulk start: what both clients share.

A server of ours starts many instances with one call, in one transaction. Any other gets a call for each, a
bounded number at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from durabletask_proto import copying
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


Outcome: TypeAlias = "str | tuple[str, Exception]"
"""The id of an instance that was started, or of one that was not with its error."""


def started_ids(outcomes: Sequence[Outcome]) -> list[str]:
    """The ids in the order of the requests.

    Raises:
        BulkStartError: Some were not started.
    """
    started = [outcome for outcome in outcomes if isinstance(outcome, str)]
    failures = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    if failures:
        raise BulkStartError(failures, started)
    return started


def outcomes_of(calls: Iterable[Call[str]], results: Iterable[str | Exception]) -> list[Outcome]:
    """What the calls came to, from their results or errors."""
    return [_outcome(call, result) for call, result in zip(calls, results)]


class BulkStart:
    """How the starts of one bulk start travel together, and what becomes of each.

    Args:
        calls: The calls that would start them one by one. They are taken out of the list, and let go as soon as it is
            known what becomes of them: a bulk start may be large.
    """

    def __init__(self, calls: list[Call[str]]) -> None:
        self._count = len(calls)
        self._calls = dict(enumerate(calls))
        calls.clear()
        self._outcomes: dict[int, Outcome] = {}
        self._part: list[int] = []

    def calls(self) -> list[tuple[int, Call[str]]]:
        """Those of which that is not known yet, by their numbers."""
        return list(self._calls.items())

    def fail(self, index: int, error: Exception) -> None:
        """The call of this number failed before it was sent."""
        self._end(index, error)

    def parts(self) -> Iterator[Call[additions_pb.StartInstancesResponse]]:
        """One call after the other; tell how it ended with ``answered`` or ``refused`` before the next."""
        for part in self._split():
            self._part = part
            starts: list[Any] = [self._calls[index].request for index in part]
            request = additions_pb.StartInstancesRequest()
            copying.copy_all(starts, request.requests)
            yield Call("StartInstances", request, unchanged)

    def answered(self, response: additions_pb.StartInstancesResponse) -> None:
        errors = {self._part[refusal.index]: _error(refusal) for refusal in response.refusals}
        for index, instance_id in zip(self._part, response.instanceIds):
            self._end(index, errors.get(index, instance_id))

    def refused(self, error: Exception) -> None:
        """The call failed as a whole."""
        if not (isinstance(error, grpc.RpcError) and status_code(error) in _NOT_TAKEN):
            for index in self._part:
                self._end(index, error)

    def left(self) -> list[Call[str]]:
        """The calls that are to be carried out one by one after all."""
        return list(self._calls.values())

    def outcomes(self, left: Sequence[str | Exception]) -> list[Outcome]:
        """All of them, in the order of the calls; ``left`` are the results of the calls that were left."""
        self._outcomes.update(zip(self._calls, outcomes_of(self._calls.values(), left)))
        return [self._outcomes[index] for index in range(self._count)]

    def _end(self, index: int, result: str | Exception) -> None:
        call = self._calls.pop(index)
        self._outcomes[index] = _outcome(call, _seen_by_span(call, result))

    def _split(self) -> Iterator[list[int]]:
        part: list[int] = []
        size = 0
        for index in list(self._calls):
            call_size = self._calls[index].request.ByteSize()
            if part and (len(part) == _MOST_STARTS or size + call_size > _MOST_BYTES):
                yield part
                part, size = [], 0
            part.append(index)
            size += call_size
        if part:
            yield part


def _outcome(call: Call[str], result: str | Exception) -> Outcome:
    return result if isinstance(result, str) else (getattr(call.request, "instanceId", ""), result)


def _seen_by_span(call: Call[str], result: str | Exception) -> str | Exception:
    """The same result, which the call's span has seen."""
    if call.span is None:
        return result
    try:
        with call.span:
            if isinstance(result, Exception):
                raise result
    except Exception as error:
        return error
    return result


def _error(refusal: additions_pb.Refusal) -> grpc.RpcError:
    """What a call of its own would have raised."""
    return grpc.aio.AioRpcError(code_of(refusal), grpc.aio.Metadata(), grpc.aio.Metadata(), refusal.message, "")
