import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diffkeeper.errors import DamagedTraceError, NoSuchTraceError
from diffkeeper.store.rocks import RocksStore, remove_logs


def key(number: int) -> bytes:
    return b"m:e" + number.to_bytes(8, "big")


def value(number: int) -> bytes:
    return number.to_bytes(4, "big") * 500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a closed store of three tables, with 100 items in each."""
    path = tmp_path / "store"
    store = RocksStore.create(path)
    for table in range(3):
        store.put_many((key(number), value(number)) for number in range(table * 100, table * 100 + 100))
        store.flush()
    store.close()
    return path


def snapshot(path: Path) -> dict[str, tuple[object, ...]]:
    facts = {}
    for entry in sorted(path.iterdir()):
        stat = entry.lstat()
        facts[entry.name] = (entry.read_bytes(), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_nlink, stat.st_ino)
    return facts


def test_items_come_back_in_the_order_of_their_keys(path: Path) -> None:
    store = RocksStore.open_readonly(path)
    assert store.get(key(7)) == value(7)
    assert store.get(key(700)) is None
    assert store.contains(key(7))
    assert not store.contains(key(700))
    assert [found for found, _ in store.scan(b"m:e")] == [key(number) for number in range(300)]
    assert [found for found, _ in store.scan(b"m:e", start=key(298))] == [key(298), key(299)]
    assert list(store.scan(b"m:f")) == []
    store.close()


def test_the_last_item_of_a_prefix_is_found(path: Path) -> None:
    store = RocksStore.open_readonly(path)
    assert store.last(b"m:e") == (key(299), value(299))
    assert store.last(b"m:e", at_most=key(17)) == (key(17), value(17))
    assert store.last(b"m:a") is None
    assert store.last(b"m:z") is None
    store.close()


def test_reading_changes_no_byte_and_no_inode_of_a_store(path: Path) -> None:
    before = snapshot(path)
    store = RocksStore.open_readonly(path)
    assert len(list(store.scan(b"m:e"))) == 300
    store.close()
    assert snapshot(path) == before


def test_a_store_may_lie_in_a_directory_that_cannot_be_written(path: Path) -> None:
    path.chmod(0o500)
    try:
        store = RocksStore.open_readonly(path)
        assert store.get(key(250)) == value(250)
        store.close()
    finally:
        path.chmod(0o700)


def test_closing_removes_the_temporary_directory(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    store = RocksStore.open_readonly(path)
    assert len(os.listdir(temporary)) == 1
    store.close()
    store.close()
    assert os.listdir(temporary) == []


def test_what_was_not_flushed_is_gone_after_a_kill_and_the_rest_is_there(path: Path) -> None:
    script = """
import os, sys
from diffkeeper.store.rocks import RocksStore
store = RocksStore.create(sys.argv[1])
store.put_many([(b"m:s1", b"one")]); store.flush()
store.put_many([(b"m:s2", b"two")])
os.kill(os.getpid(), 9)
"""
    subprocess.run(
        [sys.executable, "-c", script, str(path)], check=False, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    store = RocksStore.open_readonly(path)
    assert list(store.scan(b"m:s")) == [(b"m:s1", b"one")]
    assert len(list(store.scan(b"m:e"))) == 300
    store.close()
    again = RocksStore.create(path)
    assert again.get(b"m:s1") == b"one"
    again.close()


def test_items_can_be_removed(path: Path) -> None:
    store = RocksStore.create(path)
    store.delete_many([key(5), key(5000)])
    assert store.get(key(5)) is None
    store.close()


def test_a_sealed_store_has_no_logs(path: Path) -> None:
    remove_logs(path)
    assert not list(path.glob("LOG*"))
    store = RocksStore.open_readonly(path)
    assert store.get(key(0)) == value(0)
    store.close()


def test_no_store_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(NoSuchTraceError):
        RocksStore.open_readonly(tmp_path / "store")


def test_a_link_in_a_store_is_not_followed(path: Path, tmp_path: Path) -> None:
    table = max(path.glob("*.sst"))
    table.rename(tmp_path / "elsewhere.sst")
    table.symlink_to(tmp_path / "elsewhere.sst")
    store = RocksStore.open_readonly(path)
    assert store.damage
    assert store.get(key(250)) is None
    store.close()


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [Path.unlink, _truncate])
def test_a_missing_or_cut_table_costs_what_was_in_it_and_is_named(path: Path, damage: Callable[[Path], None]) -> None:
    tables = sorted(path.glob("*.sst"))
    damage(tables[1])
    before = snapshot(path)
    store = RocksStore.open_readonly(path)
    assert any(tables[1].name in words for words in store.damage)
    found = [int.from_bytes(item[3:], "big") for item, _ in store.scan(b"m:e")]
    assert found == [*range(100), *range(200, 300)]
    store.close()
    assert snapshot(path) == before


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*"])
def test_a_store_without_its_list_of_tables_is_still_read(path: Path, pattern: str) -> None:
    next(path.glob(pattern)).unlink()
    store = RocksStore.open_readonly(path)
    assert "damaged" in store.damage[0]
    assert len(list(store.scan(b"m:e"))) == 300
    store.close()


def test_a_changed_byte_costs_its_block_and_is_told(path: Path) -> None:
    table = sorted(path.glob("*.sst"))[1]
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 1
    table.write_bytes(data)
    store = RocksStore.open_readonly(path)
    found = [int.from_bytes(item[3:], "big") for item, _ in store.scan(b"m:e")]
    lost = sorted(set(range(300)) - set(found))
    assert found == sorted(found)
    assert 0 < len(lost) < 10
    assert "cannot read all of m:e" in store.damage[0]
    with pytest.raises(DamagedTraceError, match="m:e"):
        store.get(key(lost[0]))
    store.close()


def test_nonsense_in_place_of_a_store_is_a_damaged_trace(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    (tmp_path / "MANIFEST-000001").write_bytes(os.urandom(500))
    (tmp_path / "000009.sst").write_bytes(os.urandom(5000))
    try:
        store = RocksStore.open_readonly(tmp_path)
    except DamagedTraceError:
        return
    assert store.damage
    assert list(store.scan(b"")) == []
    store.close()
