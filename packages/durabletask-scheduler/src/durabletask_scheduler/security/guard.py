"""Stands before the service of a port: admits calls by who makes them, and writes the audit log.

In-process channels do not pass here: whoever runs in the scheduler's own interpreter is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Cancel, Exchange, Reply, Sink
from durabletask_scheduler.security import audit
from durabletask_scheduler.security.callers import AUTHORIZATION, Callers
from durabletask_scheduler.security.errors import KeysPending, Rejected
from durabletask_scheduler.security.roles import Principal
from durabletask_scheduler.service import TASK_HUB_METADATA
from durabletask_scheduler.transport import (
    MetadataPairs,
    Service,
    begin_answer,
    begin_call,
    begin_exchange,
    begin_stream,
)

# One text for every cause: it must not tell whether a token is unknown, expired or meant for others.
_UNAUTHENTICATED = f"this scheduler wants valid credentials: metadata '{AUTHORIZATION}' with 'Bearer TOKEN'"


class Guard:
    """A service that does nothing for callers that may not have it done.

    Args:
        service: what is guarded.
        callers: knows who may call.
        default_task_hub: of calls that name none.
    """

    def __init__(self, service: Service, callers: Callers, default_task_hub: str) -> None:
        self._service = service
        self._callers = callers
        self._default_task_hub = default_task_hub

    def call(self, rpc: str, request: Message, metadata: Mapping[str, str], reply: Reply) -> Cancel:
        task_hub = self._task_hub(metadata)
        principal = self._admit(rpc, task_hub, metadata)
        reply = audit.audited(principal.name, rpc, task_hub, request, reply, metadata)
        return begin_call(self._service, rpc, request, _without_secret(metadata), reply)

    def open_stream(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Cancel:
        pass_ = self._open(rpc, metadata)
        return begin_stream(self._service, rpc, request, _without_secret(metadata), _WatchedSink(sink, pass_))

    def open_exchange(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Exchange:
        pass_ = self._open(rpc, metadata)
        watched = _WatchedSink(sink, pass_)
        exchange = begin_exchange(self._service, rpc, request, _without_secret(metadata), watched)

        def answer(answering: str, message: Message, reply: Reply) -> None:
            if not pass_.holds():
                raise pass_.lost(answering)
            reply = audit.audited(pass_.principal.name, answering, pass_.task_hub, message, reply)
            begin_answer(exchange, answering, message, reply)

        return Exchange(exchange.cancel, answer)

    def initial_metadata(self, rpc: str) -> MetadataPairs:
        return self._service.initial_metadata(rpc)

    def _open(self, rpc: str, metadata: Mapping[str, str]) -> _Pass:
        task_hub = self._task_hub(metadata)
        principal = self._admit(rpc, task_hub, metadata)
        audit.opened(principal.name, rpc, task_hub)
        return _Pass(self._callers, principal, rpc, task_hub)

    def _task_hub(self, metadata: Mapping[str, str]) -> str:
        return metadata.get(TASK_HUB_METADATA) or self._default_task_hub

    def _admit(self, rpc: str, task_hub: str, metadata: Mapping[str, str]) -> Principal:
        try:
            principal = self._callers.identify(metadata)
        except Rejected as error:
            audit.refused(None, rpc, task_hub, "UNAUTHENTICATED", str(error))
            raise HubError("UNAUTHENTICATED", _UNAUTHENTICATED) from error
        except KeysPending as error:
            audit.refused(None, rpc, task_hub, "UNAVAILABLE", str(error))
            raise HubError("UNAVAILABLE", "the scheduler is fetching signing keys; try again") from error
        if not principal.may(rpc, task_hub):
            audit.refused(principal.name, rpc, task_hub, "PERMISSION_DENIED", "no role for it in this task hub")
            raise HubError("PERMISSION_DENIED", f"these credentials do not permit {rpc} in task hub '{task_hub}'")
        return principal


@dataclass(frozen=True)
class _Pass:
    """What somebody was admitted to, for as long as that lasts."""

    callers: Callers
    principal: Principal
    rpc: str
    task_hub: str

    def holds(self) -> bool:
        now = self.callers.current(self.principal)
        return now is not None and now.may(self.rpc, self.task_hub)

    def lost(self, rpc: str) -> HubError:
        """Log that this was refused because it holds no longer, and give what the caller is told."""
        reason = "the token that opened the stream was revoked or lost its role"
        audit.refused(self.principal.name, rpc, self.task_hub, "UNAUTHENTICATED", reason)
        return HubError("UNAUTHENTICATED", _UNAUTHENTICATED)


class _WatchedSink:
    """Sends as long as whoever opened the stream may have it."""

    def __init__(self, sink: Sink, pass_: _Pass) -> None:
        self._sink = sink
        self._pass = pass_
        self._ended = False

    def send(self, message: Message) -> None:
        if self._ended:
            return
        if self._pass.holds():
            self._sink.send(message)
        else:
            # The transport ends the stream, which gives back what was not sent.
            self.close(self._pass.lost(self._pass.rpc))

    @property
    def lends(self) -> bool:
        return self._sink.lends

    def when_read(self, go_on: Callable[[], None]) -> None:
        self._sink.when_read(go_on)

    def close(self, error: HubError | None = None) -> None:
        self._ended = True
        self._sink.close(error)


def _without_secret(metadata: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in metadata.items() if key != AUTHORIZATION}
