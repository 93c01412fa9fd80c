"""The audit log: who changed what, where, and how it ended.

One line each on the logger ``durabletask_scheduler.audit``: ``key=value`` pairs in a fixed order; values are quoted as
in JSON, so that no id can forge a line. Changes are logged at INFO, refusals at WARNING, and what workers complete or
abandon at DEBUG, for that is every work item.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Reply
from durabletask_scheduler.security.roles import KINDS, Kind

logger = logging.getLogger("durabletask_scheduler.audit")

_LEVELS: Mapping[Kind, int] = {Kind.CHANGE: logging.INFO, Kind.HUBS: logging.INFO, Kind.WORK: logging.DEBUG}
_NOBODY = ""
_MOST = 2000


def audited(who: str, rpc: str, task_hub: str, request: Message, reply: Reply) -> Reply:
    """The same reply, which also logs the outcome if the call changes something."""
    level = _LEVELS.get(KINDS[rpc])
    if level is None or not logger.isEnabledFor(level):
        return reply

    def answer(response: Message | None, error: HubError | None) -> None:
        # First the line: whoever sees the answer can find it.
        outcome = "OK" if error is None else error.code
        logger.log(level, "%s", _line(who, rpc, task_hub, _subject(request, response), outcome))
        reply(response, error)

    return answer


def opened(who: str, rpc: str, task_hub: str) -> None:
    """A worker asks for work from now on."""
    if KINDS[rpc] is Kind.WORK:
        logger.info("%s", _line(who, rpc, task_hub, "", "OPENED"))


def refused(who: str | None, rpc: str, task_hub: str, code: str, reason: str) -> None:
    """A call was not admitted; ``who`` is None if that is not known."""
    logger.warning("%s reason=%s", _line(who or _NOBODY, rpc, task_hub, "", code), json.dumps(reason))


def _line(who: str, rpc: str, task_hub: str, subject: str, outcome: str) -> str:
    return f"who={json.dumps(who)} what={rpc} hub={json.dumps(task_hub)} id={json.dumps(subject)} outcome={outcome}"


def _subject(request: Any, response: Any) -> str:
    """What the call is about: an id if it has one."""
    fields = request.DESCRIPTOR.fields_by_name
    for name, read in _SUBJECTS.items():
        if name in fields and (text := read(request)):
            return _cut(text)
    return str(getattr(response, "instanceId", ""))


def _cut(text: str) -> str:
    """An id that is refused may be as long as a message; the log must not be filled with it."""
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _purge_filter(request: Any) -> str:
    return "(by filter)" if request.HasField("purgeInstanceFilter") else ""


_SUBJECTS: Mapping[str, Callable[[Any], str]] = {
    "instanceId": lambda request: str(request.instanceId),
    "instanceBatch": lambda request: ",".join(request.instanceBatch.instanceIds),
    "purgeInstanceFilter": _purge_filter,
    "completionToken": lambda request: str(request.completionToken),
}
