"""Environments for SDKs of others: created once, from the package registries, by the ordinary clients."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CREATE_SECONDS = 240

PYTHON_SDK = "1.12.0"
JAVASCRIPT_SDK = "0.4.0"
# What the JavaScript SDK asks for; the registry has it as a package where the installed one is older.
NODE_MAJOR = 22


class NotHere(Exception):
    """There can be no environment here, and that is no fault: the message says why."""


class CannotCreate(Exception):
    """Creating the environment failed; the message holds what the package client said."""


@dataclass(frozen=True)
class JavaScript:
    """Where the SDK is installed and the runtime that fits it."""

    folder: Path
    node: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a program outside the folder finds the SDK."""
        return {"NODE_PATH": str(self.folder / "node_modules")}


def python_sdk() -> Path:
    """The interpreter of an environment with the official Python SDK and its package for the managed service.

    Raises:
        NotHere: it must be created, and ``DURABLETASK_OFFLINE`` forbids it.
        CannotCreate: the package client failed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = _create_once(f"python-{PYTHON_SDK}-on-{version}", _install_python_sdk)
    return _python_of(folder)


def javascript_sdk() -> JavaScript:
    """The folder with the official JavaScript SDK, and node.

    Raises:
        NotHere: there is no node or npm, or it must be created and ``DURABLETASK_OFFLINE`` forbids it.
        CannotCreate: the package client failed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotHere("the JavaScript SDK needs node and npm on the path")
    own_node = _major(node) < NODE_MAJOR
    suffix = f"-with-node-{NODE_MAJOR}" if own_node else ""
    folder = _create_once(
        f"javascript-{JAVASCRIPT_SDK}{suffix}", lambda folder: _install_javascript_sdk(folder, npm, own_node)
    )
    return JavaScript(folder, folder / "node_modules" / "node" / "bin" / "node" if own_node else Path(node))


def _create_once(name: str, install: Callable[[Path], None]) -> Path:
    """The folder of this name, complete: one that was left half done is begun anew."""
    cache = Path(os.environ.get("DURABLETASK_INTEROP_CACHE") or ROOT / ".venv" / "interop")
    folder = cache.resolve() / name
    complete = folder / "complete"
    if not complete.exists():
        if os.environ.get("DURABLETASK_OFFLINE") == "1":
            raise NotHere(f"{folder} does not exist, and DURABLETASK_OFFLINE=1 forbids to create it")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        complete.touch()
    return folder


def _install_python_sdk(folder: Path) -> None:
    packages = [f"durabletask=={PYTHON_SDK}", f"durabletask.azuremanaged=={PYTHON_SDK}"]
    environment = str(folder / "env")
    if uv := _uv():
        _run(*uv, "venv", "--quiet", "--python", sys.executable, environment)
        _run(*uv, "pip", "install", "--quiet", "--python", str(_python_of(folder)), *packages)
    else:
        _run(sys.executable, "-m", "venv", environment)
        pip = (str(_python_of(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, *packages)


def _install_javascript_sdk(folder: Path, npm: str, own_node: bool) -> None:
    (folder / "package.json").write_text(json.dumps({"private": True}), encoding="utf-8")
    packages = [f"@microsoft/durabletask-js@{JAVASCRIPT_SDK}"] + [f"node@{NODE_MAJOR}"] * own_node
    _run(npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *packages, cwd=folder)


def _uv() -> tuple[str, ...]:
    if importlib.util.find_spec("uv"):
        return (sys.executable, "-m", "uv")
    found = shutil.which("uv")
    return (found,) if found else ()


def _python_of(folder: Path) -> Path:
    return folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    number = re.match(r"v(\d+)\.", said)
    return int(number[1]) if number else 0


def _run(*command: str, cwd: Path | None = None) -> None:
    words = " ".join(Path(word).name if word == command[0] else word for word in command)
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=CREATE_SECONDS, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise CannotCreate(f"{words}: not done after {CREATE_SECONDS} seconds. {_CURE}") from None
    if done.returncode:
        raise CannotCreate(f"{words} ended with {done.returncode}: {done.stderr or done.stdout}\n{_CURE}")


_CURE = "Is the package registry reachable? Set DURABLETASK_OFFLINE=1 to skip what needs it."
