"""The names by which a client and a scheduler of this project agree on calls beyond the protocol.

The calls are those of ``scheduler_additions.proto``. They are a service of their own, which servers that do not
know it answer with UNIMPLEMENTED; a client asks only a server that announced it.

* ``HEADER``: initial metadata of a Hello response; its value is ``VERSION``.
* ``STREAM_HEADER``: initial metadata of a Hello response, with the same value, where work items and answers come
  cheaper by Work than by calls of the protocol: over a network, but not within one process.
* ``TASK_HUB_HEADER``: initial metadata of the same response: what the metadata of Hello named as task hub, for
  ``WorkerFrame.taskHub``.
* ``SERVICE``: the service's name, as in the paths of its calls.
* ``MOST_STARTS``: requests in one StartInstances at most; more are INVALID_ARGUMENT.
* ``MOST_FRAME_BYTES``: what the parts of one frame have together at most, unless it is a single work item;
  answers that are larger than half of it go by the calls of the protocol.
"""

from typing import Final

HEADER: Final = "durabletask-additions"
VERSION: Final = "1"
STREAM_HEADER: Final = "durabletask-work-stream"
TASK_HUB_HEADER: Final = "durabletask-task-hub"
SERVICE: Final = "durabletask_proto.SchedulerAdditions"
MOST_STARTS: Final = 10_000
MOST_FRAME_BYTES: Final = 256 * 1024
