"""The hub is pure: time, ids and input and output belong to its shell."""

import ast
from pathlib import Path

import durabletask_scheduler.hub
import pytest

MODULES = sorted(Path(durabletask_scheduler.hub.__file__).parent.glob("*.py"))
ALLOWED = {
    "__future__",
    "bisect",
    "collections.abc",
    "dataclasses",
    "enum",
    "typing",
    "durabletask_proto.copying",
    "durabletask_proto.orchestrator_service_pb2",
    "durabletask_proto.warm",
}
ALLOWED_PREFIXES = ("google.protobuf.", "durabletask_scheduler.hub")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "durabletask_proto":
                yield from (f"durabletask_proto.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_hub_imports_nothing_that_waits_logs_or_asks_the_time(path):
    """Design, two pure machines."""
    strangers = {name for name in imports(path) if name not in ALLOWED and not name.startswith(ALLOWED_PREFIXES)}
    assert strangers == set()
