"""The names by which a worker and a scheduler of this project agree on warm runs.

A warm run is an orchestrator that stays suspended in its worker between turns, so that only new
events travel and nothing is replayed. Servers and workers that do not know these names never see
them or ignore them: the capability is an open enum's unknown number, sent only to a server that
answered Hello with the header.

* ``HEADER``: initial metadata of a Hello response; its value is ``VERSION``.
* ``CAPABILITY``: number in ``GetWorkItemsRequest.capabilities``.
* ``BASE``: key in ``OrchestratorRequest.properties``. Its string value is the completion token of
  the last turn of this instance that the server committed. A worker whose kept run ended with just
  that turn continues it with ``newEvents``; any other answers ``requiresHistory``.
"""

from typing import Final

HEADER: Final = "durabletask-warm-runs"
VERSION: Final = "1"
CAPABILITY: Final = 1001
BASE: Final = "durabletask.warm-base"
