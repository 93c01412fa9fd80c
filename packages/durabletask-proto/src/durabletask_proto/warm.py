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
* ``ENTITY_CAPABILITY``: number in ``GetWorkItemsRequest.capabilities`` of a worker that keeps the states
  of entities between batches.
* ``ENTITY_BASE``: how ``EntityRequest.executionId`` begins in a work item that has no ``entityState``
  although the entity has one; the rest is the completion token of the last batch of this entity that
  the server committed. A worker whose kept state is the one it answered just that batch with goes on
  from it; any other answers ``requiresState``, without results, under the same completion token.
"""

from typing import Final

HEADER: Final = "durabletask-warm-runs"
VERSION: Final = "1"
CAPABILITY: Final = 1001
BASE: Final = "durabletask.warm-base"
ENTITY_CAPABILITY: Final = 1002
ENTITY_BASE: Final = "durabletask.warm-base:"
