"""The rules of the code's structure: who may import whom, what pure machines may not touch, how long things may be.

Each rule is a function from modules to complaints; every one is also tried on a bad source, to prove that it bites.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(ROOT.glob("packages/*/src"))
GENERATED = re.compile(r"_pb2(_grpc)?\.py$")
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_MODULE = 600

CORE, ENTITIES, SCHEDULED, AZURE = (
    "durabletask",
    "durabletask.entities",
    "durabletask.scheduled",
    "durabletask.azuremanaged",
)
PROTO, SCHEDULER = "durabletask_proto", "durabletask_scheduler"

# What the modules of each package may never import. Add-ons reach the core through entry points, by name.
FORBIDDEN_PACKAGES = {
    "durabletask-proto": {CORE, SCHEDULER},
    "durabletask-core": {ENTITIES, SCHEDULED, AZURE, SCHEDULER},
    "durabletask-entities": {AZURE, SCHEDULER},
    "durabletask-azuremanaged": {ENTITIES, SCHEDULED, SCHEDULER},
    "durabletask-scheduler": {CORE},
}

# A pure machine waits for nothing, draws nothing and tells nothing: time, ids and chance are arguments.
PURE = ("durabletask.replay", "durabletask_scheduler.hub")
IMPURE_MODULES = {
    "asyncio",
    "concurrent",
    "grpc",
    "http",
    "logging",
    "multiprocessing",
    "os",
    "queue",
    "random",
    "sched",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
DOCUMENTED_DESPITE_THE_UNDERSCORE = {"_asdict", "_fields", "_getframe", "_replace"}
IMPURE_CALLS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid1", "uuid.uuid4"}


@dataclass(frozen=True)
class Module:
    name: str
    text: str
    is_package: bool = False
    tree: ast.Module = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", ast.parse(self.text))


def modules_below(source: Path) -> list[Module]:
    modules = []
    for path in sorted(source.rglob("*.py")):
        if not GENERATED.search(path.name):
            parts = path.relative_to(source).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    return modules


def is_below(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def imports(module: Module, *, typing_only_too: bool = False) -> Iterator[tuple[str, int]]:
    """Every imported dotted name and its line; ``from a import b`` gives ``a.b``, relative names are resolved."""
    guarded = {
        child
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not typing_only_too
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import) and node not in guarded:
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node not in guarded:
            own = module.name.split(".")
            package = own[: len(own) - node.level + module.is_package] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def forbidden_imports(modules: Iterable[Module], forbidden: set[str]) -> list[str]:
    return [
        f"{module.name}:{line} imports {name}"
        for module in modules
        for name, line in imports(module)
        if is_below(name, forbidden)
    ]


def impurities(modules: Iterable[Module]) -> list[str]:
    pure = [module for module in modules if is_below(module.name, PURE)]
    calls = [
        f"{module.name}:{node.lineno} calls {name}"
        for module in pure
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and (name := ".".join(ast.unparse(node.func).split(".")[-2:])) in IMPURE_CALLS
    ]
    return forbidden_imports(pure, IMPURE_MODULES) + calls


def attributes_defined_in(module: Module) -> set[str]:
    """Private attributes and methods of the module's own classes: inside one module they are nobody else's."""
    methods = {node.name for node in ast.walk(module.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assigned = re.findall(r"self\.(_\w+)\b[^=\n(]*=(?!=)", module.text)
    fields = re.findall(r"^\s+(_\w+)\s*:", module.text, re.MULTILINE)
    return {*methods, *assigned, *fields}


def private_uses(modules: list[Module]) -> list[str]:
    """Private names of other modules: imported (a private module is open to its own distribution) or reached into."""
    own_modules = {module.name for module in modules}
    complaints = []
    for module in modules:
        for name, line in imports(module, typing_only_too=True):
            parts = name.split(".")
            private = [i for i, part in enumerate(parts) if re.match(r"_[a-zA-Z]", part) and parts[0].startswith(CORE)]
            if any(".".join(parts[: i + 1]) not in own_modules for i in private):
                complaints.append(f"{module.name}:{line} imports the private {name}")
        free = DOCUMENTED_DESPITE_THE_UNDERSCORE | attributes_defined_in(module)
        complaints += [
            f"{module.name}:{node.lineno} reaches into {ast.unparse(node)}"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and re.match(r"_[a-zA-Z]", node.attr) and node.attr not in free
            if not ast.unparse(node.value).startswith(("self", "cls", "super("))
        ]
    return complaints


def oversizes(modules: Iterable[Module]) -> list[str]:
    complaints = []
    for module in modules:
        if (lines := module.text.count("\n")) > MOST_LINES_OF_A_MODULE:
            complaints.append(f"{module.name} has {lines} lines")
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_LINES_OF_A_FUNCTION:
                    complaints.append(f"{module.name}:{node.lineno} {node.name} has {length} lines")
    return complaints


@pytest.fixture(params=SOURCES, ids=[source.parent.name for source in SOURCES])
def package(request: pytest.FixtureRequest) -> tuple[str, list[Module]]:
    source: Path = request.param
    return source.parent.name, modules_below(source)


def test_a_package_imports_only_what_it_may(package: tuple[str, list[Module]]) -> None:
    name, modules = package
    assert modules
    assert forbidden_imports(modules, FORBIDDEN_PACKAGES[name]) == []


def test_pure_machines_touch_neither_clock_nor_chance_nor_the_world() -> None:
    modules = [module for source in SOURCES for module in modules_below(source)]
    assert {pure for pure in PURE if any(is_below(module.name, [pure]) for module in modules)} == set(PURE)
    assert impurities(modules) == []


def test_no_module_uses_the_private_names_of_another(package: tuple[str, list[Module]]) -> None:
    assert private_uses(package[1]) == []


def test_functions_and_modules_stay_short(package: tuple[str, list[Module]]) -> None:
    assert oversizes(package[1]) == []


BAD = Module(
    "durabletask.replay.bad",
    textwrap.dedent(
        """
        from datetime import datetime
        from typing import TYPE_CHECKING
        import time
        from random import choice
        from .. import entities
        from durabletask.worker import _secret
        from durabletask._worker.pool import Pool
        if TYPE_CHECKING:
            import logging

        def run(other):
            other._count += self._own
            return datetime.now(), super()._fine, self._fine, other._replace(a=1)
        """
    )
    + "def long():\n"
    + "    pass\n" * 700,
)
BITES = [
    (forbidden_imports([BAD], {ENTITIES}), ["durabletask.replay.bad:6 imports durabletask.entities"]),
    (
        impurities([BAD]),
        [
            "durabletask.replay.bad:4 imports time",
            "durabletask.replay.bad:5 imports random.choice",
            "durabletask.replay.bad:14 calls datetime.now",
        ],
    ),
    (
        private_uses([BAD, Module("durabletask._worker", ""), Module("durabletask._worker.pool", "")]),
        [
            "durabletask.replay.bad:7 imports the private durabletask.worker._secret",
            "durabletask.replay.bad:13 reaches into other._count",
        ],
    ),
    (oversizes([BAD]), ["durabletask.replay.bad has 715 lines", "durabletask.replay.bad:15 long has 701 lines"]),
]


@pytest.mark.parametrize(("complaints", "expected"), BITES, ids=["imports", "purity", "privacy", "sizes"])
def test_a_rule_bites_on_bad_code(complaints: list[str], expected: list[str]) -> None:
    assert complaints == expected
