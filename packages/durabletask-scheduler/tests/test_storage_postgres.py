"""The PostgreSQL store: opening, owners and standbys, lost connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from durabletask_scheduler.hub.model import PENDING, Commit, Instance
from durabletask_scheduler.storage import InstanceFilter, StorageError, StorageLost, StorageUnusable
from durabletask_scheduler.storage.postgres import PostgresStorage
from durabletask_scheduler.storage.statements import migrations
from postgres_server import PostgresServer

psycopg = pytest.importorskip("psycopg", reason='needs psycopg: pip install "psycopg[binary]"')

from durabletask_scheduler.storage import postgres_opening  # noqa: E402
from durabletask_scheduler.storage.postgres_lock import find_holder  # noqa: E402
from durabletask_scheduler.storage.postgres_maintenance import check  # noqa: E402
from durabletask_scheduler.storage.postgres_opening import Target, check_server, connect  # noqa: E402

HUB = "default"
TIMEOUT = 20.0


def make(key: int) -> Instance:
    return Instance(key, HUB, f"i{key}", "e", "order", None, PENDING, key, key, b"started")


@pytest.fixture
def open_store(postgres_database: Any) -> Iterator[Callable[..., PostgresStorage]]:
    """Opens the database of this test, any number of times."""
    with contextlib.ExitStack() as stack:

        def open_it(url: str = postgres_database.url, **options: Any) -> PostgresStorage:
            store = PostgresStorage(url, schema=postgres_database.schema, **options)
            stack.callback(store.close)
            return store

        yield open_it


@pytest.fixture
def store(open_store: Callable[..., PostgresStorage]) -> PostgresStorage:
    store = open_store()
    store.add_task_hub(HUB)
    return store


@pytest.fixture
def operator(postgres_database: Any) -> Iterator[Any]:
    """A connection beside the store's."""
    with connect(Target(postgres_database.url, postgres_database.schema), {}) as connection:
        yield connection


@pytest.fixture
def target(postgres_database: Any) -> Target:
    return Target(postgres_database.url, postgres_database.schema)


def end_session(operator: Any, pid: int) -> None:
    """End a session of somebody else's, and return when it is gone."""
    assert operator.execute("SELECT pg_terminate_backend(%s::int, 10000)", [pid]).fetchone() == (True,)


def end_owner(operator: Any, target: Target) -> None:
    holder = find_holder(operator, target)
    assert holder is not None
    end_session(operator, holder.pid)


