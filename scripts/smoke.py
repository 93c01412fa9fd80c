"""Install a built wheel in a clean environment and use it, before it is published.

    python scripts/smoke.py FOLDER PACKAGE VERSION

FOLDER holds the wheel; what it depends on is taken from there too, or from the package index that pip knows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import venv
from pathlib import Path

# What each package is for, in the fewest lines.
USES = {
    "durabletask-proto": """
        from durabletask_proto import orchestrator_service_pb2 as pb
        from durabletask_proto import orchestrator_service_pb2_grpc
        assert pb.HistoryEvent(eventId=-1).SerializeToString() == b"\\x08" + b"\\xff" * 9 + b"\\x01"
    """,
    "durabletask-core": """
        import durabletask
        from durabletask import client, task, worker
        assert durabletask.VersioningOptions is worker.VersioningOptions
        def echo(ctx, value):
            return value
        with worker.TaskHubGrpcWorker() as w:
            assert w.add_activity(echo) == "echo"
    """,
    "durabletask-entities": """
        import durabletask
        from durabletask import entities
        assert str(entities.EntityInstanceId("Counter", "a")) == "@counter@a"
    """,
    "durabletask-azuremanaged": """
        from durabletask.azuremanaged.client import DurableTaskSchedulerClient
        from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
        address = dict(host_address="http://localhost:8080", taskhub="default", token_credential=None)
        DurableTaskSchedulerClient(**address).close()
        assert DurableTaskSchedulerWorker(**address).maximum_timer_interval is None
    """,
    "durabletask-scheduler": """
        from durabletask_proto import orchestrator_service_pb2 as pb
        from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
        from durabletask_scheduler import Scheduler
        with Scheduler() as scheduler:
            stub = TaskHubSidecarServiceStub(scheduler.channel())
            started = stub.StartInstance(pb.CreateInstanceRequest(name="order", instanceId="i"))
            assert started.instanceId == "i"
    """,
}


def python_of(environment: Path) -> str:
    return str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def use(python: str, package: str, version: str) -> None:
    """Check the installed version and run what the package is for, from an empty folder.

    Raises:
        subprocess.CalledProcessError: it fails; its output is on stderr.
    """
    check = f"from importlib import metadata\nassert metadata.version({package!r}) == {version!r}\n"
    with tempfile.TemporaryDirectory() as folder:
        program = check + textwrap.dedent(USES[package])
        subprocess.run([python, "-I", "-c", program], cwd=folder, check=True, timeout=60)


def main() -> None:
    folder, package, version = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        venv.create(temporary, with_pip=True)
        python = python_of(Path(temporary))
        wanted = f"{package}=={version}"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--find-links", folder, wanted], check=True)
        use(python, package, version)
    print(f"{package} {version} works when installed from {folder}")


if __name__ == "__main__":
    main()
