"""The engine is pure: it asks for no time, no chance, no threads, and it writes no log."""

import ast
from pathlib import Path

import durabletask.replay
import pytest

MODULES = sorted(Path(durabletask.replay.__file__).parent.glob("*.py"))
IMPURE = {"asyncio", "logging", "os", "random", "secrets", "socket", "threading", "time", "grpc", "concurrent"}
FORBIDDEN_CALLS = {"now", "utcnow", "today", "uuid4", "uuid1"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_of_the_engine_reaches_for_nothing_outside(module):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in imported} & IMPURE
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not {call.attr for call in calls if isinstance(call, ast.Attribute)} & FORBIDDEN_CALLS
