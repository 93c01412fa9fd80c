"""The audit log: who changed what, where, and how it ended.

One line each on the logger ``durabletask_scheduler.audit``: ``key=value`` pairs in a fixed order; values are quoted as
in JSON, so that no id can forge a line. Changes are logged at INFO, refusals at WARNING, and what workers complete or
abandon at DEBUG, for that is every work item.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.message import Message

from durabletask_scheduler import given_json
from durabletask_scheduler.entity_queries import UNLOCK_METADATA
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Reply
from durabletask_scheduler.security.roles import KINDS, Kind

logger = logging.getLogger("durabletask_scheduler.audit")

_LEVELS: Mapping[Kind, int] = {Kind.CHANGE: logging.INFO, Kind.HUBS: logging.INFO, Kind.WORK: logging.DEBUG}
_NOBODY = ""
_NO_METADATA: Mapping[str, str] = MappingProxyType({})

Entry = tuple[str, str]
"""An id, and the code with which it alone was refused; empty if it shares the outcome of the call."""
_MOST = 2000


def audited(
    who: str, rpc: str, task_hub: str, request: Message, reply: Reply, metadata: Mapping[str, str] = _NO_METADATA
) -> Reply:
    """The same reply, which also logs the outcome if the call changes something."""
    level = _LEVELS.get(KINDS[rpc])
    if level is None or not logger.isEnabledFor(level):
        return reply
    forced = _unlocked(rpc, metadata)

    def answer(response: Message | None, error: HubError | None) -> None:
        # First the lines: whoever sees the answer can find them.
        outcome = "OK" if error is None else error.code
        for subject, refusal in _EACH.get(rpc, _one)(request, response):
            logger.log(level, "%s", _line(who, rpc, task_hub, subject or forced, refusal or outcome))
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


def _one(request: Any, response: Any) -> Iterator[Entry]:
    yield _subject(request, response), ""


def _starts(request: Any, response: Any) -> Iterator[Entry]:
    """One for each instance, as if each had been started by a call of its own."""
    ids = [start.instanceId for start in request.requests]
    refusals: dict[int, str] = {}
    if response is not None:
        ids = [given or asked for given, asked in zip(response.instanceIds, ids)]
        refusals = {refusal.index: _CODES[refusal.code] for refusal in response.refusals}
    for index, instance_id in enumerate(ids):
        yield _cut(instance_id), refusals.get(index, "")


def _subject(request: Any, response: Any) -> str:
    """What the call is about: an id if it has one."""
    fields = request.DESCRIPTOR.fields_by_name
    for name, read in _SUBJECTS.items():
        if name in fields and (text := read(request)):
            return _cut(text)
    return str(getattr(response, "instanceId", ""))


def _unlocked(rpc: str, metadata: Mapping[str, str]) -> str:
    """The entity that is to be unlocked by force, which stands in the metadata of the call."""
    asked = metadata.get(UNLOCK_METADATA) if rpc == "CleanEntityStorage" else None
    if asked is None:
        return ""
    try:
        entity = given_json.parse(asked)["entity"]
    except (ValueError, KeyError, TypeError):
        entity = None
    return _cut(entity) if isinstance(entity, str) else "(by force)"


def _cut(text: str) -> str:
    """An id that is refused may be as long as a message; the log must not be filled with it."""
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _purge_filter(request: Any) -> str:
    return "(by filter)" if request.HasField("purgeInstanceFilter") else ""


_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

_EACH: Mapping[str, Callable[[Any, Any], Iterator[Entry]]] = {"StartInstances": _starts}

_SUBJECTS: Mapping[str, Callable[[Any], str]] = {
    "instanceId": lambda request: str(request.instanceId),
    "instanceBatch": lambda request: ",".join(request.instanceBatch.instanceIds),
    "purgeInstanceFilter": _purge_filter,
    "completionToken": lambda request: str(request.completionToken),
}
