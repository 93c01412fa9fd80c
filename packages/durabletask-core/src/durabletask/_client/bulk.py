"""What both clients share of a bulk start."""

from collections.abc import Iterable, Sequence

from durabletask._client.calls import Call, CallBuilder
from durabletask._client.models import BulkStartError, NewOrchestration


def start_calls(
    builder: CallBuilder, new_orchestrations: Iterable[NewOrchestration], default_version: str | None
) -> list[Call[str]]:
    """Build every request before the first is sent: a bad one is an error before anything starts."""
    return [builder.start(new, default_version) for new in new_orchestrations]


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
