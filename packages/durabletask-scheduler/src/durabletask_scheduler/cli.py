"""The command line: ``durabletask-scheduler serve`` and what an operator does with its file.

A failure is one line on standard error and exit code 1; wrong usage is exit code 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from durabletask_scheduler.security import arguments
from durabletask_scheduler.security.errors import SecurityError

if TYPE_CHECKING:
    from durabletask_scheduler.scheduler import Scheduler
    from durabletask_scheduler.signals import StopSignals

PROGRAM = "durabletask-scheduler"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
SYNCHRONOUS = ("full", "normal", "off")
CORES = ("one", "all")
_SYNCHRONOUS_HELP = (
    "full: a power loss loses nothing; normal: it may lose the last changes; off: it may damage the file"
)
_UNITS = {"K": 1024, "M": 1024 * 1024}
_MOST = 2**31
STOP_SECONDS = 10.0

logger = logging.getLogger("durabletask_scheduler.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; None for those of this process.

    Returns:
        the exit code: 0 done, 1 failed (or ``check`` found something); usage errors exit with 2.
    """
    # gRPC's core writes its own lines about what becomes one clear error here; it reads this once, when imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    parsed = _parser(os.environ).parse_args(arguments)

    from durabletask_scheduler.server import ServerError
    from durabletask_scheduler.storage import StorageError, StorageUnusable

    try:
        return int(_COMMANDS[parsed.command](parsed))
    except (ServerError, SecurityError, StorageError, StorageUnusable, OSError) as error:
        sys.stderr.write(f"{PROGRAM}: error: {error}\n")
        return 1


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="A durable scheduler for every Durable Task SDK.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of this package")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run a scheduler"), environment)

    backup = commands.add_parser("backup", help="copy a scheduler's file, also while it is in use")
    backup.add_argument("source", metavar="SOURCE", help="the file", type=_file)
    backup.add_argument("target", metavar="TARGET", help="the copy; must not exist")

    check = commands.add_parser("check", help="report what is wrong with a scheduler's file")
    check.add_argument("database", metavar="FILE or URL")

    vacuum = commands.add_parser("vacuum", help="give the room of purged instances back to the disk")
    vacuum.add_argument("file", metavar="FILE", type=_file, help="not in use by a scheduler")

    hubs = commands.add_parser("hubs", help="list the task hubs of a scheduler's file, or add one")
    hubs.add_argument("database", metavar="FILE or URL", help="not in use by a scheduler")
    hubs.add_argument("--add", metavar="NAME", help="create this task hub first")

    locks = commands.add_parser("locks", help="list the locked entities of a scheduler's file, also while it is in use")
    locks.add_argument("file", metavar="FILE", type=_file)

    unlock = commands.add_parser("unlock", help="take an entity from the orchestration that has locked it, by force")
    unlock.add_argument("entity", metavar="ENTITY", help="id of the entity, such as @account@42")
    unlock.add_argument("--reason", required=True, metavar="TEXT", help="why; the scheduler logs it")
    unlock.add_argument(
        "--address",
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="the running scheduler (default: %(default)s)",
    )
    unlock.add_argument("--task-hub", default="", metavar="NAME", help="default: the scheduler's default task hub")
    arguments.add_connection(unlock)

    arguments.add_token(commands.add_parser("token", help="make bearer tokens for a scheduler's callers"))
    return parser


