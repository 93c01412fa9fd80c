"""What one transaction will hold, and who waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import Message

from durabletask_scheduler.hub.model import Commit, HubError, Instance
from durabletask_scheduler.instances import Entry
from durabletask_scheduler.rpc import Reply

logger = logging.getLogger("durabletask_scheduler")

AfterWrite = Callable[[], None]

SMALL_GROUP = 4
"""Up to so many commits make a group that is worth waiting for, or sharing; larger ones fill by themselves."""


@dataclass(slots=True)
class Group:
    """The commits that gather while the previous group is being written.

    Attributes:
        changed: entries whose instances the commits change, in memory already.
        answers: responses that may leave once the group is durable.
        after: readers of the committed state: they come once the group is written or given up.
        finished: instances whose waiters are to be looked at then.
        begun: when the first commit came.
        is_urgent: a caller waits for it.
        is_put_off: it was left unwritten so that what comes next can share the write.
    """

    commits: list[Commit] = field(default_factory=list)
    changed: dict[Entry, None] = field(default_factory=dict)
    answers: list[tuple[Reply, Message | None, HubError | None]] = field(default_factory=list)
    after: list[tuple[Reply, AfterWrite]] = field(default_factory=list)
    finished: list[Instance] = field(default_factory=list)
    begun: int = 0
    is_urgent: bool = False
    is_put_off: bool = False

    @property
    def has_work(self) -> bool:
        return bool(self.commits or self.answers or self.after)

    def fail(self, error: HubError) -> None:
        """Tell those who wanted a change that nothing of the group happened."""
        for reply, _, _ in self.answers:
            send_reply(reply, None, error)


def send_reply(reply: Reply, response: Message | None, error: HubError | None) -> None:
    """Answer a caller; a transport that fails to take the answer must not harm the others."""
    try:
        reply(response, error)
    except Exception:
        logger.exception("A transport failed to take an answer")