class Waiting:
    """A way to pause that tells when it is used, and can be ended."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.stop = threading.Event()

    def __call__(self, seconds: float) -> bool:
        self.begun.set()
        return self.stop.wait(seconds)


class Opening:
    """A store that is opened on a thread of its own."""

    def __init__(self, open_store: Callable[..., PostgresStorage], **options: Any) -> None:
        self.pause = Waiting()
        self._found: list[PostgresStorage | Exception] = []
        self._thread = threading.Thread(target=self._open, args=(open_store, options))
        self._thread.start()

    def _open(self, open_store: Callable[..., PostgresStorage], options: dict[str, Any]) -> None:
        try:
            self._found.append(open_store(pause=self.pause, **options))
        except StorageUnusable as error:
            self._found.append(error)

    def result(self) -> PostgresStorage | Exception:
        self._thread.join(TIMEOUT)
        assert self._found, "the store was neither opened nor refused"
        return self._found[0]


# ---- One owner, and standbys ----

_HOLD = """
import sys
from durabletask_scheduler.storage.postgres import PostgresStorage
store = PostgresStorage(sys.argv[1], schema=sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def owner_process(database: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOLD, database.url, database.schema]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None and owner.stdout.readline() == "open\n"
            yield owner
        finally:
            owner.kill()


def test_a_store_has_one_owner_who_is_named(postgres_database: Any, open_store: Callable[..., PostgresStorage]) -> None:
    with owner_process(postgres_database) as owner:
        with pytest.raises(StorageUnusable) as caught:
            open_store()
        message = str(caught.value)
        assert f":{owner.pid}, at 127.0.0.1, session " in message
        assert "connected since" in message and "stop that one first" in message
        assert "\n" not in message


def test_schemas_are_stores_of_their_own(postgres_database: Any, store: PostgresStorage) -> None:
    other = PostgresStorage(postgres_database.url, schema=f'{postgres_database.schema} "b"')
    with contextlib.closing(other):
        store.write([Commit(created=[make(1)])])
        assert other.last_key() == 0 and other.task_hubs() == []


def test_a_standby_takes_over_what_was_written_when_the_owner_closes(
    open_store: Callable[..., PostgresStorage], store: PostgresStorage
) -> None:
    standby = Opening(open_store, standby_seconds=None)
    assert standby.pause.begun.wait(TIMEOUT)
    store.write([Commit(created=[make(1)])])
    store.close()
    successor = standby.result()
    assert isinstance(successor, PostgresStorage)
    assert successor.load(HUB, "i1") == make(1)


def test_a_standby_takes_over_when_the_owner_is_killed(
    postgres_database: Any, open_store: Callable[..., PostgresStorage]
) -> None:
    with owner_process(postgres_database) as owner:
        standby = Opening(open_store, standby_seconds=TIMEOUT)
        assert standby.pause.begun.wait(TIMEOUT)
        owner.kill()
        assert isinstance(standby.result(), PostgresStorage)


def test_the_wait_for_an_owner_can_be_ended(
    open_store: Callable[..., PostgresStorage], store: PostgresStorage, operator: Any, target: Target
) -> None:
    standby = Opening(open_store, standby_seconds=None)
    assert standby.pause.begun.wait(TIMEOUT)
    standby.pause.stop.set()
    ended = standby.result()
    assert isinstance(ended, StorageUnusable) and str(ended).startswith("the wait was ended: ")
    store.close()
    assert find_holder(operator, target) is None


def test_a_standby_outlives_a_restart_of_the_server() -> None:
    with PostgresServer(fsync=False) as server:
        owner = PostgresStorage(server.url)
        standby = Opening(lambda **options: PostgresStorage(server.url, **options), standby_seconds=None)
        assert standby.pause.begun.wait(TIMEOUT)
        server.stop()
        owner.close()
        standby.pause.begun.clear()
        assert standby.pause.begun.wait(TIMEOUT)
        server.start()
        successor = standby.result()
        assert isinstance(successor, PostgresStorage)
        successor.close()


# ---- Lost connections ----


def test_a_lost_connection_fails_one_write_and_loses_nothing(
    store: PostgresStorage, operator: Any, target: Target
) -> None:
    """Lesson 60."""
    store.write([Commit(created=[make(1)])])
    end_owner(operator, target)
    with pytest.raises(StorageError, match=r"the connection to .* is lost"):
        store.write([Commit(created=[make(2)])])
    assert store.load(HUB, "i1") == make(1)
    assert store.load(HUB, "i2") is None
    store.write([Commit(created=[make(3)])])
    assert store.counts(HUB) == {(PENDING, "", ""): 2}


def readers(operator: Any, target: Target) -> list[int]:
    """The sessions by which the store has loaded instances."""
    holder = find_holder(operator, target)
    assert holder is not None
    rows = operator.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND pid <> ALL (%s) AND query LIKE '%%inbox%%'",
        [holder.application, [holder.pid, operator.info.backend_pid]],
    ).fetchall()
    assert rows
    return [pid for (pid,) in rows]


def test_a_reader_connects_again(store: PostgresStorage, operator: Any, target: Target) -> None:
    store.write([Commit(created=[make(1)])])
    assert store.load(HUB, "i1") == make(1)
    for pid in readers(operator, target):
        end_session(operator, pid)
    assert store.load(HUB, "i1") == make(1)


def test_readers_connect_anew_when_the_owner_had_to(store: PostgresStorage, operator: Any, target: Target) -> None:
    """After a failover they would go on reading from the server before."""
    # All of them, one after the other.
    for _ in range(8):
        store.load(HUB, "i1")
    before = readers(operator, target)
    end_owner(operator, target)
    store.confirm()
    for _ in range(8):
        store.load(HUB, "i1")
    assert not set(before) & set(readers(operator, target))


