"""Generate the Python stubs of the wire protocol, or check that the committed ones are fresh.

    python generate.py            write the stubs beside the .proto
    python generate.py --check    exit 1 and name the stale files, write nothing

Needs grpcio-tools and mypy-protobuf in the versions pinned in the repository's
``hatch.toml`` (environment ``proto``); ``make proto`` and ``make proto-check`` provide them.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata, resources

SOURCE = pathlib.Path(__file__).parent / "src"
PACKAGE = "durabletask_proto"
PROTOCOL = f"{PACKAGE}/orchestrator_service"
ADDITIONS = f"{PACKAGE}/scheduler_additions"
REQUIRED = {"grpcio-tools": "1.76.0", "mypy-protobuf": "5.1.0"}

# The protocol has no proto package, so the packaged service name must not reach the wire.
PACKAGED_SERVICE = f"{PACKAGE}.TaskHubSidecarService"
WIRE_SERVICE = "TaskHubSidecarService"


def check_generators() -> None:
    """Exit with a message unless the pinned generators are installed: another one writes other stubs."""
    for distribution, required in REQUIRED.items():
        try:
            found = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found = "nothing"
        if found != required:
            sys.exit(f"generate.py needs {distribution}=={required}, found {found}: run `make proto`.")


def generate(target: pathlib.Path) -> list[pathlib.Path]:
    """Write the stubs below ``target`` and return their paths relative to it."""
    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{SOURCE}",
        f"-I{well_known}",
        f"--python_out={target}",
        f"--mypy_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out={target}",
        f"{PROTOCOL}.proto",
        f"{ADDITIONS}.proto",
    ]
    if protoc.main(arguments) != 0:
        sys.exit(f"protoc failed on {SOURCE / PACKAGE}/*.proto; its message is above.")
    restore_service_name(target / f"{PROTOCOL}_pb2_grpc.py")
    return sorted(path.relative_to(target) for path in target.rglob("*_pb2*"))


def restore_service_name(stub: pathlib.Path) -> None:
    text = stub.read_text(encoding="utf-8")
    if PACKAGED_SERVICE not in text:
        sys.exit(f"{stub.name}: expected the service name {PACKAGED_SERVICE!r} in it, found none.")
    stub.write_text(text.replace(PACKAGED_SERVICE, WIRE_SERVICE), encoding="utf-8")


def stale(generated: pathlib.Path, names: Sequence[pathlib.Path]) -> list[str]:
    """Names of the stubs that are missing, superfluous or different from the generated ones."""
    committed = {path.relative_to(SOURCE) for path in SOURCE.rglob("*_pb2*.py*") if "__pycache__" not in path.parts}
    different = {
        name for name in names if name in committed and (SOURCE / name).read_bytes() != (generated / name).read_bytes()
    }
    return sorted(str(name) for name in different | (committed ^ set(names)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate the stubs of the wire protocol.")
    parser.add_argument("--check", action="store_true", help="only check that the committed stubs are fresh")
    check = parser.parse_args().check
    check_generators()
    if not check:
        generate(SOURCE)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder)
        outdated = stale(target, generate(target))
    if outdated:
        sys.exit("These stubs do not match the .proto; run `make proto` and commit them:\n  " + "\n  ".join(outdated))


if __name__ == "__main__":
    main()
