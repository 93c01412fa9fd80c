"""Fixtures for pytest. Ask for them in the ``conftest.py`` at the root of your tests:

pytest_plugins = ["durabletask.testing.pytest_plugin"]
"""

from collections.abc import Callable, Iterator

import pytest

from durabletask.testing.environment import Deployment, Environment


@pytest.fixture
def durabletask_env() -> Iterator[Environment]:
    """A scheduler in memory with its client, on a clock that the test moves; no workers until some are deployed."""
    with Environment() as environment:
        yield environment


@pytest.fixture
def deploy(durabletask_env: Environment) -> Callable[..., Deployment]:
    """Starts workers: ``deploy(setup, workers=1)``, see ``Environment.deploy``.

    To test an upgrade, start instances on one version of the code and let the next one take over:

        with deploy(v1):
            instance_id = durabletask_env.client.schedule_new_orchestration(order, version="1.0.0")
            durabletask_env.settle()
        with deploy(v2):
            assert durabletask_env.wait(instance_id).runtime_status is OrchestrationStatus.COMPLETED
    """
    return durabletask_env.deploy
