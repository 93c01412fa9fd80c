"""Testing orchestrations: a scheduler in memory, a clock that tests move, and pytest fixtures.

The scheduler is that of the package ``durabletask-scheduler``, with its real rules; install it where tests run.
:class:`Environment` holds scheduler, workers and client in one process; :func:`create_test_backend` opens a port
instead, for code that connects by address. The fixtures are in ``durabletask.testing.pytest_plugin``.
"""

from durabletask.testing.environment import Deployment, Environment
from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend, create_test_backend

__all__ = ["Deployment", "Environment", "InMemoryOrchestrationBackend", "create_test_backend"]
