"""A group of statements written in one round trip and one transaction.

It speaks libpq's own pipeline mode: what psycopg does for each statement costs several times as much as the statement.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

from durabletask_scheduler.storage.changes import Step
from durabletask_scheduler.storage.postgres_values import encoded
from durabletask_scheduler.storage.rows import Row

_Prepared = tuple[bytes, list[Format]]
_Call = tuple[_Prepared, Sequence[bytes | None]]

MANY = 16
"""So many rows at once take the server two thirds of the time that they take one by one; more save little more."""

_ROW = re.compile(r"\{([^}]*)\}")
_PARAMETER = re.compile(r"\$(\d+)")
_EACH = re.compile(r"\$(\d+)\.\.\.")

_FINE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.PIPELINE_SYNC)


def over_rows(sql: str, count: int) -> str:
    """A statement over so many rows at once.

    Args:
        sql: with the types of a row in braces, in place of which come the parameters of the rows: ``($1::bigint,
            $2::text), ($3::bigint, $4::text)``. In place of ``$2...`` comes the second one of each: ``$2, $4``.
    """
    before, types, after = _ROW.split(sql)
    width = types.count(",") + 1
    numbers = range(0, count * width, width)
    rows = (
        ", ".join(f"${first + place}::{name.strip()}" for place, name in enumerate(types.split(","), start=1))
        for first in numbers
    )
    after = _EACH.sub(lambda found: ", ".join(f"${first + int(found[1])}" for first in numbers), after)
    return f"{before}({'), ('.join(rows)}){after}"


class Pipeline:
    """Prepared statements of one connection.

    Args:
        statements: their SQL by name, each over rows; see :func:`over_rows`.
    """

    def __init__(self, connection: psycopg.Connection, statements: Mapping[str, str]) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._prepare("begin", "BEGIN")
        self._prepare("commit", "COMMIT")
        self._over_one = {name: self._prepare(name, over_rows(sql, 1)) for name, sql in statements.items()}
        self._over_many = {
            name: self._prepare(f"{name}_many", over_rows(sql, MANY)) for name, sql in statements.items()
        }

    def run(self, steps: Iterable[Step]) -> None:
        """Run statements over their rows, in order, in a transaction of their own.

        Raises:
            psycopg.Error: if the connection is still there, nothing was written; else what became of the transaction
                is not known.
            struct.error, UnicodeError: a value cannot be stored; nothing was written.
        """
        calls = [call for name, rows in steps for call in self._calls(name, list(rows))]
        try:
            error = self._converse(calls)
        except BaseException:
            # What was begun cannot be taken up again.
            self._connection.close()
            raise
        if error is not None:
            self._connection.rollback()
            raise error

    def _prepare(self, name: str, sql: str) -> _Prepared:
        prepared = self._wire.prepare(name.encode(), sql.encode())
        if prepared.status not in _FINE:
            raise _error_of(prepared)
        return name.encode(), [Format.BINARY] * max(map(int, _PARAMETER.findall(sql)), default=0)

    def _calls(self, name: str, rows: Sequence[Row]) -> Iterator[_Call]:
        taken = 0
        while len(rows) - taken >= MANY:
            yield self._over_many[name], encoded(itertools.chain.from_iterable(rows[taken : taken + MANY]))
            taken += MANY
        for row in rows[taken:]:
            yield self._over_one[name], encoded(row)

    def _converse(self, calls: Sequence[_Call]) -> psycopg.Error | None:
        wire = self._wire
        wire.enter_pipeline_mode()
        wire.send_query_prepared(b"begin", None)
        for (name, formats), parameters in calls:
            wire.send_query_prepared(name, parameters, formats)
        wire.send_query_prepared(b"commit", None)
        wire.pipeline_sync()
        results = self._connection.wait(exchange(wire, len(calls) + 2))
        wire.exit_pipeline_mode()
        return first_error(results)


def exchange(wire: PGconn, statements: int) -> PQGen[list[PGresult]]:
    """Send what is buffered, and read the results of the statements and of the end of the pipeline.

    Raises:
        psycopg.OperationalError: the connection is lost.
    """
    while wire.flush():
        if (yield Wait.RW) & Ready.R:
            wire.consume_input()
    results = []
    for _ in range(statements):
        # The results of a statement end with None.
        while (result := (yield from _result(wire))) is not None:
            results.append(result)
    yield from _result(wire)
    if wire.status != ConnStatus.OK:
        raise psycopg.OperationalError(str(first_error(results) or "the server is gone"))
    return results


def first_error(results: Iterable[PGresult]) -> psycopg.Error | None:
    """What the first statement that failed says."""
    failed = next((result for result in results if result.status not in _FINE), None)
    return None if failed is None else _error_of(failed)


def _result(wire: PGconn) -> PQGen[PGresult | None]:
    while wire.is_busy():
        yield Wait.R
        wire.consume_input()
    return wire.get_result()


def _error_of(result: PGresult) -> psycopg.Error:
    message = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return psycopg.DatabaseError(message.decode(errors="replace").strip())
