"""Queries sent together: one round trip, one state of the store.

Like writing, it speaks libpq's own pipeline mode: psycopg's costs several times as much as such queries do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import psycopg
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from durabletask_scheduler.storage.postgres_pipeline import exchange, first_error
from durabletask_scheduler.storage.postgres_values import decoder, encoded
from durabletask_scheduler.storage.rows import Row

_PARAMETER = re.compile(r"%\((\w+)\)s")
# Filters can be combined in more ways than a server should keep plans of.
_MOST_PREPARED = 100


class Reading:
    """The queries of one connection, each planned once."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._prepared: dict[bytes, bytes] = {}

    def rows(self, queries: Sequence[str], parameters: Mapping[str, object]) -> list[list[Row]]:
        """The rows of each query.

        Args:
            queries: with parameters such as ``%(key)s``.

        Raises:
            psycopg.Error: they could not be read. The connection cannot be used any more.
            struct.error, UnicodeError: a parameter is none that could be stored.
        """
        calls = []
        for query in queries:
            sql, names = _numbered(query)
            calls.append((sql, encoded(parameters[name] for name in names)))
        try:
            results = self._converse(calls)
        except BaseException:
            self._connection.close()
            raise
        return [_rows_of(result) for result in results if result.status == ExecStatus.TUPLES_OK]

    def _converse(self, calls: Sequence[tuple[bytes, Sequence[bytes | None]]]) -> list[PGresult]:
        wire = self._wire
        wire.enter_pipeline_mode()
        expected = len(calls)
        for sql, values in calls:
            formats = [Format.BINARY] * len(values)
            if sql not in self._prepared and len(self._prepared) < _MOST_PREPARED:
                self._prepared[sql] = b"q%d" % len(self._prepared)
                wire.send_prepare(self._prepared[sql], sql)
                expected += 1
            if sql in self._prepared:
                wire.send_query_prepared(self._prepared[sql], values, formats, Format.BINARY)
            else:
                wire.send_query_params(sql, values, None, formats, Format.BINARY)
        wire.pipeline_sync()
        results = self._connection.wait(exchange(wire, expected))
        wire.exit_pipeline_mode()
        error = first_error(results)
        if error is not None:
            raise error
        return results


@lru_cache(maxsize=1000)
def _numbered(query: str) -> tuple[bytes, tuple[str, ...]]:
    """A query with numbers for the names of its parameters, and the names."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(query)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", query).encode(), names


def _rows_of(result: PGresult) -> list[Row]:
    value = result.get_value
    columns = [(column, decoder(result.ftype(column))) for column in range(result.nfields)]
    return [
        tuple([None if (found := value(row, column)) is None else decode(found) for column, decode in columns])
        for row in range(result.ntuples)
    ]