def _add_serve(serve: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    def option(flag: str, variable: str, default: str, text: str, **more: object) -> None:
        name = f"DURABLETASK_SCHEDULER_{variable}"
        text = f"{text} (default: {default}; environment: {name})"
        serve.add_argument(flag, default=environment.get(name, default), help=text, **more)  # type: ignore[arg-type]

    option(
        "--db",
        "DB",
        "durabletask.db",
        "SQLite file, created if it does not exist, or postgresql://...",
        metavar="FILE",
    )
    option("--host", "HOST", "127.0.0.1", "interface to listen on; beyond loopback, callers must be authenticated")
    option("--port", "PORT", "8080", "port to listen on; 0 lets the system choose", type=_port)
    option("--synchronous", "SYNCHRONOUS", "full", _SYNCHRONOUS_HELP, **_one_of(SYNCHRONOUS))
    option("--log-level", "LOG_LEVEL", "info", "least severity of logs on stderr", **_one_of(LOG_LEVELS))
    option("--log-format", "LOG_FORMAT", "text", "json: one object a line", **_one_of(LOG_FORMATS))
    option(
        "--max-message-size",
        "MAX_MESSAGE_SIZE",
        "64M",
        "largest request: inputs, results, and all that one turn asks for; in bytes, or with K or M",
        type=_size,
        metavar="SIZE",
    )
    option(
        "--max-history-events",
        "MAX_HISTORY_EVENTS",
        "200000",
        "events of one instance at which it fails; continue-as-new begins anew",
        type=_count,
        metavar="N",
    )
    option(
        "--cores",
        "CORES",
        "one",
        "one: keep to one core of the machine while that is faster (Linux); all: never",
        **_one_of(CORES),
    )
    hubs = environment.get("DURABLETASK_SCHEDULER_TASK_HUBS", "default")
    serve.add_argument(
        "--task-hub",
        action="append",
        dest="task_hubs",
        metavar="NAME",
        type=_task_hub,
        help="task hub to create if it does not exist; may be repeated; the first serves calls that name none "
        "(default: default; environment: DURABLETASK_SCHEDULER_TASK_HUBS, separated by commas)",
    )
    arguments.add_security(serve, environment)
    serve.set_defaults(default_task_hubs=[name.strip() for name in hubs.split(",") if name.strip()] or ["default"])


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < _MOST):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {_MOST - 1}, found {text!r}")
    return int(text)


def _size(text: str) -> int:
    factor = _UNITS.get(text[-1:].upper(), 1)
    digits = text if factor == 1 else text[:-1]
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) * factor < _MOST):
        raise argparse.ArgumentTypeError(f"expected bytes below 2 GiB, such as 67108864, 512K or 64M, found {text!r}")
    return int(digits) * factor


def _task_hub(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected the name of a task hub, found nothing")
    return text.strip()


def _file(text: str) -> str:
    from durabletask_scheduler.storage.opening import is_postgres

    if is_postgres(text):
        raise argparse.ArgumentTypeError(
            "expected a SQLite file, found the address of a PostgreSQL database: that has tools of its own "
            "(pg_dump, vacuumdb)"
        )
    return text


class _OneOf:
    """A choice that ignores case."""

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = choices

    def __call__(self, text: str) -> str:
        if text.lower() not in self._choices:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(self._choices)}, found {text!r}")
        return text.lower()


def _one_of(choices: Sequence[str]) -> dict[str, Any]:
    """The keywords of an option that is one of these; its help lists them."""
    return {"type": _OneOf(choices), "metavar": f"{{{','.join(choices)}}}"}


class _Version(argparse.Action):
    """Print the version and end; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"{PROGRAM} {version(PROGRAM)}\n")
        parser.exit()


def _serve(options: argparse.Namespace) -> int:
    from durabletask_scheduler.cores import OneCore
    from durabletask_scheduler.logs import configure
    from durabletask_scheduler.scheduler import Scheduler
    from durabletask_scheduler.server import ServerOptions
    from durabletask_scheduler.service import Limits, ServiceOptions
    from durabletask_scheduler.signals import StopSignals
    from durabletask_scheduler.storage.opening import describe

    configure(options.log_level, options.log_format)
    signals = StopSignals()
    hubs: list[str] = options.task_hubs or options.default_task_hubs
    security = arguments.security_from(options)
    security.check(options.host)
    scheduler = Scheduler(
        options.db,
        task_hubs=hubs,
        synchronous=options.synchronous,
        standby_seconds=None,
        server_options=ServerOptions(max_receive_bytes=options.max_message_size),
        service_options=ServiceOptions(
            limits=Limits(history_events=options.max_history_events), on_failure=signals.give_up
        ),
    )
    cores = OneCore()
    try:
        if not _start(scheduler, signals):
            return 0
        if options.cores == "one":
            cores.start()
        port = scheduler.serve(options.host, options.port, security=security)
        if security.is_open(options.host):
            logger.warning(
                "%s is reachable from other machines and there is no authentication: whoever can connect may start, "
                "read, change and delete everything",
                options.host,
            )
        host = f"[{options.host}]" if ":" in options.host else options.host
        sys.stdout.write(
            f"{PROGRAM}: ready on {security.scheme}://{host}:{port}, task hubs: {', '.join(hubs)}, "
            f"data in {describe(options.db)} (synchronous={options.synchronous.upper()})\n"
        )
        sys.stdout.flush()
        _collect_garbage_less_often()
        asked_to = signals.wait()
        logger.info("stopping")
    finally:
        cores.stop()
        scheduler.stop(STOP_SECONDS)
    return 0 if asked_to else 1


def _start(scheduler: Scheduler, signals: StopSignals) -> bool:
    """Start it, as soon as no other scheduler owns its store; False if a signal to stop came before that."""
    from durabletask_scheduler.storage import StorageUnusable

    waits = False

    def pause(seconds: float) -> bool:
        nonlocal waits
        if not waits:
            logger.info("standing by: another scheduler owns the store")
        waits = True
        return signals.pause(seconds)

    try:
        scheduler.start(pause=pause)
    except StorageUnusable:
        if waits and signals.pause(0.0):
            logger.info("stopped while standing by")
            return False
        raise
    if waits:
        logger.info("taking over")
    return True


def _collect_garbage_less_often() -> None:
    """Leave what is loaded by now out of collections, which otherwise take a tenth of the time under load."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _backup(options: argparse.Namespace) -> int:
    from durabletask_scheduler.storage.maintenance import backup

    backup(options.source, options.target)
    return _say(f"copied {options.source} to {options.target}")


