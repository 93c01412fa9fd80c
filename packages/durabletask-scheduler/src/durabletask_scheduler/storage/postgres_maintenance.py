"""What an operator does with a PostgreSQL store; backups are PostgreSQL's own (pg_dump, pg_basebackup)."""

from __future__ import annotations

import psycopg
from psycopg.rows import tuple_row

from durabletask_scheduler.storage.postgres_opening import Target, connect, require_store, unusable
from durabletask_scheduler.storage.rows import Row
from durabletask_scheduler.storage.rules import broken_rules

# What reads everything is best left to the planner.
_SETTINGS = dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"), "on")


def check(url: str, *, schema: str = "durabletask") -> list[str]:
    """What is wrong with a store, one line each; empty if it is sound. Works while a scheduler uses it.

    At most 100 lines of a kind are given.

    Raises:
        StorageUnusable: there is no scheduler's data in the schema, or the database cannot be read.
    """
    target = Target(url, schema)
    try:
        with connect(target, _SETTINGS) as connection:
            require_store(connection, target)
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():

                def execute(statement: str) -> psycopg.Cursor[Row]:
                    return connection.cursor(row_factory=tuple_row).execute(statement.encode())

                return list(broken_rules(execute))
    except psycopg.Error as error:
        raise unusable(target, error) from error
