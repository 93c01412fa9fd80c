"""Processes for activities that compute: each runs one activity at a time and is replaced when it dies.

An activity travels as the name of its function and the protocol's request, whose payload is text; its
answer comes back as the protocol's response. What a payload holds is never pickled.
"""

import logging
import multiprocessing
import pickle
import signal
import threading
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, wait
from operator import attrgetter
from os import _exit
from typing import Any, Final

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.activities import ActivityOptions, failed_response, run_activity
from durabletask.registry import Registration, Registry

_SEPARATOR: Final = ":"
_JOIN_SECONDS: Final = 1.0
# A fork of a process with threads may inherit their locks for ever locked.
_CONTEXT: Final = multiprocessing.get_context("spawn")


class ActivityProcessDiedError(RuntimeError):
    """The process that ran an activity ended before the activity did."""


ActivityProcessDiedError.__module__ = "durabletask.worker"


def location_of(registration: Registration) -> str:
    """How another process finds the function, as ``module:qualified name``."""
    function = registration.function
    return f"{function.__module__}{_SEPARATOR}{function.__qualname__}"


def check_sendable(options: ActivityOptions) -> None:
    """See that processes can be given what activities share.

    Raises:
        TypeError: The data converter or the exception properties provider cannot be pickled.
    """
    try:
        pickle.dumps(options)
    except Exception as error:
        raise TypeError(
            "activities with process=True need a data_converter and an exception_properties_provider that can be "
            f"pickled, because every process gets a copy of them: {error}"
        ) from error


class ProcessPool:
    """Up to ``size`` processes, which are started only as they are needed.

    Each has a pipe of its own, so that one that dies costs no more than the activity it was running.

    Args:
        size: Greatest number of processes.
        options: What activities share; every process gets a copy.
        logger: Where the death of a process is reported.
    """

    def __init__(self, size: int, options: ActivityOptions, logger: logging.Logger) -> None:
        self._size = size
        self._options = options
        self._logger = logger
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    @property
    def size(self) -> int:
        """Greatest number of processes."""
        return self._size

    def run(self, location: str, request: pb.ActivityRequest) -> pb.ActivityResponse:
        """Run an activity and wait for its response; called by at most ``size`` threads at once.

        Raises:
            ActivityProcessDiedError: The process ended meanwhile; the next activity gets a new one.
        """
        child = self._take()
        try:
            response = child.run(location, request)
        except (EOFError, OSError) as error:
            raise self._died(child, request.name) from error
        with self._lock:
            self._busy.discard(child)
            self._idle.append(child)
            closed = self._closed
        if closed:
            self.close()
        return response

    def close(self) -> None:
        """End every process, also in the middle of an activity."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for child in busy:
            child.kill()
        try:
            for child in idle:
                child.dismiss()
            for child in idle:
                child.join()
        except BaseException:
            # Nobody else knows of them any more, and the interpreter would wait for them at its end.
            for child in idle:
                child.kill()
            raise

    def kill(self) -> None:
        """End every process at once, and wait for none of them."""
        with self._lock:
            self._closed = True
            children = [*self._busy, *self._idle]
            self._idle = []
        for child in children:
            child.kill()

    def _take(self) -> "_Child":
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.is_alive:
                    self._busy.add(child)
                    return child
        child = _Child(self._options)
        with self._lock:
            self._busy.add(child)
            closed = self._closed
        if closed:
            child.kill()
        return child

    def _died(self, child: "_Child", name: str) -> ActivityProcessDiedError:
        with self._lock:
            self._busy.discard(child)
            closed = self._closed
        error = ActivityProcessDiedError(
            f"The process that ran the activity {name!r} {child.ending()} before the activity ended. Look for a crash, "
            "os._exit() or too little memory; if it happens at every call, protect the start of the worker in your "
            "main module with: if __name__ == '__main__'."
        )
        if not closed:
            self._logger.error("%s A new process takes its place.", error)
        return error


class _Child:
    """One process and this side of its pipe."""

    def __init__(self, options: ActivityOptions) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        # A daemon, so that it cannot keep the interpreter of a worker that was never stopped from ending.
        self._process = _CONTEXT.Process(target=serve, args=(theirs, options), name="DurableTaskActivity", daemon=True)
        try:
            self._process.start()
        finally:
            theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def run(self, location: str, request: pb.ActivityRequest) -> pb.ActivityResponse:
        self._pipe.send_bytes(location.encode())
        self._pipe.send_bytes(request.SerializeToString())
        # A grandchild may hold the other end open, so the end of the process is waited for as well.
        if self._pipe not in wait([self._pipe, self._process.sentinel]):
            raise EOFError
        return pb.ActivityResponse.FromString(self._pipe.recv_bytes())

    def ending(self) -> str:
        """How the process ended, in words."""
        self.dismiss()
        self.join()
        code = self._process.exitcode
        if code is None:
            return "closed its connection"
        return f"was killed by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        self._process.kill()

    def dismiss(self) -> None:
        """Let the process end, which it does when its pipe is closed."""
        self._pipe.close()

    def join(self) -> None:
        """Wait for the end of the process, for a second at most."""
        self._process.join(_JOIN_SECONDS)


def serve(pipe: "Connection[Any, Any]", options: ActivityOptions) -> None:
    """What a process of the pool does: run activities until the pipe is closed."""
    # Ctrl-C reaches every process of a terminal; the worker decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_worker, daemon=True).start()
    while True:
        try:
            location = pipe.recv_bytes().decode()
            request = pb.ActivityRequest.FromString(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(_respond(location, request, options).SerializeToString())


def _end_with_worker() -> None:
    """A worker that was killed cannot tell its processes: another worker will run what they are running."""
    worker = multiprocessing.parent_process()
    if worker is not None:
        wait([worker.sentinel])
        _exit(1)


def _respond(location: str, request: pb.ActivityRequest, options: ActivityOptions) -> pb.ActivityResponse:
    try:
        registration = _registration(location)
    except BaseException as error:
        # Importing runs the user's modules: whatever they raise is the failure of this activity.
        return failed_response(request, error, options)
    return run_activity(registration, request, options)


@cache
def _registration(location: str) -> Registration | None:
    module, _, name = location.partition(_SEPARATOR)
    registry = Registry()
    return registry.activity(registry.add_activity(attrgetter(name)(import_module(module)), location))
