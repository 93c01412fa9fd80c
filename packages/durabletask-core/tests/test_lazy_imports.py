"""What importing the package loads, and which names it offers. Each case runs in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

NAMES = [
    "ActivityWorkItemFilter",
    "ConcurrencyOptions",
    "EntityWorkItemFilter",
    "ExceptionPropertiesProvider",
    "GrpcChannelOptions",
    "GrpcRetryPolicyOptions",
    "LargePayloadStorageOptions",
    "OrchestrationWorkItemFilter",
    "PayloadStore",
    "VersioningOptions",
    "WorkItemFilters",
]
HOMES = {
    "ExceptionPropertiesProvider": "exception_properties",
    "GrpcChannelOptions": "grpc_options",
    "GrpcRetryPolicyOptions": "grpc_options",
    "LargePayloadStorageOptions": "payload",
    "PayloadStore": "payload",
}


def run(code: str, *, path: Path | None = None) -> str:
    prefix = "" if path is None else f"import sys; sys.path.insert(0, {str(path)!r})\n"
    done = subprocess.run([sys.executable, "-c", prefix + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOADED = "import sys; print([m for m in {modules!r} if m in sys.modules])"


@pytest.mark.parametrize(
    ("imported", "not_loaded"),
    [
        ("durabletask", ["durabletask.worker", "durabletask.task", "grpc", "google.protobuf", "opentelemetry"]),
        (
            "durabletask.client",
            ["durabletask.worker", "durabletask.replay", "durabletask.entities", "durabletask.history"],
        ),
        ("durabletask.grpc_options", ["grpc", "google.protobuf"]),
        ("durabletask.payload", ["grpc"]),
    ],
)
def test_an_import_loads_no_more_than_it_needs(imported: str, not_loaded: list[str]) -> None:
    """Pinned 27"""
    assert run(f"import {imported}\n" + LOADED.format(modules=not_loaded)) == "[]"


def test_all_lists_the_public_names_in_order() -> None:
    """Pinned 27"""
    assert run("import durabletask; print(durabletask.__all__, durabletask.PACKAGE_NAME)") == f"{NAMES} durabletask"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_object_of_its_module_and_is_kept(name: str) -> None:
    """Pinned 27"""
    home = f"durabletask.{HOMES.get(name, 'worker')}"
    code = f"""
import importlib, durabletask
assert {name!r} not in vars(durabletask)
value = durabletask.{name}
assert value is getattr(importlib.import_module({home!r}), {name!r})
assert vars(durabletask)[{name!r}] is value
"""
    run(code)


@pytest.mark.parametrize("name", ["entities", "grpc_options", "internal", "payload", "serialization", "task", "worker"])
def test_a_submodule_is_reached_by_attribute(name: str, tmp_path: Path) -> None:
    """Pinned 27. The entities come from an add-on: without it, an empty one takes its place here."""
    stand_in = tmp_path / "durabletask" / "entities"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import durabletask; print(durabletask.{name}.__name__)"
    assert run(code) == f"durabletask.{name}"


def test_the_missing_add_on_is_named() -> None:
    code = """
import sys
sys.modules["durabletask.entities"] = None
import durabletask
print(hasattr(durabletask, "entities"))
try: durabletask.entities
except AttributeError as error: print(error)
"""
    missing, message = run(code).splitlines()
    assert missing == "False"
    assert "pip install durabletask-entities" in message


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("entities", "durabletask-entities"),
        ("scheduled", "durabletask-entities"),
        ("azuremanaged", "durabletask-azuremanaged"),
    ],
)
def test_the_missing_add_on_is_named_by_an_import_from(name: str, distribution: str) -> None:
    code = f"""
import sys
sys.modules["durabletask.{name}"] = None
import durabletask
print(hasattr(durabletask, {name!r}))
try: from durabletask import {name}
except ImportError as error: print(error)
"""
    missing, message = run(code).splitlines()
    assert missing == "False"
    assert message.endswith(f"install the distribution that ships it (pip install {distribution})")


@pytest.mark.parametrize("name", ["entities", "scheduled", "azuremanaged"])
def test_an_add_on_is_imported_from_the_package(name: str, tmp_path: Path) -> None:
    stand_in = tmp_path / "durabletask" / name
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from durabletask import {name}
print({name}.__name__)
"""
    assert run(code) == f"durabletask.{name}"


def test_an_add_on_that_lacks_a_module_of_others_says_so(tmp_path: Path) -> None:
    stand_in = tmp_path / "durabletask" / "entities"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("import no_such_module\n")
    code = f"""
import sys
import durabletask
durabletask.__path__.insert(0, {str(stand_in.parent)!r})
try: from durabletask import entities
except ImportError as error: print(error)
"""
    assert run(code) == "No module named 'no_such_module'"


@pytest.mark.parametrize("name", ["client", "history", "nothing"])
def test_other_attributes_raise_the_standard_error(name: str) -> None:
    """Pinned 27"""
    code = f"import durabletask\ntry: durabletask.{name}\nexcept AttributeError as error: print(error)"
    assert run(code) == f"module 'durabletask' has no attribute '{name}'"


def test_dir_is_sorted_and_lists_names_before_they_are_loaded() -> None:
    code = """
import durabletask
names = dir(durabletask)
assert names == sorted(names)
assert {"PACKAGE_NAME", "ConcurrencyOptions", "PayloadStore"} <= set(names)
assert "ConcurrencyOptions" not in vars(durabletask)
"""
    run(code)


def test_an_add_on_in_another_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "durabletask" / "elsewhere"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("ANSWER = 42\n")
    code = f"""
import sys
sys.path.append({str(tmp_path)!r})
import durabletask.elsewhere
print(durabletask.elsewhere.ANSWER)
"""
    assert run(code) == "42"


def test_a_foreign_distribution_of_the_same_import_name_is_refused(tmp_path: Path) -> None:
    info = tmp_path / "durabletask-1.12.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: durabletask\nVersion: 1.12.0\n")
    code = """
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
for client in (TaskHubGrpcClient, AsyncTaskHubGrpcClient):
    try: client()
    except RuntimeError as error: print(error)
"""
    first, second = run(code, path=tmp_path).splitlines()
    assert first == second
    assert "'durabletask' (version 1.12.0)" in first
    assert "pip uninstall durabletask" in first


def test_without_a_foreign_distribution_clients_are_made() -> None:
    assert run("from durabletask.client import TaskHubGrpcClient; TaskHubGrpcClient().close(); print('ok')") == "ok"
