"""Scheduler, workers and client in one process, on a clock that stands still until the test moves it."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from durabletask.client import (
    AsyncTaskHubGrpcClient,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    TaskHubGrpcClient,
)
from durabletask.testing.backends import Backend, open_backend
from durabletask.worker import TaskHubGrpcWorker

Setup = Callable[[TaskHubGrpcWorker], object]
"""Prepares a worker before it starts: registers orchestrators and activities, sets its versioning."""

PATIENCE = 10.0
"""Real seconds that the methods here wait before they give up."""

_LIVE = [OrchestrationStatus.PENDING, OrchestrationStatus.RUNNING, OrchestrationStatus.SUSPENDED]
_Environment = TypeVar("_Environment", bound="Environment")
_logger = logging.getLogger("durabletask.testing")


class Deployment:
    """Workers that run the same code; made by :meth:`Environment.deploy`.

    Leaving a ``with`` block stops them: what they run is finished, the rest is left to the next deployment.
    """

    def __init__(self, backend: Backend, setup: Setup, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"a deployment has at least one worker, found workers={workers}")
        self._backend = backend
        self._workers: list[TaskHubGrpcWorker] = []
        try:
            for _ in range(workers):
                self._add(setup)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def workers(self) -> tuple[TaskHubGrpcWorker, ...]:
        """The workers that are running."""
        return tuple(self._workers)

    def stop(self, timeout: float | None = None) -> None:
        """Stop all workers, as a deployment system does; does nothing if they are stopped.

        Args:
            timeout: Seconds that running work gets; default that of ``TaskHubGrpcWorker.stop``.
        """
        while self._workers:
            self._workers.pop(0).stop(timeout)

    def roll(self, setup: Setup) -> None:
        """Replace the workers one at a time: a new one starts, then an old one stops."""
        for old in tuple(self._workers):
            self._add(setup)
            self._workers.remove(old)
            old.stop()

    def _add(self, setup: Setup) -> None:
        worker = TaskHubGrpcWorker(channel=self._backend.channel(), logger=_logger)
        setup(worker)
        connected = self._backend.workers_connected
        worker.start()
        self._workers.append(worker)
        if not self._backend.wait_for_worker(connected, PATIENCE):
            raise TimeoutError(f"the worker did not connect to the test scheduler within {PATIENCE} s; see its log")


class Environment:
    """A task hub of one test.

        def shop(worker):
            worker.add_orchestrator(order)
            worker.add_activity(charge)

        with Environment(shop) as env:
            state = env.run(order, input={"sku": 7})
            assert state.runtime_status is OrchestrationStatus.COMPLETED

    Time, as orchestrators see it, stands still. It moves

    * by :meth:`advance`, and
    * with ``skip_time``, to the next due timer whenever a call waits for an instance (:meth:`run`, or
      ``wait_for_orchestration_completion`` of any client) and no worker has anything to do,

    so a timer of 30 days takes milliseconds and orchestrators always see the same times between the same events.
    Timeouts of calls stay real seconds. Code that asks the system for the time, in activities for example, gets
    the system's.

    Args:
        setup: Prepares the worker to start with; None for none, see :meth:`deploy`.
        start: The time to begin with, aware or in UTC; by default the present.
        skip_time: Whether waiting moves the time.
        default_version: The version of instances that :attr:`client` starts without one.

    Raises:
        FeatureMissingError: No scheduler is installed; the message names the package.
    """

    def __init__(
        self,
        setup: Setup | None = None,
        *,
        start: datetime | None = None,
        skip_time: bool = True,
        default_version: str | None = None,
    ) -> None:
        self._deployments: list[Deployment] = []
        self._backend = open_backend(virtual_time=True, start=start, skip_time=skip_time)
        self.client = TaskHubGrpcClient(channel=self.channel(), logger=_logger, default_version=default_version)
        if setup is not None:
            try:
                self.deploy(setup)
            except BaseException:
                self.close()
                raise

    def __enter__(self: _Environment) -> _Environment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def now(self) -> datetime:
        """The time of the task hub, aware in UTC."""
        return self._backend.now()

    def channel(self) -> grpc.Channel:
        """A channel for a client or worker of the test's own, such as ``TaskHubGrpcWorker(channel=env.channel())``."""
        return self._backend.channel()

    def aio_channel(self) -> grpc.aio.Channel:
        """A channel for an ``AsyncTaskHubGrpcClient`` of the test's own."""
        return self._backend.aio_channel()

    def async_client(self) -> AsyncTaskHubGrpcClient:
        """A client for the running event loop."""
        return AsyncTaskHubGrpcClient(
            channel=self.aio_channel(), logger=_logger, default_version=self.client.default_version
        )

    def deploy(self, setup: Setup, *, workers: int = 1) -> Deployment:
        """Start workers, and return once they are connected.

        They run until the deployment is stopped, or the environment closed. Several deployments may run at once.

        Args:
            setup: Prepares each worker.
            workers: How many.

        Raises:
            ValueError: ``workers`` is less than 1.
        """
        deployment = Deployment(self._backend, setup, workers)
        self._deployments.append(deployment)
        return deployment

    def run(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        timeout: float = PATIENCE,
    ) -> OrchestrationState:
        """Start an instance and wait for its end; it may have failed, see ``OrchestrationState.raise_if_failed``.

        Args:
            orchestrator: The orchestrator function or its name.
            input: Its input; None for none.
            instance_id: The id of the instance; by default a random one.
            version: Its version; by default that of :attr:`client`.
            timeout: Real seconds to wait.

        Raises:
            TimeoutError: It did not end in time.
        """
        started = self.client.schedule_new_orchestration(
            orchestrator, input=input, instance_id=instance_id, version=version
        )
        return self.wait(started, timeout=timeout)

    def wait(self, instance_id: str, *, timeout: float = PATIENCE) -> OrchestrationState:
        """Wait until an instance has ended, and return its state.

        Args:
            instance_id: Its id.
            timeout: Real seconds to wait.

        Raises:
            TimeoutError: It did not end in time; the message has its status.
        """
        try:
            state = self.client.wait_for_orchestration_completion(instance_id, timeout=timeout)
        except TimeoutError:
            found = self.client.get_orchestration_state(instance_id)
            status = "there is no such instance" if found is None else f"it is {found.runtime_status} since then"
            raise TimeoutError(
                f"instance {instance_id!r} did not end within {timeout} real seconds: {status}"
            ) from None
        if state is None:
            raise TimeoutError(f"instance {instance_id!r} was deleted while it was waited for")
        return state

    def advance(self, duration: timedelta, *, while_activities_run: bool = False, timeout: float = PATIENCE) -> None:
        """Move the time. Timers fire on the way, each at its own moment, and what they set off is done before the
        next one fires and before this returns.

        An activity can call it, with ``while_activities_run=True``, to take that long.

        Args:
            duration: How far; ``timedelta(0)`` only waits until nothing is under way.
            while_activities_run: Do not wait for activities to end, for those that hang on purpose.
            timeout: Real seconds to wait for workers.

        Raises:
            ValueError: The duration is negative.
            TimeoutError: Workers are still busy; the message says with what.
        """
        self._backend.advance(duration, while_activities_run=while_activities_run, timeout=timeout)

    def settle(self, *, timeout: float = PATIENCE) -> None:
        """Wait until workers have nothing to do, without moving the time.

        Raises:
            TimeoutError: They are still busy; the message says with what.
        """
        self.advance(timedelta(0), timeout=timeout)

    def in_flight(self, *, name: str | None = None, version: str | None = None) -> list[OrchestrationState]:
        """The instances that have not ended.

        Args:
            name: Only of this orchestrator.
            version: Only of this version; "" for those without one.
        """
        query = OrchestrationQuery(runtime_status=_LIVE, name=name, version=version)
        return self.client.get_all_orchestration_states(query)

    def close(self) -> None:
        """Stop all workers and the scheduler; the instances are gone."""
        while self._deployments:
            self._deployments.pop().stop(PATIENCE)
        self.client.close()
        self._backend.stop()
