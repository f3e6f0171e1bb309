"""`Store`: the file of an outbox. SQLite in one file, which one process at a time may use.

The journal (WAL) makes a transaction cost one write to the disk; it holds the last transactions
until they are copied into the file, so both belong together.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from generalad.errors import StorageError, UsageError
from generalad.files import make_folder, storage_error
from generalad.runtime.delivery.message import IMPORTANCE, Message, MessageKind

_APPLICATION = 0x67616471  # tells our files from other databases
_VERSION = 2
_SCHEMA = """
CREATE TABLE messages (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, topic TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE wills (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
);
"""

_COLUMNS = {"messages": "number, id, topic, length(payload)", "wills": "rowid, id, topic"}
"""What is read of each row."""


class Stored(NamedTuple):
    """A message on disk without its payload; `size` of the payload in bytes."""

    number: int
    id: str
    kind: MessageKind
    size: int


class Store:
    """An open file; every method may raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        """Open or create it; what is damaged is moved aside.

        Raises:
            StorageError: cannot be opened or written.
            UsageError: in use by another process, or not an outbox of this version.
        """
        self.path = path
        self.moved_aside: Path | None = None
        make_folder(path.parent)
        try:
            self._open()
        except sqlite3.Error as error:
            if not damaged(error):
                raise _refusal(error, path) from error
            self.start_anew()

    def _open(self) -> None:
        try:
            self._db = _connect(self.path)
        except UnicodeDecodeError as error:  # even the message about it
            raise sqlite3.DatabaseError("damaged") from error
        try:
            _check_rows(self._db)
        except (sqlite3.OperationalError, UnicodeDecodeError) as error:
            # Not the disk's: text that is none, or a table that is not there.
            raise sqlite3.DatabaseError("damaged") from error
        self.name: str = self._db.execute("SELECT value FROM facts WHERE name='name'").fetchone()[0]

    def start_anew(self) -> None:
        """Move a damaged file aside and go on with an empty one; raises like opening."""
        self.close()
        self.moved_aside = _move_aside(self.path)
        try:
            self._open()
        except sqlite3.Error as error:
            raise _refusal(error, self.path) from error

    def messages(self) -> list[Stored]:
        """All of them, in order."""
        rows = self._db.execute(
            "SELECT number, id, kind, length(payload) FROM messages ORDER BY number"
        )
        return [Stored(*row) for row in rows]

    def counts(self) -> dict[str, int]:
        """All of them."""
        return dict(self._db.execute("SELECT name, value FROM counts").fetchall())

    def wills(self) -> list[Message]:
        """Messages that a process which ended without a word has left to be sent, in order."""
        rows = self._db.execute("SELECT id, kind, topic, payload FROM wills ORDER BY rowid")
        return [Message(*row) for row in rows]

    def message(self, number: int) -> Message:
        """One with its payload."""
        row = self._db.execute(
            "SELECT id, kind, topic, payload FROM messages WHERE number=?", (number,)
        ).fetchone()
        if row is None:
            raise sqlite3.DatabaseError("a message is missing")
        return Message(*row)

    def write(
        self,
        *,
        gone: Iterable[int],
        new: Mapping[int, Message],
        counts: Mapping[str, int],
        wills: Iterable[Message] | None,
        durable: bool,
    ) -> None:
        """One transaction: remove, add and set; all of it or nothing.

        `wills` take the place of those in the file; None leaves them. With `durable` it survives a
        loss of power, otherwise only the end of the process.
        """
        db = self._db
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM messages WHERE number=?", ((number,) for number in gone))
            db.executemany(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?)",
                ((n, m.id, m.kind, m.topic, m.payload) for n, m in new.items()),
            )
            db.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", counts.items())
            if wills is not None:
                db.execute("DELETE FROM wills")
                db.executemany(
                    "INSERT INTO wills VALUES (?, ?, ?, ?)",
                    ((m.id, m.kind, m.topic, m.payload) for m in wills),
                )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of the file."""
        if hasattr(self, "_db"):
            with contextlib.suppress(sqlite3.Error):
                self._db.close()


def damaged(error: Exception) -> bool:
    """Whether the file is broken, or closed since it could not be replaced: not the disk."""
    return type(error) in (sqlite3.DatabaseError, sqlite3.ProgrammingError)


def reason(error: Exception) -> str:
    """What an error in writing means, in the words of the other outputs."""
    text = str(error)
    known = {
        "database or disk is full": "the disk is full",
        "attempt to write a readonly database": "no permission to write",
        "unable to open database file": "no permission to write",
    }
    return known.get(text, text)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        new = _is_new(db, path)
        db.execute("PRAGMA journal_mode=WAL")
        # In pages of 4 KiB. A long journal would take the room that the file needs to take it in.
        db.execute("PRAGMA wal_autocheckpoint=32")
        db.execute("BEGIN IMMEDIATE")  # takes the lock, which is kept until the end
        if new:
            _create(db)
        elif db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":  # found now, not later
            raise sqlite3.DatabaseError("damaged")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _check_rows(db: sqlite3.Connection) -> None:
    """Refuse content that no version has written, though the file itself is whole."""
    kinds = ", ".join(f"'{kind}'" for kind in IMPORTANCE)
    for table in ("messages", "wills"):
        wrong = db.execute(
            f"SELECT count(*) FROM {table} WHERE kind NOT IN ({kinds}) OR typeof(id) != 'text'"
            " OR typeof(topic) != 'text' OR typeof(payload) != 'blob'"
        ).fetchone()[0]
        for _ in db.execute(f"SELECT {_COLUMNS[table]} FROM {table}"):
            pass  # each text is decoded
        if wrong:
            raise sqlite3.DatabaseError("damaged")
    counts = db.execute("SELECT name, value FROM counts").fetchall()
    name = db.execute("SELECT value FROM facts WHERE name='name'").fetchone()
    if name is None or not all(type(value) is int and value >= 0 for _, value in counts):
        raise sqlite3.DatabaseError("damaged")


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty; refuses what is not ours, without changing it."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if not application and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return True
    if application != _APPLICATION or version != _VERSION:
        ours = application == _APPLICATION
        found = f"a queue of version {version}" if ours else "another database"
        raise UsageError(
            f"{path} is {found}, expected a queue of version {_VERSION}",
            remedy="name another file for the queue",
        )
    return False


def _create(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO facts VALUES ('name', ?)", (f"gad{uuid.uuid4().hex[:20]}",))
    db.execute(f"PRAGMA application_id={_APPLICATION}")
    db.execute(f"PRAGMA user_version={_VERSION}")


def _refusal(error: sqlite3.Error, path: Path) -> StorageError | UsageError:
    if "locked" in str(error):
        return UsageError(
            f"the queue {path} is in use by another process",
            remedy="end that one, or name another file for the queue",
        )
    return StorageError(
        f"cannot write {path}: {reason(error)}", remedy="check the path and the free space"
    )


def _move_aside(path: Path) -> Path:
    """Rename file and journal; a journal must not stay, it would be applied to the next file."""
    name = f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    aside = path.with_name(name)
    try:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    except OSError as error:
        raise storage_error(error, path) from error
    return aside