def test_an_interrupted_write_is_not_taken_up_in_the_middle(
    store: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(psycopg.Connection, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write([Commit(created=[make(1)])])
    assert store.load(HUB, "i1") in (None, make(1))
    store.write([Commit(created=[make(2)])])
    assert store.load(HUB, "i2") == make(2)


def test_an_owner_that_was_succeeded_writes_and_reads_nothing_any_more(
    open_store: Callable[..., PostgresStorage], store: PostgresStorage, operator: Any, target: Target
) -> None:
    """Lesson 47: the session that holds the lock is the one that writes, so that the database fences."""
    store.write([Commit(created=[make(1)])])
    end_owner(operator, target)
    successor = open_store()
    with pytest.raises(StorageError):
        store.write([Commit(created=[make(2)])])
    for use in (lambda: store.write([Commit(created=[make(2)])]), store.confirm, lambda: store.load(HUB, "i1")):
        with pytest.raises(StorageLost, match=r"another scheduler has taken over .* session \d+.*started anew"):
            use()
    assert successor.counts(HUB) == {(PENDING, "", ""): 1}


def test_an_owner_learns_that_it_had_a_successor_who_is_gone(
    open_store: Callable[..., PostgresStorage], store: PostgresStorage, operator: Any, target: Target
) -> None:
    end_owner(operator, target)
    successor = open_store()
    successor.write([Commit(created=[make(1)])])
    successor.close()
    for _ in range(2):
        with pytest.raises(StorageLost, match=r"has had .* meanwhile; this scheduler has to be started anew"):
            store.confirm()
    assert find_holder(operator, target) is None


def test_confirming_takes_the_lock_again(store: PostgresStorage, operator: Any, target: Target) -> None:
    store.confirm()
    end_owner(operator, target)
    store.confirm()
    assert find_holder(operator, target) is not None
    store.write([Commit(created=[make(1)])])


def test_a_restart_of_the_server_is_survived() -> None:
    with PostgresServer(fsync=False) as server, contextlib.closing(PostgresStorage(server.url)) as store:
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1)])])
        server.stop()
        for use in (store.confirm, lambda: store.load(HUB, "i1"), lambda: store.write([])):
            with pytest.raises(StorageError, match="is lost") as caught:
                use()
            assert not isinstance(caught.value, StorageLost)
        server.start()
        assert store.load(HUB, "i1") == make(1)


@pytest.mark.parametrize(("synchronous", "fsync"), [("FULL", True), ("FULL", False), ("NORMAL", True)])
def test_a_crash_of_the_server_ends_an_owner_that_did_not_wait_for_the_disk(synchronous: str, fsync: bool) -> None:
    """Lesson 60: what was acknowledged may be missing, and memory would be ahead of what is stored."""
    with (
        PostgresServer(fsync=fsync) as server,
        contextlib.closing(PostgresStorage(server.url, synchronous=synchronous)) as store,
    ):
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1)])])
        for _ in range(2):
            server.stop(crash=True)
            server.start()
            if fsync and synchronous == "FULL":
                store.confirm()
                assert store.load(HUB, "i1") == make(1)
            else:
                with pytest.raises(StorageLost, match="may have lost writes"):
                    store.confirm()


def test_a_server_in_the_place_of_another_ends_the_owner(operator: Any, target: Target, store: PostgresStorage) -> None:
    """A replica that was promoted has nothing in unlogged tables, and another timeline than the one before."""
    operator.execute("DELETE FROM uninterrupted")
    end_owner(operator, target)
    with pytest.raises(StorageLost, match="has crashed or was replaced, and may have lost writes"):
        store.confirm()


class Proxy:
    """A network between a store and its server, on which things happen.

    Attributes:
        port: where it listens.
        deaf: while set, what the server says does not arrive.
        change: what becomes of it otherwise.
    """

    def __init__(self, server_port: int) -> None:
        self._server = ("127.0.0.1", server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.deaf = threading.Event()
        self.heard_nothing = threading.Event()
        self.change: Callable[[bytes], bytes] = lambda data: data
        self._clients: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._server)
                self._clients.append(client)
                self._servers.append(server)
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self.deaf.is_set():
                    self.heard_nothing.set()
                else:
                    sink.sendall(self.change(data) if answers else data)
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """The store's connections are gone, which the server does not learn."""
        for client in self._clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)
            client.close()

    def close(self) -> None:
        self._listener.close()
        for end in (*self._clients, *self._servers):
            end.close()


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(postgres_server.port)) as proxy:
        yield proxy


