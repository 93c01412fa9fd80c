"""What will be published: built, installed together in a clean environment, used, and type-checked by a consumer."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import check_release
import demo
import pytest
import smoke
from programs import Program, free_port, start_scheduler

ROOT = Path(__file__).parents[1]
UV = (sys.executable, "-m", "uv")
PACKAGES = sorted(smoke.USES)
VERSIONS = {package: check_release.project_version(ROOT / "packages" / package) for package in PACKAGES}

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(300)]


def run(*command: str, cwd: Path | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=ROOT / "packages" / package)
    return folder


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the five wheels and nothing of this repository."""
    environment = tmp_path_factory.mktemp("clean") / "env"
    run(*UV, "venv", "--quiet", "--python", sys.executable, str(environment))
    interpreter = smoke.python_of(environment)
    wheels = [str(path) for path in dist.glob("*.whl")]
    run(*UV, "pip", "install", "--quiet", "--python", interpreter, "typing_extensions", *wheels)
    return interpreter


@pytest.mark.parametrize("package", PACKAGES)
def test_a_distribution_has_current_metadata_its_licence_and_its_type_marker(package: str, dist: Path) -> None:
    stem = f"{package.replace('-', '_')}-{VERSIONS[package]}"
    with zipfile.ZipFile(dist / f"{stem}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(f"{stem}.dist-info/METADATA"))
    assert metadata["Metadata-Version"] == "2.4"
    assert metadata["License-Expression"] == "MIT"
    assert any(name.endswith("/py.typed") for name in names)
    assert [name for name in names if "tests" in name or "__pycache__" in name] == []
    with tarfile.open(dist / f"{stem}.tar.gz") as source:
        assert f"{stem}/CHANGELOG.md" in source.getnames()


def test_no_file_belongs_to_two_distributions(dist: Path) -> None:
    owners: dict[str, list[str]] = {}
    for path in dist.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                owners.setdefault(name, []).append(path.name)
    assert {name: paths for name, paths in owners.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_an_installed_wheel_does_what_it_is_for(package: str, python: str) -> None:
    smoke.use(python, package, VERSIONS[package])


CONSUMER = textwrap.dedent(
    """
    from collections.abc import Generator
    from typing import Any

    from typing_extensions import assert_type

    import durabletask
    from durabletask import client, entities, task, worker
    from durabletask.azuremanaged.client import DurableTaskSchedulerClient
    from durabletask_scheduler import Scheduler


    def hello(ctx: task.ActivityContext, name: str) -> str:
        return f"Hello, {name}!"


    def greet(ctx: task.OrchestrationContext, name: str) -> Generator[task.Task[Any], Any, str]:
        assert_type(ctx.version, str | None)
        assert_type(ctx.is_replaying, bool)
        result: str = yield ctx.call_activity(hello, input=name)
        return result


    with Scheduler(":memory:") as scheduler, worker.TaskHubGrpcWorker(channel=scheduler.channel()) as w:
        assert_type(w.add_orchestrator(greet), str)
        w.start()
        c = client.TaskHubGrpcClient(channel=scheduler.channel())
        assert_type(c.schedule_new_orchestration(greet, input="World", version="1.0.0"), str)
        assert_type(c.wait_for_orchestration_completion("i"), client.OrchestrationState | None)

    options = durabletask.VersioningOptions(version="1.0.0", match_strategy=worker.VersionMatchStrategy.STRICT)
    assert_type(options, worker.VersioningOptions)
    assert_type(entities.EntityInstanceId("counter", "a").key, str)
    azure: client.TaskHubGrpcClient = DurableTaskSchedulerClient(
        host_address="https://example", taskhub="default", token_credential=None
    )
    """
)
MISTAKES = "\n".join(["c.schedule_new_orchestration(7)", "durabletask.VersioningOptions(versoin='1')"])


def pyright(python: str, folder: Path, source: str) -> list[str]:
    (folder / "consumer.py").write_text(source, encoding="utf-8")
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", python, "consumer.py"]
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=200, env=environment
    )
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return [
        f"{item['range']['start']['line'] + 1}: {item['message']}"
        for item in report["generalDiagnostics"]
        if item["severity"] == "error"
    ]


def test_a_consumer_is_type_checked_against_the_wheels(python: str, tmp_path: Path) -> None:
    assert pyright(python, tmp_path, CONSUMER) == []
    mistakes = pyright(python, tmp_path, CONSUMER + MISTAKES)
    assert len(mistakes) == 2, mistakes


def test_calls_have_the_types_of_what_they_call(python: str, tmp_path: Path) -> None:
    consumer = ROOT / "packages" / "durabletask-core" / "tests" / "typing" / "consumer.py"
    assert pyright(python, tmp_path, consumer.read_text(encoding="utf-8")) == []


def test_the_versioning_sample_runs_on_the_installed_wheels(python: str, tmp_path: Path) -> None:
    port = free_port()
    environment = {"ENDPOINT": f"http://127.0.0.1:{port}", "TASKHUB": "default"}
    with (
        start_scheduler(tmp_path / "hub.db", port, python=python),
        Program("worker", [python, str(demo.SAMPLE / "worker.py")], environment=environment) as worker,
    ):
        worker.wait_for("Worker started", 30)
        with Program("client", [python, str(demo.SAMPLE / "client.py")], environment=environment) as client:
            assert client.wait(90) == 0, client.output + worker.output
    demo.check(client.output, "World")