def _check(options: argparse.Namespace) -> int:
    from durabletask_scheduler.storage.opening import check, describe, is_postgres

    findings = check(options.database)
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    name = describe(options.database) if is_postgres(options.database) else options.database
    return 1 if findings else _say(f"{name} is sound")


def _vacuum(options: argparse.Namespace) -> int:
    from durabletask_scheduler.storage.maintenance import vacuum

    return _say(f"{options.file} is {vacuum(options.file)} bytes smaller")


def _hubs(options: argparse.Namespace) -> int:
    from durabletask_scheduler.storage import StorageUnusable
    from durabletask_scheduler.storage.opening import is_postgres, open_store

    if not is_postgres(options.database) and not os.path.exists(options.database):
        raise StorageUnusable(f"{options.database} does not exist; give the path of a scheduler's file")
    storage = open_store(options.database, "FULL")
    try:
        if options.add:
            storage.add_task_hub(options.add)
        for name in storage.task_hubs():
            sys.stdout.write(f"{name}\n")
    finally:
        storage.close()
    return 0


def _locks(options: argparse.Namespace) -> int:
    from durabletask_scheduler.storage.maintenance import locks

    for lock in locks(options.file):
        since = datetime.fromtimestamp(lock.since // 1_000_000_000, tz=timezone.utc).isoformat()
        sys.stdout.write(
            f"{lock.task_hub}: {lock.entity} is locked by {lock.owner} since {since}; waiting: {lock.waiting}\n"
        )
    return 0


def _unlock(options: argparse.Namespace) -> int:
    import grpc
    from durabletask_proto import orchestrator_service_pb2 as pb
    from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc

    from durabletask_scheduler.entity_queries import UNLOCK_METADATA
    from durabletask_scheduler.service import TASK_HUB_METADATA

    asked = json.dumps({"entity": options.entity, "reason": options.reason})
    metadata = ((UNLOCK_METADATA, asked), (TASK_HUB_METADATA, options.task_hub), *arguments.token_metadata(options))
    with arguments.open_channel(options) as channel:
        try:
            stub = pb_grpc.TaskHubSidecarServiceStub(channel)
            stub.CleanEntityStorage(pb.CleanEntityStorageRequest(), metadata=metadata, timeout=STOP_SECONDS)
        except grpc.RpcError as error:
            raise OSError(f"{options.entity} was not unlocked: {error.details()}") from error
    return _say(f"{options.entity} is unlocked")


def _say(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return 0


_COMMANDS = {
    "serve": _serve,
    "backup": _backup,
    "check": _check,
    "vacuum": _vacuum,
    "hubs": _hubs,
    "locks": _locks,
    "unlock": _unlock,
    "token": arguments.create_token,
}