def through(proxy: Proxy, server: PostgresServer) -> str:
    return server.url.replace(f":{server.port}/", f":{proxy.port}/")


def test_a_group_whose_outcome_was_not_heard_is_there_before_anything_is_read_again(
    open_store: Callable[..., PostgresStorage], proxy: Proxy, postgres_server: PostgresServer
) -> None:
    """Lesson 60: what was reported as failed may have been written; nobody may read the state before it."""
    store = open_store(through(proxy, postgres_server))
    store.add_task_hub(HUB)
    proxy.deaf.set()
    failures: list[Exception] = []

    def write() -> None:
        try:
            store.write([Commit(created=[make(1)])])
        except StorageError as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert proxy.heard_nothing.wait(TIMEOUT)
    proxy.cut()
    writer.join(TIMEOUT)
    assert len(failures) == 1 and "it is not known whether the last writes are in it" in str(failures[0])
    proxy.deaf.clear()
    assert store.load(HUB, "i1") == make(1)
    store.write([Commit(created=[make(2)])])


def test_a_pooler_is_refused(
    open_store: Callable[..., PostgresStorage], proxy: Proxy, postgres_server: PostgresServer
) -> None:
    """A pooler answers with numbers of its own for cancelling; its sessions pass from one client to another."""
    proxy.change = _renumber
    with pytest.raises(StorageUnusable, match=r"through a pooler.*give the address of the server itself"):
        open_store(through(proxy, postgres_server))


def _renumber(answer: bytes) -> bytes:
    """With another number of the session in BackendKeyData."""
    begin, found, rest = answer.partition(b"K\0\0\0\x0c")
    return begin + found + b"\0\0\0\1" + rest[4:] if found else answer


# ---- Opening ----


def address(database: Any, **changes: str) -> str:
    return psycopg.conninfo.make_conninfo(database.url, **changes)


