"""Export: the tree that was asked for, and nothing outside of the place that was named."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
import tempfile

import pytest

from diffkeeper.errors import DamagedTraceError, DiffkeeperError, UsageError
from diffkeeper.export import export_tree
from diffkeeper.model.answers import Entry, Exactness
from diffkeeper.model.event import Meta

IS_ROOT = os.geteuid() == 0
TIME_NS = 1_600_000_000_123_456_789


class Tree:
    """Entries made by hand, or read from a directory, as export asks for them."""

    def __init__(self, *entries, content=None):
        self._entries = entries
        self._content = content or {}

    def entries(self):
        return iter(self._entries)

    def chunks(self, entry, *, allow_unknown=False):
        content = self._content.get(entry.path, b"")
        if isinstance(content, Exception):
            yield 0, b"begun"
            raise content
        yield from content if isinstance(content, list) else [(0, content)]

    def data_bytes(self, entry):
        content = self._content.get(entry.path, b"")
        return sum(len(data) for _, data in content) if isinstance(content, list) else entry.size


KINDS = {
    "f": stat.S_IFREG,
    "d": stat.S_IFDIR,
    "l": stat.S_IFLNK,
    "p": stat.S_IFIFO,
    "s": stat.S_IFSOCK,
    "c": stat.S_IFCHR,
}


def entry(path, kind="f", mode=0o644, size=0, target=b"", links=0, nlink=1, uid=None, gid=None, **more):
    meta = Meta(
        mode=KINDS[kind] | mode,
        uid=os.geteuid() if uid is None else uid,
        gid=os.getegid() if gid is None else gid,
        mtime_ns=more.pop("mtime_ns", TIME_NS),
        nlink=nlink,
        rdev=more.pop("rdev", 0),
    )
    return Entry(path, kind, meta, size, target, more.pop("xattrs", {}), links or hash(path), **more)


def tree_of(folder):
    """Read a directory as a tree."""
    entries, content = [], {}
    for path in sorted(p for p in folder.rglob("*")):
        found = path.lstat()
        name = os.fsencode(path.relative_to(folder))
        kind = {"100000": "f", "40000": "d", "120000": "l", "10000": "p", "140000": "s"}[
            f"{stat.S_IFMT(found.st_mode):o}"
        ]
        size = found.st_size if kind == "f" else 0
        target = os.fsencode(os.readlink(path)) if kind == "l" else b""
        meta = Meta(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_nlink)
        entries.append(Entry(name, kind, meta, size, target, {}, found.st_ino))
        if kind == "f":
            content[name] = path.read_bytes()
    return Tree(*entries, content=content)


def snapshot(folder):
    """Return all that is promised of a rebuilt tree."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        target = os.readlink(path) if path.is_symlink() else None
        links = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.lstat().st_ino == status.st_ino)
        key = str(path.relative_to(folder))
        found[key] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, data, target, links)
    return found


