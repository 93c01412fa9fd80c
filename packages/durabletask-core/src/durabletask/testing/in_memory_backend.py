"""A task hub in memory behind a real gRPC port, for tests of code that connects by address."""

from durabletask.testing.backends import Backend, open_backend

__all__ = ["InMemoryOrchestrationBackend", "create_test_backend"]

_HOST = "localhost"


class InMemoryOrchestrationBackend:
    """A task hub for tests: the scheduler with all its rules, keeping everything in memory.

    It listens on loopback only, in plaintext, and answers whatever metadata it gets, so clients and workers of
    any Durable Task SDK can use it.

    Args:
        max_history_size: Events that one generation of an instance may have; an instance that would go beyond fails.
        port: Port to listen on; 0 lets the system choose, see :attr:`port`.
    """

    def __init__(self, max_history_size: int = 10000, port: int = 50051) -> None:
        self._max_history_size = max_history_size
        self._port = port
        self._backend: Backend | None = None

    @property
    def port(self) -> int:
        """The port it listens on; before the start, the one asked for."""
        return self._port

    def start(self) -> str:
        """Listen, and return the address for clients and workers, ``localhost:{port}``.

        Raises:
            RuntimeError: It is running, or no scheduler is installed (FeatureMissingError).
            Exception: The port cannot be listened on; the message says why.
        """
        if self._backend is not None:
            raise RuntimeError(f"the test backend is already running on {_HOST}:{self._port}")
        backend = open_backend(max_history_size=self._max_history_size)
        try:
            self._port = backend.serve(_HOST, self._port)
        except BaseException:
            backend.stop()
            raise
        self._backend = backend
        return f"{_HOST}:{self._port}"

    def stop(self, grace: float | None = None) -> None:
        """Stop and forget everything; does nothing if it is not running. It may be started again.

        Args:
            grace: Seconds for calls that are under way; None cancels them.
        """
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.stop(grace)

    def reset(self) -> None:
        """Forget all instances. Workers stay connected; calls that wait for an instance end with UNAVAILABLE."""
        if self._backend is not None:
            self._backend.reset()


def create_test_backend(port: int = 50051, max_history_size: int = 10000) -> InMemoryOrchestrationBackend:
    """Start a task hub in memory; stop it with ``stop()``.

    Args:
        port: Port to listen on; 0 lets the system choose.
        max_history_size: Events that one generation of an instance may have.

    Raises:
        FeatureMissingError: No scheduler is installed; the message names the package.
    """
    backend = InMemoryOrchestrationBackend(max_history_size=max_history_size, port=port)
    backend.start()
    return backend
