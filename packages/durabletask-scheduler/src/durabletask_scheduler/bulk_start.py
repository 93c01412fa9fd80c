"""Many starts in one request: one command of the engine, one transaction, an outcome for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb

from durabletask_scheduler.engine import Engine
from durabletask_scheduler.hub import requests as rules
from durabletask_scheduler.hub.model import Commit, HubError
from durabletask_scheduler.refusals import refusal
from durabletask_scheduler.requests import Handler, with_id


def start_all(
    engine: Engine, task_hub: str, request: additions_pb.StartInstancesRequest
) -> additions_pb.StartInstancesResponse:
    """Start each as StartInstance would, in their order: a request sees what those before it have started.

    Raises:
        HubError: INVALID_ARGUMENT; there are too many. What is wrong with one of them is its own outcome.
        StorageError: the store could not be read; nothing was started.
    """
    if len(request.requests) > additions.MOST_STARTS:
        raise HubError(
            "INVALID_ARGUMENT",
            f"the request has {len(request.requests)} starts; at most {additions.MOST_STARTS} are allowed: split it",
        )
    starts = _Starts(engine, task_hub, [with_id(start) for start in request.requests])
    return starts.run()


class _Starts:
    """The starts of one request.

    New instances with ids of their own share one commit. A start whose id is taken has a commit of its own,
    after those before it, because replacing an instance may concern others.
    """

    def __init__(self, engine: Engine, task_hub: str, requests: Sequence[pb.CreateInstanceRequest]) -> None:
        self._engine = engine
        self._task_hub = task_hub
        self._requests = requests
        self._taken = self._load_existing()
        self._gathered = Commit()

    def run(self) -> additions_pb.StartInstancesResponse:
        ids: list[str] = []
        refusals: list[additions_pb.Refusal] = []
        for index, request in enumerate(self._requests):
            try:
                self._start(request)
            except HubError as error:
                ids.append("")
                refusals.append(refusal(index, error))
            else:
                ids.append(request.instanceId)
        self._commit_gathered()
        return additions_pb.StartInstancesResponse(instanceIds=ids, refusals=refusals)

    def _start(self, request: pb.CreateInstanceRequest) -> None:
        if request.instanceId not in self._taken:
            rules.start(None, request, self._task_hub, self._engine.context, self._gathered)
            self._taken.add(request.instanceId)
            return
        self._commit_gathered()
        entry = self._engine.find(self._task_hub, request.instanceId)
        existing = None if entry is None else entry.instance
        self._engine.commit(rules.start(existing, request, self._task_hub, self._engine.context))

    def _commit_gathered(self) -> None:
        if self._gathered.created:
            self._engine.commit(self._gathered)
            self._gathered = Commit()

    def _load_existing(self) -> set[str]:
        """The ids that are in use; their instances are in memory afterwards, so that no later read can fail."""
        ids = [request.instanceId for request in self._requests]
        cached = {one for one in ids if self._engine.instances.cached((self._task_hub, one)) is not None}
        stored = self._engine.storage.existing(self._task_hub, [one for one in ids if one not in cached])
        for instance_id in stored:
            self._engine.find(self._task_hub, instance_id)
        return cached | stored


HANDLERS: Mapping[str, Handler] = {"StartInstances": start_all}