@pytest.mark.parametrize(
    ("changes", "says", "advice"),
    [
        ({"password": "s3cret-wrong"}, "password authentication failed", "check the user and the password"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist', "create the database or correct its name"),
        ({"port": "1", "password": "s3cret"}, "refused", "start the server, or correct host and port"),
        ({"host": "nowhere.invalid", "password": "s3cret"}, "nowhere.invalid", "correct the name of the host"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    postgres_database: Any, changes: dict[str, str], says: str, advice: str
) -> None:
    with pytest.raises(StorageUnusable) as caught:
        PostgresStorage(address(postgres_database, **changes))
    message = str(caught.value)
    assert says in message and advice in message
    assert message.startswith("postgresql://scheduler@") and "\n" not in message
    password = psycopg.conninfo.conninfo_to_dict(address(postgres_database, **changes))["password"]
    assert password not in message


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@[::1/x", "postgresql://u:s3cret@h?color=red", "s3cret"])
def test_an_address_that_is_not_understood_is_not_repeated(url: str) -> None:
    with pytest.raises(StorageUnusable, match="expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE") as caught:
        PostgresStorage(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("schema", ["", "x" * 64, "a\0b"])
def test_a_schema_needs_a_name(postgres_database: Any, schema: str) -> None:
    with pytest.raises(StorageUnusable, match="a schema has a name of 1 to 63 bytes"):
        PostgresStorage(postgres_database.url, schema=schema)


def test_an_unknown_durability_is_refused(postgres_database: Any) -> None:
    with pytest.raises(ValueError, match="FULL, NORMAL, OFF, found 'full'"):
        PostgresStorage(postgres_database.url, synchronous="full")


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("durabletask_scheduler.storage.postgres_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageUnusable, match=r'pip install "durabletask-scheduler\[postgres\]"'):
        PostgresStorage("postgresql://localhost/x")


def test_a_user_who_may_create_nothing_is_told_what_is_missing(
    postgres_database: Any, operator: Any, open_store: Callable[..., PostgresStorage]
) -> None:
    operator.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        guest = address(postgres_database, user="guest", password="guest")
        with pytest.raises(StorageUnusable, match=r"could not be brought to schema 1 .*denied.*GRANT CREATE"):
            open_store(guest)
        operator.execute(psycopg.sql.SQL("CREATE SCHEMA {} AUTHORIZATION guest").format(_name(postgres_database)))
        open_store(guest).close()
    finally:
        operator.execute("DROP OWNED BY guest")
        operator.execute("DROP ROLE guest")


def _name(database: Any) -> Any:
    return psycopg.sql.Identifier(database.schema)


@pytest.mark.parametrize(
    ("spoil", "says", "advice"),
    [
        ("UPDATE store SET schema_version = 9999", "written by a newer scheduler (schema 9999", "upgrade"),
        ("DROP TABLE store", "holds tables of another application", "give another schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_and_let_go(
    store: PostgresStorage,
    open_store: Callable[..., PostgresStorage],
    operator: Any,
    target: Target,
    spoil: str,
    says: str,
    advice: str,
) -> None:
    store.close()
    operator.execute(spoil)
    with pytest.raises(StorageUnusable) as caught:
        open_store()
    assert says in str(caught.value) and advice in str(caught.value)
    assert find_holder(operator, target) is None


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [number for number, _ in migrations("postgres")]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("newest", range(1, len(migrations("postgres"))))
def test_a_store_of_an_earlier_schema_is_brought_up_to_date(
    open_store: Callable[..., PostgresStorage], operator: Any, monkeypatch: pytest.MonkeyPatch, newest: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(postgres_opening, "migrations", lambda store: migrations(store)[:newest])
        with contextlib.closing(open_store()) as old:
            assert operator.execute("SELECT schema_version FROM store").fetchone() == (newest,)
            old.add_task_hub(HUB)
            old.write([Commit(created=[make(7)])])
    store = open_store()
    assert operator.execute("SELECT schema_version FROM store").fetchone() == (len(migrations("postgres")),)
    loaded = store.load_key(7)
    assert loaded is not None and loaded.instance_id == make(7).instance_id
    page = store.query(HUB, InstanceFilter(), limit=9, after=None, payloads=False)
    assert [row.instance_id for row in page] == [loaded.instance_id]


def test_a_database_in_another_encoding_is_refused(postgres_database: Any, operator: Any) -> None:
    operator.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(StorageUnusable, match="has the encoding LATIN1; create one with ENCODING 'UTF8'"):
            PostgresStorage(address(postgres_database, dbname="latin"))
    finally:
        operator.execute("DROP DATABASE latin WITH (FORCE)")


def _server(version: int) -> Any:
    return SimpleNamespace(info=SimpleNamespace(server_version=version))


def test_an_old_server_and_an_old_library_are_refused(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageUnusable, match="is PostgreSQL 12; upgrade it to 13 or newer"):
        check_server(_server(120_017), target)
    monkeypatch.setattr(psycopg.capabilities, "has_pipeline", lambda: False)
    with pytest.raises(StorageUnusable, match=r'older than 14; pip install "psycopg\[binary\]"'):
        check_server(_server(160_000), target)


# ---- Maintenance ----


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("SELECT 1", ""),
        ("DELETE FROM instances WHERE key = 1", "instance row 1, which does not exist"),
        ("DELETE FROM task_hubs", "task hub 1, which does not exist"),
        ("DELETE FROM started_events", "'i1' (row 1) is not finished and has no started"),
        ("UPDATE instances SET completed = 'x'", "'i1' (row 1) is not finished and has a completed"),
        ("UPDATE instances SET event_count = 1", "i1: 1 instead of 0"),
        ("UPDATE instances SET status = 1, completed_at = 1, completed = 'x'", "i1: 0 instead of 1"),
    ],
)
def test_check_finds_what_must_not_be(
    store: PostgresStorage, postgres_database: Any, operator: Any, damage: str, found: str
) -> None:
    store.write([Commit(created=[make(1)])])
    operator.execute(damage)
    findings = check(postgres_database.url, schema=postgres_database.schema)
    assert bool(findings) is bool(found)
    assert found in "\n".join(findings)


def test_check_wants_a_store(postgres_database: Any) -> None:
    with pytest.raises(StorageUnusable, match="holds no scheduler's data"):
        check(postgres_database.url, schema=postgres_database.schema)
    with pytest.raises(StorageUnusable, match="cannot be opened"):
        check(address(postgres_database, port="1"))
