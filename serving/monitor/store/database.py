"""Opens the store: its URL, SQLite's settings, the migrations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, SQLAlchemyError

from ranker.errors import UserError
from serving.monitor.store.watchdog import Watchdog

_MIGRATIONS = Path(__file__).parent / "migrations"
_SQLITE_BUSY = 10_000
"""Milliseconds to wait for another process's transaction."""
_LONGEST_USE = 30.0
"""Seconds that one transaction on PostgreSQL may take before its connection is shut down."""
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
# A store that does not answer must fail, not hang. A URL may say otherwise.
# Connecting is in seconds, the rest in milliseconds.
_POSTGRESQL_TIMEOUTS = {
    "connect_timeout": "10",
    "tcp_user_timeout": "30000",
    "options": "-c lock_timeout=10000 -c statement_timeout=25000",
}
# PostgreSQL only: two processes that open a new store at once must not both create the tables
_MIGRATION_LOCK = 7_246_315


@dataclass(frozen=True)
class Store:
    """An open store. Thread-safe; connections come from a pool.

    Attributes:
        engine: the SQLAlchemy engine, with the newest schema in place.
        url: the address without a password, for messages.
        watchdog: of a server's connections; None: of SQLite.
    """

    engine: Engine
    url: str
    watchdog: Watchdog | None = None
    writing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def sqlite(self) -> bool:
        """Whether the store is a SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, nothing of it kept after an error."""
        # SQLite: a transaction that reads first and then writes fails at once if another process wrote in between
        engine = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with self.writing, self._watching(), engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the store."""
        with self._watching(), self.engine.connect() as connection:
            yield connection

    def _watching(self) -> AbstractContextManager[None]:
        return self.watchdog.watching() if self.watchdog is not None else nullcontext()

    def close(self) -> None:
        """Closes every pooled connection."""
        self.engine.dispose()


def store_url(target: str | Path) -> str:
    """The SQLAlchemy URL of a store: a URL as it is, a path as a SQLite file.

    Example:
        >>> store_url("runs/a/monitor.db")
        'sqlite:///runs/a/monitor.db'
    """
    text = str(target)
    return text if "://" in text else f"sqlite:///{text}"


def open_store(target: str | Path, *, create: bool = True) -> Store:
    """Opens a store and brings its schema up to date.

    Args:
        target: a path of a SQLite file, or a URL: `sqlite:///FILE`, `postgresql://USER@HOST/DATABASE`.
        create: make the SQLite file where there is none.

    Raises:
        UserError: the URL is not one, the database does not open, the file is not a store, or its schema is newer.
    """
    try:
        url = make_url(store_url(target))
    except ArgumentError:
        raise UserError(f"the store must be a file or a database URL. Received: {str(target)!r}") from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    display_url = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        file = Path(url.database)
        if not create and not file.exists():
            raise UserError(f"the store must exist: run the monitor first. Received: {file}")
        if not file.parent.is_dir():
            raise UserError(f"the store's directory must exist. Received: {file}")
    try:
        is_sqlite = url.get_backend_name() == "sqlite"
        engine = create_engine(
            url if is_sqlite else url.update_query_dict(_POSTGRESQL_TIMEOUTS | dict(url.query)),
            pool_pre_ping=not is_sqlite,
        )
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        _migrate(engine, display_url)
    except (NoSuchModuleError, ImportError, TypeError) as error:
        raise UserError(
            f"the store's URL must name sqlite or postgresql. Received: {display_url} ({_one_line(error)})"
        ) from None
    except (DatabaseError, InterfaceError) as error:
        raise UserError(
            f"the store cannot be opened. Received: {display_url} ({_one_line(error.orig or error)})"
        ) from None
    except SQLAlchemyError as error:
        raise UserError(f"the store cannot be opened. Received: {display_url} ({_one_line(error)})") from None
    return Store(engine, display_url, None if is_sqlite else Watchdog(engine, _LONGEST_USE))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _configure_sqlite(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    connection.isolation_level = None  # type: ignore[attr-defined]  # we say BEGIN ourselves, below
    for pragma in (
        f"busy_timeout={_SQLITE_BUSY}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # sqlite3's own implicit BEGIN comes too late (after the first read): a deferred one here gives readers a snapshot
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _migrate(engine: Engine, display_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == head:
        return
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise UserError(
            f"the store must not be newer than this program. Received: {display_url} at revision {current!r}"
        )
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        elif connection.in_transaction():
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise UserError(
                f"the store's schema cannot be brought up to date. Received: {display_url} ({_one_line(error)})"
            ) from None
