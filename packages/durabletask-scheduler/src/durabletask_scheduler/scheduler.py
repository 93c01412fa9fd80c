"""The scheduler as an object: a store, a service, and the ways in."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType

from durabletask_scheduler.aio_channel import AioInterceptor, InProcessAioChannel
from durabletask_scheduler.channel import InProcessChannel
from durabletask_scheduler.security.settings import Security
from durabletask_scheduler.server import GrpcServer, ServerOptions
from durabletask_scheduler.service import SchedulerService, ServiceOptions
from durabletask_scheduler.storage import Storage, check_synchronous
from durabletask_scheduler.storage.opening import open_store

STOP_SECONDS = 10.0
_LAST_ANSWERS_SECONDS = 0.5


class Scheduler:
    """A durable scheduler inside this process.

    Clients and workers of the same process use it through :meth:`channel`, without a network; others through
    the gRPC port that :meth:`serve` opens. Both may be used at once::

        from durabletask.client import TaskHubGrpcClient
        from durabletask.worker import TaskHubGrpcWorker
        from durabletask_scheduler import Scheduler

        with Scheduler("orders.db") as scheduler:
            with TaskHubGrpcWorker(channel=scheduler.channel()) as worker:
                worker.add_orchestrator(order)
                worker.start()
                client = TaskHubGrpcClient(channel=scheduler.channel())
                instance_id = client.schedule_new_orchestration(order, input={"sku": 7})
                client.wait_for_orchestration_completion(instance_id, timeout=30)

    Args:
        database: the SQLite file, created if it does not exist, or a PostgreSQL database
            (``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, with ``?schema=NAME`` for another schema than
            ``durabletask``; needs the extra ``postgres``). One scheduler owns it at a time. The default
            ``":memory:"`` forgets everything on :meth:`stop`.
        task_hubs: names of the task hubs to create if they do not exist. Calls that name no task hub go to
            the first.
        synchronous: when a write counts as done: ``"FULL"`` (default) survives a power loss, ``"NORMAL"`` the
            end of the process, ``"OFF"`` neither.
        standby_seconds: for how long :meth:`start` waits for a PostgreSQL database that another scheduler owns; None
            for as long as it takes.
        server_options: for :meth:`serve`.
        service_options: bounds and times of the service; its ``default_task_hub`` is set to the first hub.

    Raises:
        ValueError: no task hub, or an unknown ``synchronous``.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] = ":memory:",
        *,
        task_hubs: Sequence[str] = ("default",),
        synchronous: str = "FULL",
        standby_seconds: float | None = 0.0,
        server_options: ServerOptions | None = None,
        service_options: ServiceOptions | None = None,
    ) -> None:
        if isinstance(task_hubs, str) or not task_hubs or not all(task_hubs):
            raise ValueError(f"task_hubs must be a sequence of at least one non-empty name, found {task_hubs!r}")
        check_synchronous(synchronous.upper())
        self._database = database
        self._task_hubs = tuple(task_hubs)
        self._synchronous = synchronous.upper()
        self._server_options = server_options
        self._service_options = replace(service_options or ServiceOptions(), default_task_hub=self._task_hubs[0])
        self._standby_seconds = standby_seconds
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self._storage: Storage | None = None
        self._service: SchedulerService | None = None
        self._servers: list[GrpcServer] = []

    def start(self, *, pause: Callable[[float], bool] | None = None) -> None:
        """Open the store and take up where it stands; does nothing if already started.

        Args:
            pause: how to wait for a store that another scheduler owns (``standby_seconds``): called with a number of
                seconds, it returns after them, or returns True for giving up. By default :meth:`stop` ends the wait.

        Raises:
            StorageUnusable: the store cannot be used, or another scheduler has it.
        """
        self._is_stopping.clear()
        with self._lock:
            if self._service is not None:
                return
            storage = open_store(
                self._database,
                self._synchronous,
                standby_seconds=self._standby_seconds,
                pause=pause or self._is_stopping.wait,
            )
            try:
                for task_hub in self._task_hubs:
                    storage.add_task_hub(task_hub)
                service = SchedulerService(storage, self._service_options)
                service.start()
            except BaseException:
                storage.close()
                raise
            self._storage = storage
            self._service = service

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop within ``timeout`` seconds; does nothing if not started.

        New calls are refused, running ones answered, streams and waits ended; what workers still hold is handed
        out again after the next start. Channels given out by this object answer UNAVAILABLE from then on.

        Raises:
            TimeoutError: a write or a query is still under way; the store stays open until the process ends.
        """
        deadline = time.monotonic() + timeout
        self._is_stopping.set()
        with self._lock:
            if self._service is None or self._storage is None:
                return
            service, storage, servers = self._service, self._storage, self._servers
            self._service, self._storage, self._servers = None, None, []
        # The service first: it answers whoever still calls with UNAVAILABLE, while a server that is shutting down
        # cancels what it has not yet taken up.
        try:
            service.stop(timeout)
            storage.close()
        finally:
            grace = max(_LAST_ANSWERS_SECONDS, deadline - time.monotonic())
            for server in servers:
                server.begin_stop(grace)
            for server in servers:
                server.stop()

    def channel(self) -> InProcessChannel:
        """A ``grpc.Channel`` to this scheduler for clients and workers of this process.

        Messages pass as objects: see ``durabletask_scheduler.channel``.

        Raises:
            RuntimeError: the scheduler is not started.
        """
        return InProcessChannel(self._running())

    def aio_channel(self, *, interceptors: Sequence[AioInterceptor] = ()) -> InProcessAioChannel:
        """A ``grpc.aio.Channel`` to this scheduler; it belongs to the event loop of its first call.

        Args:
            interceptors: ``grpc.aio`` client interceptors for unary-unary and unary-stream calls.

        Raises:
            RuntimeError: the scheduler is not started.
        """
        service = self._running()
        return InProcessAioChannel(service, interceptors=interceptors, outgoing=service.outgoing())

    def serve(self, host: str = "127.0.0.1", port: int = 8080, *, security: Security | None = None) -> int:
        """Answer gRPC calls on this address until :meth:`stop`.

        Args:
            host: interface to listen on.
            port: 0 lets the system choose.
            security: TLS and what is wanted of callers. By default nothing is, so that whoever can connect may do
                anything; that is refused for interfaces that others can reach.

        Returns:
            the port.

        Raises:
            RuntimeError: the scheduler is not started.
            SecurityError: the interface asks for more security, or a file of it cannot be used.
            ServerError: the address cannot be listened on.
        """
        service = self._running()
        security = security or Security()
        security.check(host)
        guarded = security.guard(service, self._task_hubs[0])
        server = GrpcServer(guarded, host, port, self._server_options, security.credentials(), service.outgoing())
        bound = server.start()
        with self._lock:
            if self._service is service:
                self._servers.append(server)
                return bound
        server.stop(0)
        raise RuntimeError("the scheduler was stopped while it began to listen")

    def __enter__(self) -> Scheduler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> SchedulerService:
        service = self._service
        if service is None:
            raise RuntimeError("the scheduler is not started: call start(), or use it in a with statement")
        return service
