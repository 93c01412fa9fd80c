"""The names by which a client and a scheduler of this project agree on calls beyond the protocol.

The calls are those of ``scheduler_additions.proto``. They are a service of their own, which servers that do not
know it answer with UNIMPLEMENTED; a client asks only a server that announced it.

* ``HEADER``: initial metadata of a Hello response; its value is ``VERSION``.
* ``PACKS_HEADER``: initial metadata of a Hello response, with the same value, where work items come cheaper in
  packs than one by one: over a network, but not within one process.
* ``SERVICE``: the service's name, as in the paths of its calls.
* ``MOST_STARTS``: requests in one StartInstances at most; more are INVALID_ARGUMENT.
* ``MOST_ANSWERS``: answers in one CompleteWorkItems at most; more are INVALID_ARGUMENT.
"""

from typing import Final

HEADER: Final = "durabletask-additions"
VERSION: Final = "1"
PACKS_HEADER: Final = "durabletask-work-item-packs"
SERVICE: Final = "durabletask_proto.SchedulerAdditions"
MOST_STARTS: Final = 10_000
MOST_ANSWERS: Final = 1_000