@pytest.fixture
def original(tmp_path):
    folder = tmp_path / "original"
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "empty").mkdir(mode=0o500)
    (folder / "a/one.txt").write_bytes(b"one")
    (folder / "a/b/two").write_bytes(b"2" * 70_000)
    (folder / "a/b/two").chmod(0o4751)
    os.link(folder / "a/b/two", folder / "zwei")
    (folder / "zero").touch()
    (folder / os.fsdecode(b"odd\n\xff name")).write_bytes(b"odd")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("../../..")
    os.mkfifo(folder / "a/fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "sock"))
    for path in [*folder.rglob("*")]:
        os.utime(path, ns=(TIME_NS, TIME_NS + hash(path.name) % 1000), follow_symlinks=False)
    (folder / "a/b").chmod(0o555)
    return folder


def test_an_exported_tree_is_the_tree(original, tmp_path):
    report = export_tree(tree_of(original), tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(original)
    assert report.is_complete
    assert report.entries == len(list(original.rglob("*")))
    assert report.bytes == 70_000 + 3 + 3


def test_an_export_with_force_replaces_what_is_in_the_way_and_keeps_the_rest(original, tmp_path):
    out = tmp_path / "out"
    (out / "zero").mkdir(parents=True)
    (out / "other").write_text("kept")
    (out / "outside").mkdir()
    (out / "a").symlink_to("outside")
    os.link(out / "other", out / "zwei")
    export_tree(tree_of(original), out, force=True)
    found = snapshot(out)
    assert (out / "other").read_text() == "kept"
    assert list((out / "outside").iterdir()) == []
    assert {key: found[key] for key in snapshot(original)} == snapshot(original)
    again = export_tree(tree_of(original), out, force=True)
    assert again.is_complete


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(original, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(UsageError, match="--force"):
        export_tree(tree_of(original), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_a_file_in_place_of_the_folder_is_refused(original, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="Not a directory"):
        export_tree(tree_of(original), tmp_path / "out", force=True)


def test_a_full_directory_in_the_way_of_a_file_is_not_removed(tmp_path):
    (tmp_path / "out/name/inner").mkdir(parents=True)
    report = export_tree(Tree(entry(b"name")), tmp_path / "out", force=True)
    assert [remark.reason for remark in report.skipped] == ["a directory that is not empty is in the way"]
    assert (tmp_path / "out/name/inner").is_dir()


@pytest.mark.parametrize(
    "path", [b"../evil", b"a/../../evil", b"/evil", b"..", b".", b"", b"a//b", b"a/./b", b"a\0b", b"d/..", b"ok/"]
)
@pytest.mark.parametrize("kind", ["f", "d", "l"])
@pytest.mark.parametrize("out_name", ["out", "out.tar"])
def test_a_name_that_leads_out_is_refused_and_named(path, kind, out_name, tmp_path):
    outside = tmp_path / "evil"
    report = export_tree(Tree(entry(path, kind, target=b"x"), entry(b"good")), tmp_path / out_name)
    assert [remark.path for remark in report.skipped] == [path]
    assert not outside.exists()
    if out_name == "out":
        assert os.listdir(tmp_path / "out") == ["good"]


def test_a_symlink_of_the_trace_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("safe")
    target = os.fsencode(victim)
    tree = Tree(
        entry(b"d", "l", target=target),
        entry(b"d", "d"),
        entry(b"d/file", size=4),
        entry(b"l", "l", target=target + b"/file"),
        entry(b"l", size=4),
        content={b"d/file": b"evil", b"l": b"evil"},
    )
    for force in (False, True):
        export_tree(tree, tmp_path / "out", force=force)
        assert (victim / "file").read_text() == "safe"
        assert os.listdir(victim) == ["file"]


def test_a_symlink_in_the_way_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("safe")
    victim.chmod(0o600)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/f").symlink_to(victim)
    (tmp_path / "out/p").symlink_to(victim)
    export_tree(Tree(entry(b"f", size=4), entry(b"p", "p"), content={b"f": b"evil"}), tmp_path / "out", force=True)
    assert victim.read_text() == "safe"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert (tmp_path / "out/f").read_text() == "evil"


def test_a_directory_missing_from_the_tree_is_made(tmp_path):
    export_tree(Tree(entry(b"a/b/f")), tmp_path / "out")
    assert (tmp_path / "out/a/b/f").is_file()


def test_a_pattern_takes_its_files_and_the_directories_above_them(original, tmp_path):
    report = export_tree(tree_of(original), tmp_path / "out", ["two", "**/two", "nothing"])
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")) == [
        "a",
        "a/b",
        "a/b/two",
    ]
    assert stat.S_IMODE((tmp_path / "out/a/b").stat().st_mode) == 0o555
    assert report.unmatched == ("two", "nothing")
    assert report.entries == 1


def test_a_pattern_that_matches_nothing_writes_nothing(original, tmp_path):
    report = export_tree(tree_of(original), tmp_path / "out", ["nothing"])
    assert report.unmatched == ("nothing",)
    assert not (tmp_path / "out").exists()


def test_an_empty_tree_is_an_empty_folder(tmp_path):
    assert export_tree(Tree(), tmp_path / "deep/out").is_complete
    assert os.listdir(tmp_path / "deep/out") == []


def test_holes_stay_holes(tmp_path):
    size = 1 << 30
    chunks = [(4096, b"data"), (size - 8192, b"end")]
    export_tree(Tree(entry(b"sparse", size=size), content={b"sparse": chunks}), tmp_path / "out")
    found = (tmp_path / "out/sparse").stat()
    assert found.st_size == size
    assert found.st_blocks * 512 < 1 << 20
    with open(tmp_path / "out/sparse", "rb") as file:
        file.seek(4094)
        assert file.read(8) == b"\0\0data\0\0"


def test_content_that_is_inexact_is_written_and_named(tmp_path):
    tree = Tree(
        entry(b"f", size=1, content=Exactness.INEXACT, reason="read 3 ms later"),
        entry(b"g", size=8, content=Exactness.UNKNOWN, reason="4 bytes are not in the trace"),
        content={b"f": b"x", b"g": [(4, b"tail")]},
    )
    report = export_tree(tree, tmp_path / "out")
    assert [(remark.path, remark.reason) for remark in report.inexact] == [
        (b"f", "read 3 ms later"),
        (b"g", "4 bytes are not in the trace"),
    ]
    assert (tmp_path / "out/g").read_bytes() == b"\0\0\0\0tail"
    assert not report.is_complete


def test_content_that_is_not_in_the_trace_at_all_is_left_out_and_named(tmp_path):
    unknown = entry(b"f", size=9, content=Exactness.UNKNOWN, reason="the baseline holds no content")
    report = export_tree(Tree(unknown, content={b"f": []}), tmp_path / "out")
    assert [remark.reason for remark in report.skipped] == ["the baseline holds no content"]
    assert os.listdir(tmp_path / "out") == []


def test_a_file_whose_bytes_are_damaged_is_left_out_and_the_rest_is_written(tmp_path):
    tree = Tree(entry(b"bad", size=9), entry(b"good"), content={b"bad": DamagedTraceError("chunk 7 is damaged")})
    report = export_tree(tree, tmp_path / "out")
    assert [(remark.path, remark.reason) for remark in report.skipped] == [(b"bad", "chunk 7 is damaged")]
    assert os.listdir(tmp_path / "out") == ["good"]


def test_a_name_that_is_too_long_for_the_file_system_is_left_out(tmp_path):
    report = export_tree(Tree(entry(b"n" * 300), entry(b"good")), tmp_path / "out")
    assert [remark.reason for remark in report.skipped] == ["File name too long"]
    assert os.listdir(tmp_path / "out") == ["good"]


def test_a_tree_deeper_than_descriptors_are_allowed_is_rebuilt(tmp_path):
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 301)]
    report = export_tree(Tree(*(entry(path, "d", 0o755) for path in paths), entry(paths[-1] + b"/f")), tmp_path / "out")
    assert report.is_complete
    assert report.entries == 301


def test_extended_attributes_are_restored_or_named(tmp_path):
    probe = tmp_path / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.test", b"x")
    except OSError:
        pytest.skip("no user xattrs here")
    tree = Tree(
        entry(b"f", mode=0o444, xattrs={b"user.note": b"\0\xff"}),
        entry(b"d", "d", xattrs={b"user.note": b"dir"}),
        entry(b"bad", xattrs={b"nonsense": b""}),
    )
    report = export_tree(tree, tmp_path / "out")
    assert os.getxattr(tmp_path / "out/f", "user.note") == b"\0\xff"
    assert os.getxattr(tmp_path / "out/d", "user.note") == b"dir"
    assert [remark.path for remark in report.skipped] == [b"bad"]


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_root_restores_owners_and_set_id_bits(tmp_path):
    tree = Tree(
        entry(b"f", mode=0o6755, uid=1234, gid=4321),
        entry(b"l", "l", target=b"f", uid=1234, gid=4321),
        entry(b"d", "d", mode=0o2775, uid=1234, gid=4321),
        entry(b"null", "c", 0o666, rdev=1 << 20 | 3),
    )
    report = export_tree(tree, tmp_path / "out")
    assert report.owners_left == 0
    for name in ("f", "l", "d"):
        found = (tmp_path / "out" / name).lstat()
        assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert stat.S_IMODE((tmp_path / "out/f").stat().st_mode) == 0o6755
    if report.is_complete:  # a sandbox may forbid device nodes even to root
        assert (tmp_path / "out/null").stat().st_rdev == os.makedev(1, 3)


@pytest.mark.skipif(not IS_ROOT, reason="becomes another user")
def test_another_user_counts_owners_and_drops_set_id_bits():
    tree = Tree(
        entry(b"f", mode=0o6755, uid=0, gid=0),
        entry(b"mine", mode=0o4755, uid=65534, gid=65534),
        entry(b"null", "c", 0o666, rdev=1 << 20 | 3),
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        os.chmod(folder, 0o777)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                report = export_tree(tree, f"{folder}/out")
                modes = [stat.S_IMODE(os.stat(f"{folder}/out/{name}").st_mode) for name in ("f", "mine")]
                skipped = [remark.path for remark in report.skipped]
                status = (modes, report.owners_left, skipped) != ([0o755, 0o4755], 1, [b"null"])
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "hostile",
    [
        entry(b"x", size=1 << 80),
        entry(b"x", size=-1),
        entry(b"x", mtime_ns=1 << 90),
        entry(b"x", "d", mtime_ns=1 << 90),
        entry(b"x", "l", target=b"a\0b"),
        entry(b"x", "l", target=b""),
        entry(b"x", "p", mtime_ns=1 << 90),
        entry(b"x", uid=1 << 40, gid=-5),
        entry(b"x", "d", uid=1 << 40, gid=-5),
        entry(b"x", "c", rdev=1 << 90),
        entry(b"x", xattrs={b"a\0": b""}),
    ],
)
@pytest.mark.parametrize("out", ["out", "out.tar"])
def test_what_no_file_can_have_harms_no_other_entry(hostile, out, tmp_path):
    if out == "out.tar" and hostile.size > 1 << 60:
        pytest.skip("a tar writes out its holes")
    export_tree(Tree(hostile, entry(b"z", size=4), content={b"z": b"good"}), tmp_path / out)
    if out == "out":
        assert (tmp_path / "out/z").read_text() == "good"
    else:
        with tarfile.open(tmp_path / out) as tar:
            assert tar.extractfile("z").read() == b"good"


def test_a_full_disk_stops_the_export(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Exception, match="export stopped: No space left"):
        export_tree(Tree(entry(b"f", size=1), content={b"f": b"x"}), tmp_path / "out")


def test_a_tar_holds_the_tree(original, tmp_path):
    (original / "sock").unlink()
    report = export_tree(tree_of(original), tmp_path / "out.tar")
    assert report.is_complete
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getmember("a/b/two").pax_headers["mtime"].startswith("1600000000.123")
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # Python before 3.11.4 has none
        tar.extractall(tmp_path / "out")
    compared = [snapshot(tmp_path / "out"), snapshot(original)]
    for found in compared:  # tarfile restores times as floats
        for key, value in found.items():
            found[key] = value[:3] + value[4:]
    assert compared[0] == compared[1]


def test_a_tar_on_standard_output_holds_holes_as_zeros_and_xattrs():
    stream = io.BytesIO()
    tree = Tree(
        entry(b"d", "d"),
        entry(b"d/f", size=10, xattrs={b"user.x": b"\xff\0"}, mtime_ns=-1_500_000_000),
        content={b"d/f": [(4, b"ab")]},
    )
    export_tree(tree, "-", ["d/f"], stdout=stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getnames() == ["d", "d/f"]
        assert tar.extractfile("d/f").read() == b"\0\0\0\0ab\0\0\0\0"
        assert os.fsencode(tar.getmember("d/f").pax_headers["SCHILY.xattr.user.x"]) == b"\xff\0"
        assert tar.getmember("d/f").mtime == -1.5


def test_a_tar_with_a_damaged_file_is_still_a_tar(tmp_path):
    tree = Tree(entry(b"bad", size=9), entry(b"s", "s"), entry(b"z"), content={b"bad": DamagedTraceError("damaged")})
    report = export_tree(tree, tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["bad", "z"]
        assert tar.extractfile("bad").read() == b"begun\0\0\0\0"
    assert sorted(remark.path for remark in report.skipped) == [b"bad", b"s"]


def test_a_tar_that_exists_is_replaced_only_with_force(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (tmp_path / "out.tar").symlink_to(victim)
    with pytest.raises(UsageError, match="--force"):
        export_tree(Tree(), tmp_path / "out.tar")
    export_tree(Tree(), tmp_path / "out.tar", force=True)
    assert victim.read_text() == "safe"
    assert tarfile.is_tarfile(tmp_path / "out.tar")


def test_a_fresh_folder_becomes_what_the_watch_root_was(original, tmp_path):
    (tmp_path / "empty").mkdir()
    top = entry(b"", "d", mode=0o2750)
    for name in ("new", "empty"):
        report = export_tree(tree_of(original), tmp_path / name, top=top)
        found = (tmp_path / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o2750, TIME_NS)
        assert report.is_complete
        assert report.entries == len(list(original.rglob("*")))


def test_a_folder_that_holds_other_things_or_a_part_stays_as_it_is(original, tmp_path):
    top = entry(b"", "d", mode=0o2750)
    (tmp_path / "full").mkdir(mode=0o711)
    (tmp_path / "full/mine").touch()
    export_tree(tree_of(original), tmp_path / "full", force=True, top=top)
    assert stat.S_IMODE((tmp_path / "full").stat().st_mode) == 0o711
    export_tree(tree_of(original), tmp_path / "part", ["**/two"], top=top)
    assert (tmp_path / "part").stat().st_mtime_ns != TIME_NS


@pytest.mark.parametrize("out", ["out", "out.tar"])
def test_what_the_disk_cannot_hold_is_refused_before_anything_is_written(tmp_path, out):
    many = [entry(b"%d" % number, size=1 << 50, links=number + 1) for number in range(3)]
    with pytest.raises(DiffkeeperError, match=r"would take 3,377,699,720,527,872 bytes.*--path"):
        export_tree(Tree(*many), tmp_path / "new" / out)
    assert not list(tmp_path.iterdir())


def test_holes_and_second_names_take_no_room(tmp_path):
    sparse = entry(b"sparse", size=1 << 40, links=5, nlink=2)
    again = entry(b"again", size=1 << 40, links=5, nlink=2)
    export_tree(Tree(sparse, again, content={b"sparse": [(7, b"x")], b"again": [(7, b"x")]}), tmp_path / "out")
    assert (tmp_path / "out" / "again").stat().st_size == 1 << 40
