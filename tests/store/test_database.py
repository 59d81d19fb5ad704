"""The sqlite file: opened lazily, mended when damaged, invisible when only looked at."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.database import SCHEMA_VERSION, Database
from lorapipe.store.journal import Journal, Making, Record
from lorapipe.store.paths import StorePaths

COUNT = "SELECT count(*) FROM entries"


def row(key: str) -> tuple[str, tuple[object, ...]]:
    return ("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", (key, "sha", 1, 2))


@pytest.fixture
def paths(root: Path) -> StorePaths:
    return StorePaths(root)


@pytest.fixture
def database(paths: StorePaths) -> Iterator[Database]:
    with closing(Database(paths)) as opened:
        yield opened


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*")}


def test_reading_before_the_first_write_finds_nothing_and_makes_nothing(
    database: Database, root: Path
) -> None:
    assert database.query(COUNT) == []
    assert not root.parent.exists()


def test_what_is_written_is_read_by_another_process_connection(database: Database, paths: StorePaths) -> None:
    database.write(row("a"), row("b"))
    with closing(Database(paths)) as other:
        assert other.query("SELECT key FROM entries ORDER BY key") == [("a",), ("b",)]


def test_it_is_in_wal_mode_with_its_schema_version(database: Database, paths: StorePaths) -> None:
    database.write()
    with closing(sqlite3.connect(paths.database)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
def test_durable_writes_reach_the_disk(
    database: Database, durable: bool, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.write(row("a"), durable=durable)
    assert database.query("PRAGMA synchronous") == [(level,)]


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    database.write(row("a"))
    with pytest.raises(sqlite3.ProgrammingError):
        database.write(row("b"), ("INSERT INTO entries VALUES (?, ?, ?, ?)", ("too few",)))
    assert database.query("SELECT key FROM entries") == [("a",)]
    database.write(row("c"))
    assert database.query(COUNT) == [(2,)]


def test_threads_share_it(database: Database) -> None:
    threads = [threading.Thread(target=lambda n=n: database.write(row(f"k{n}"))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query(COUNT) == [(16,)]


def test_many_may_make_it_at_once(paths: StorePaths) -> None:
    """Switching to WAL is where sqlite does not wait; our kernel lock does."""
    faults: list[BaseException] = []

    def make(number: int) -> None:
        try:
            with closing(Database(paths)) as mine:
                mine.write(row(f"k{number}"))
        except BaseException as error:  # noqa: BLE001  # carried to the main thread
            faults.append(error)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with closing(Database(paths)) as reader:
        assert reader.query(COUNT) == [(8,)]


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def a_page_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


def tables_gone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE entries")


def version_reset(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 0")


DAMAGE = [garbage, emptied, cut_short, a_page_overwritten, tables_gone, version_reset]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reads_first", [True, False])
def test_a_damaged_file_is_moved_aside_and_started_anew(
    database: Database, paths: StorePaths, damage: object, reads_first: bool
) -> None:
    database.write(row("a"))
    database.close()
    damage(paths.database)  # type: ignore[operator]
    if reads_first:
        assert database.query(COUNT) in ([], [(0,)])
    database.write(row("b"))
    assert database.query("SELECT key FROM entries") == [("b",)]
    if damage is not emptied:  # an empty file is an empty database
        assert paths.database.with_name("index.sqlite.damaged").exists()


def test_damage_under_an_open_connection_is_mended_too(database: Database, paths: StorePaths) -> None:
    database.write(row("a"))
    with closing(sqlite3.connect(paths.database)) as raw:
        raw.execute("DROP TABLE entries")
    database.write(row("b"))
    assert database.query("SELECT key FROM entries") == [("b",)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_looking_at_a_damaged_file_finds_nothing_and_leaves_it(
    database: Database, paths: StorePaths, root: Path, damage: object
) -> None:
    database.write(row("a"))
    database.close()
    damage(paths.database)  # type: ignore[operator]
    before = tree(root)
    with closing(Database(paths, looking=True)) as looking:
        assert looking.query(COUNT) == []
    assert tree(root) == before


def test_a_file_deleted_under_an_open_connection_is_made_again(database: Database, paths: StorePaths) -> None:
    database.write(row("a"))
    paths.database.unlink()
    assert database.query(COUNT) == []
    database.write(row("b"))
    with closing(Database(paths)) as other:
        assert other.query("SELECT key FROM entries") == [("b",)]


def test_a_whole_store_deleted_under_an_open_connection_is_made_again(
    database: Database, paths: StorePaths, root: Path
) -> None:
    database.write(row("a"))
    shutil.rmtree(root)
    database.write(row("b"))
    with closing(Database(paths)) as other:
        assert other.query("SELECT key FROM entries") == [("b",)]


def test_looking_leaves_no_trace(database: Database, paths: StorePaths, root: Path) -> None:
    database.write(row("a"))
    database.close()
    before = tree(root)
    with closing(Database(paths, looking=True)) as looking:
        assert looking.query("SELECT key FROM entries") == [("a",)]
        assert tree(root) == before
    assert tree(root) == before


def test_looking_sees_what_a_writer_has_just_committed(database: Database, paths: StorePaths) -> None:
    database.write(row("a"))
    with closing(Database(paths, looking=True)) as looking:
        assert looking.query(COUNT) == [(1,)]
        database.write(row("b"))
        assert looking.query(COUNT) == [(2,)]
        database.close()
        assert looking.query(COUNT) == [(2,)]


def test_looking_where_there_is_no_store_finds_nothing(paths: StorePaths, root: Path) -> None:
    with closing(Database(paths, looking=True)) as looking:
        assert looking.query(COUNT) == []
        with pytest.raises(BuildError) as caught:
            looking.write(row("a"))
    assert caught.value.code == "store-unwritable"
    assert not root.parent.exists()


def test_a_newer_store_is_refused_for_writing_and_kept(database: Database, paths: StorePaths) -> None:
    database.write(row("a"))
    database.close()
    with closing(sqlite3.connect(paths.database)) as raw:
        raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert database.query(COUNT) == []
    with pytest.raises(BuildError) as caught:
        database.write(row("b"))
    assert caught.value.code == "store-newer"
    assert str(caught.value) == (
        f"error: the store {paths.root} was made by a newer lorapipe"
        " - update lorapipe, or name another folder in LORAPIPE_STORE"
    )
    with closing(sqlite3.connect(paths.database)) as raw:
        assert raw.execute("SELECT key FROM entries").fetchall() == [("a",)]


def test_patience_with_another_writer_ends_in_a_named_error(paths: StorePaths) -> None:
    with closing(Database(paths)) as first:
        first.write(row("a"))
        with closing(sqlite3.connect(paths.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with closing(Database(paths, patience_s=0.05)) as second:
                assert second.query(COUNT) == [(1,)]
                with pytest.raises(BuildError) as caught:
                    second.write(row("b"))
    assert caught.value.code == "store-busy"
    assert str(caught.value) == (
        f"error: another process has held {paths.database} for 0.05 s - run again when it has ended"
    )


def test_a_full_disk_is_named(database: Database, paths: StorePaths) -> None:
    database.write(row("a"))
    assert database.query("PRAGMA page_count")
    (pages,) = database.query("PRAGMA page_count")[0]
    database.query(f"PRAGMA max_page_count = {pages}")  # sqlite then behaves as on a full disk
    with pytest.raises(BuildError) as caught:
        database.write(*(row(f"{n}" * 100) for n in range(1000)))
    assert caught.value.code == "disk-full"
    assert database.query("SELECT key FROM entries") == [("a",)]


def test_a_folder_in_its_place_is_named(paths: StorePaths, database: Database) -> None:
    paths.database.mkdir(parents=True)
    assert database.query(COUNT) == []
    with pytest.raises(BuildError) as caught:
        database.write(row("a"))
    assert caught.value.code == "store-unwritable"
    assert caught.value.hint == "name another folder in LORAPIPE_STORE"


def test_strange_characters_in_the_path_are_no_part_of_the_uri(tmp_path: Path) -> None:
    paths = StorePaths(tmp_path / "a?mode=memory#b %41")
    with closing(Database(paths)) as database:
        database.write(row("a"))
        assert paths.database.stat().st_size > 0
    with closing(Database(paths, looking=True)) as looking:
        assert looking.query(COUNT) == [(1,)]


def test_a_store_of_the_first_schema_is_brought_up_to_date_with_all_it_had(
    paths: StorePaths, tmp_path: Path
) -> None:
    """Released migrations never change: this is what the first lorapipe wrote."""
    first = """
        CREATE TABLE memo (
            file TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, guard TEXT NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE journal (
            number INTEGER PRIMARY KEY, path BLOB NOT NULL, sha256 TEXT NOT NULL, key TEXT NOT NULL,
            UNIQUE (path, sha256)
        );
        CREATE TABLE entries (
            key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, used_ns INTEGER NOT NULL
        ) WITHOUT ROWID;
        INSERT INTO entries VALUES ('k', 's', 1, 2);
        PRAGMA user_version = 1;
    """
    paths.create()
    with closing(sqlite3.connect(paths.database)) as raw:
        raw.executescript(first)
        raw.execute("INSERT INTO journal (path, sha256, key) VALUES (?, 'a', 'k')", (bytes(tmp_path / "f"),))
        raw.commit()

    with closing(Database(paths)) as database:
        database.prepare()
        assert database.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert database.query("SELECT * FROM entries") == [("k", "s", 1, 2)]
        assert Journal(database).last(tmp_path / "f") == (Record("a", "k", Making()),)
        Journal(database).record(tmp_path / "f", "b", "k2", making=Making("p", "l", "c"))
        assert Journal(database).last(tmp_path / "f")[0] == Record("b", "k2", Making("p", "l", "c"))
