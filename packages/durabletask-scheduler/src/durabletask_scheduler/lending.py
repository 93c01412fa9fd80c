"""The scheduler as the threads of workers in its process see it; their side is ``durabletask.transport.lane``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.shifts import Shifts
from durabletask_scheduler.transport import Service, begin_call, status_of

Tell = Callable[[Any, "tuple[grpc.StatusCode, str] | None"], None]
"""Told once, on any thread, how an answer was taken: which one, and None for OK, else status and details.

It must not block.
"""


class Lending:
    """What lent threads do for the scheduler (see ``shifts``), and a shorter way for their answers than a call."""

    def __init__(self, service: Service, shifts: Shifts) -> None:
        self._service = service
        self.quietly = shifts.quietly
        self.help = shifts.help
        self.leave = shifts.leave
        self.stand_by = shifts.stand_by
        self.core = shifts.core

    def answer(self, rpc: str, message: Message, tell: Tell, about: Any) -> None:
        """Hand in the answer to a work item; what a unary call of the channel would do, without the call.

        Args:
            about: what ``tell`` is told about.
        """
        begin_call(self._service, rpc, message, {}, partial(_reply, tell, about))


def _reply(tell: Tell, about: Any, _: Message | None, error: HubError | None) -> None:
    tell(about, None if error is None else status_of(error))
