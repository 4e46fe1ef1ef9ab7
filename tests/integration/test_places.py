"""Where a root may lie and what may lie in it: file systems, mounts, several roots, and which file is which."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import Kind, Trace
from diffkeeper.model.event import MOUNT_ELSEWHERE, MOUNT_ENDS, MOUNT_HIDES, MOUNT_SHOWS
from diffkeeper.mounts import mounts
from integration.recorder import run
from oracle.file_systems import FileSystemUnavailableError, file_system, unmount
from oracle.folder import FolderReader
from oracle.manifest import compare
from oracle.replayed import TraceReader

pytestmark = pytest.mark.ebpf

FILE_SYSTEMS = ["ext4", "xfs", "btrfs", "tmpfs", "overlay"]


@pytest.fixture(scope="module", params=FILE_SYSTEMS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder on a fresh file system."""
    try:
        with file_system(request.param, tmp_path_factory.mktemp(request.param)) as made:
            yield made.folder
    except FileSystemUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give an empty folder to watch."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def record(folder: Path, trace: Path, program: str, *options: str, exit_code: int = 0) -> Trace:
    """Record a Python program that runs in a folder; the folder itself is watched, unless options say otherwise."""
    watch = () if "--watch" in options else ("--watch", ".")
    program = "import ctypes, os, shutil, subprocess, sys, time\n" + program
    done = run("record", "--state-dir", trace, *watch, *options, "--", sys.executable, "-c", program, cwd=folder)
    assert done.returncode == exit_code, done.stderr
    return Trace.open(trace)


def check(trace: Trace, root: Path) -> None:
    """Demand that the last state is that of the folder, that nothing is in doubt and nothing had to be repaired."""
    assert trace.info().defects == ()
    assert trace.info().is_complete
    assert not compare(FolderReader(os.fsencode(root)).read(), TraceReader().read(trace.at("end")))


IDENTITY = {
    "a_renamed_folder_keeps_the_files_that_are_open_in_it": """
os.makedirs("a/b")
f = open("a/b/f", "wb", buffering=0)
f.write(b"one")
os.rename("a", "c")
f.write(b" two")
os.rename("c/b", "d")
f.write(b" three")
assert open("d/f", "rb").read() == b"one two three"
""",
    "hard_links_are_one_file": """
open("f", "wb").write(b"one")
os.mkdir("d")
os.link("f", "d/g")
open("d/g", "ab").write(b" two")
os.unlink("f")
os.link("d/g", "h")
open("h", "ab").write(b" three")
os.rename("d/g", "f")
os.chmod("h", 0o600)
""",
    "an_unlinked_file_that_is_written_is_not_the_one_that_took_its_name": """
f = open("f", "w+b", buffering=0)
f.write(b"old")
os.unlink("f")
g = open("f", "w+b", buffering=0)
g.write(b"new")
f.write(b" gone")
g.write(b" stays")
f.close()
""",
    "numbers_that_are_used_again_are_other_files": """
for turn in range(300):
    open("f", "wb").write(b"%d" % turn)
    os.unlink("f")
    os.mkdir("f")
    os.rmdir("f")
    os.symlink("x%d" % turn, "f")
    os.unlink("f")
open("f", "wb").write(b"last")
os.mkdir("d")
""",
    "files_that_are_exchanged_take_each_others_names": """
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("d")
open("f", "wb").write(b"one")
open("d/g", "wb").write(b"two")
assert libc.renameat2(-100, b"f", -100, b"d/g", 2) == 0
open("f", "ab").write(b" is f")
open("d/g", "ab").write(b" is g")
""",
    "folders_that_are_exchanged_take_what_is_in_them_along": """
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("a/inner"), os.makedirs("b/other/deep")
f = open("a/inner/f", "wb", buffering=0)
g = open("b/other/deep/g", "wb", buffering=0)
f.write(b"one"), g.write(b"two")
assert libc.renameat2(-100, b"a", -100, b"b/other", 2) == 0
f.write(b" moved"), g.write(b" too")
assert open("b/other/inner/f", "rb").read() == b"one moved"
assert open("a/deep/g", "rb").read() == b"two too"
open("plain", "wb").write(b"file")
assert libc.renameat2(-100, b"plain", -100, b"a", 2) == 0
""",
    "what_comes_from_outside_and_leaves_again": """
os.mkdir("../outside")
open("../outside/f", "wb").write(b"outside" * 1000)
os.rename("../outside/f", "f")
open("f", "ab").write(b" inside")
os.rename("f", "../outside/f")
open("../outside/f", "ab").write(b" again")
os.rename("../outside/f", "g")
os.rename("../outside", "folder")
""",
    "a_folder_that_comes_in_may_be_moved_on_at_once": """
os.makedirs("a/b")
for turn in range(20):
    os.makedirs("../outside/came/below")
    open("../outside/came/below/f", "wb").write(b"%d" % turn)
    os.setxattr("../outside/came", "trusted.t", b"%d" % turn)
    os.rename("../outside/came", "a/first"), os.rename("a/first", "a/b/%d" % turn), os.chmod("a/b/%d" % turn, 0o700)
""",
    "a_number_that_was_of_a_folder_outside_is_of_another_inside": """
os.mkdir("../before")
for turn in range(30):
    os.mkdir("../before/d"), os.chmod("../before/d", 0o700), os.rmdir("../before/d")
    os.mkdir("d%d" % turn), os.chmod("d%d" % turn, 0o710)
    os.mkfifo("../before/p"), os.chmod("../before/p", 0o600), os.unlink("../before/p")
    os.mkfifo("p%d" % turn), os.chmod("p%d" % turn, 0o640)
    os.setxattr("d%d" % turn, "trusted.t", b"%d" % turn)
""",
    "a_whiteout_takes_an_access_control_list_from_its_folder_or_not": """
import struct
entries = ((1, 7, -1), (2, 6, 1000), (4, 5, -1), (16, 7, -1), (32, 4, -1))
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("d"), os.setxattr("d", "system.posix_acl_default", acl)
open("d/f", "w").close()
if libc.renameat2(-100, b"d/f", -100, b"d/g", 4) == 0:  # overlayfs leaves no whiteouts for others
    os.chmod("d/f", 0o640)
os.mkfifo("d/fifo")
""",
    "what_is_no_plain_file_may_have_links_outside_as_well": """
os.mkdir("../beyond")
os.mkfifo("fifo"), os.symlink("target", "link"), os.mknod("socket", 0o140600)
for name in ("fifo", "link", "socket"):
    os.link(name, "../beyond/" + name, follow_symlinks=False)
    os.chown(name, 5, 6, follow_symlinks=False)
os.chmod("fifo", 0o640), os.chmod("socket", 0o604)
os.utime("link", (5, 5), follow_symlinks=False)
fifo = os.open("fifo", os.O_RDWR)
time.sleep(0.02)
os.write(fifo, b"changes its time")
os.chmod("../beyond/fifo", 0o604)
""",
}


@pytest.mark.parametrize("case", IDENTITY)
def test_which_file_is_which(place: Path, case: str) -> None:
    if case == "a_folder_that_comes_in_may_be_moved_on_at_once" and place.name in ("tmpfs", "overlay"):
        pytest.skip("where no file is opened by its inode, the folder is read only if it still stands where it came to")
    folder = place / case / "root"
    folder.mkdir(parents=True)
    check(record(folder, place / f"trace-{case}", IDENTITY[case]), folder)


def test_files_that_were_there_before_are_followed_too(place: Path) -> None:
    folder = place / "before" / "root"
    (folder / "d").mkdir(parents=True)
    for name in ("f", "d/g", "d/h"):
        (folder / name).write_bytes(name.encode() * 5000)
    program = """
open("f", "ab").write(b" more")
os.chmod("d/g", 0o600)
os.rename("d/h", "h")
os.link("h", "d/linked")
with open("d/g", "r+b") as g:
    g.seek(3); g.write(b"patched")
"""
    check(record(folder, place / "trace-before", program), folder)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[None]:
    """Skip where nothing can be mounted; afterwards take away what was left mounted."""
    try:
        with file_system("tmpfs", tmp_path / "probe"):
            pass
    except FileSystemUnavailableError as error:
        pytest.skip(str(error))
    yield
    for point in sorted((mount.point for mount in mounts()), reverse=True):
        if os.fsdecode(point).startswith(f"{tmp_path}/"):
            unmount(Path(os.fsdecode(point)))


def mount_events(trace: Trace) -> list[tuple[bytes, bytes, int]]:
    return [(event.path, event.text, event.detail) for event in trace.timeline() if event.kind == Kind.MOUNT]


def contents(trace: Trace) -> dict[str, bytes | None]:
    """Return the files of the last state with their bytes, and its folders."""
    tree = trace.at("end")
    return {os.fsdecode(one.path): tree.read(one.path) if one.kind == "f" else None for one in tree.entries()}


SH = "sh = lambda text: subprocess.run(text, shell=True, check=True)\n"


def test_a_mount_that_appears_is_said(mounted: None, root: Path, tmp_path: Path) -> None:
    (root / "m").mkdir()
    (root / "m" / "beneath").write_bytes(b"hidden by the mount")
    program = """
open("before", "wb").write(b"1")
sh("mount -t tmpfs none m")
open("m/in_it", "wb").write(b"2")
open("after", "wb").write(b"3")
"""
    trace = record(root, tmp_path / "trace", SH + program)
    assert mount_events(trace) == [(b"m", b"tmpfs", MOUNT_HIDES)]
    assert contents(trace) == {"before": b"1", "after": b"3", "m": None, "m/beneath": b"hidden by the mount"}
    assert trace.info().defects == ("1 mounts appeared below a watch root, and what is in them is not recorded",)


def test_a_mount_that_came_and_went_is_said_too(mounted: None, root: Path, tmp_path: Path) -> None:
    (root / "m").mkdir()
    program = SH + 'sh("mount -t tmpfs none m"); open("m/in_it", "wb").write(b"2"); sh("umount m")'
    trace = record(root, tmp_path / "trace", program)
    assert mount_events(trace) == [(b"m", b"tmpfs", MOUNT_HIDES), (b"m", b"", MOUNT_ENDS)]
    assert contents(trace) == {"m": None}
    assert not trace.info().is_complete


def test_a_mount_in_a_namespace_of_a_child_is_said_and_what_others_see_is_recorded(
    mounted: None, root: Path, tmp_path: Path
) -> None:
    (root / "m").mkdir()
    inner = "mount -t tmpfs none m; echo inner > m/in_it; echo plain > f"
    program = SH + f"""sh("unshare -m sh -ec '{inner}'"); open("m/beneath", "wb").write(b"seen")"""
    trace = record(root, tmp_path / "trace", program)
    assert mount_events(trace) == [(b"m", b"tmpfs", MOUNT_ELSEWHERE)]
    assert contents(trace) == {"m": None, "m/beneath": b"seen", "f": b"plain\n"}
    check(trace, root)


def test_writing_by_a_bind_mount_of_a_folder_of_the_root_is_recorded_under_its_own_path(
    mounted: None, root: Path, tmp_path: Path
) -> None:
    for name in ("folder", "bound"):
        (root / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    program = (
        SH
        + """
sh("mount --bind folder bound")
sh("mount --bind folder ../elsewhere")
open("bound/f", "wb").write(b"by bound")
open("../elsewhere/g", "wb").write(b"by elsewhere")
os.rename("../elsewhere/g", "../elsewhere/h")
os.mkdir("bound/d")
sh("umount bound; umount ../elsewhere")
"""
    )
    trace = record(root, tmp_path / "trace", program)
    assert mount_events(trace) == [(b"bound", b"ext4", MOUNT_SHOWS), (b"bound", b"", MOUNT_ENDS)]
    check(trace, root)
    assert contents(trace)["folder/h"] == b"by elsewhere"


def test_a_folder_from_outside_that_is_bound_below_the_root_is_said(mounted: None, root: Path, tmp_path: Path) -> None:
    (root / "m").mkdir()
    (tmp_path / "outside").mkdir()
    program = SH + 'sh("mount --bind ../outside m"); open("m/f", "wb").write(b"1"); sh("umount m")'
    trace = record(root, tmp_path / "trace", program)
    assert mount_events(trace)[0][2] == MOUNT_HIDES
    assert contents(trace) == {"m": None}


def test_what_was_mounted_before_is_left_out_and_said(mounted: None, root: Path, tmp_path: Path) -> None:
    (root / "m").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "m"], check=True)
    trace = record(root, tmp_path / "trace", 'open("m/in_it", "wb").write(b"2"); open("f", "wb").write(b"1")')
    assert contents(trace) == {"f": b"1"}
    assert trace.info().is_complete
    assert trace.info().mounts_left_out == ("m",)
    shown = run("info", "--state-dir", tmp_path / "trace", cwd=tmp_path).stdout
    assert "m (mounted; record it with a --watch of its own)" in " ".join(shown.split())


def test_a_mount_below_a_root_may_be_a_root_of_its_own(mounted: None, root: Path, tmp_path: Path) -> None:
    (root / "m").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "m"], check=True)
    program = """
open("f", "wb").write(b"outer")
open("m/f", "wb").write(b"inner")
os.rename("m/f", "m/g")
os.link("m/g", "m/linked")
os.chdir("m")
open("../h", "wb").write(b"by dots")
shutil.copyfile("g", "../copied")
"""
    trace = record(root, tmp_path / "trace", program, "--watch", str(root), "--watch", str(root / "m"))
    assert contents(trace) == {
        **{"root": None, "root/f": b"outer", "root/h": b"by dots", "root/copied": b"inner"},
        **{"m": None, "m/g": b"inner", "m/linked": b"inner"},
    }
    assert trace.info().is_complete


def test_a_root_by_two_paths_is_one(mounted: None, root: Path, tmp_path: Path) -> None:
    (root / "sub").mkdir()
    (tmp_path / "bound").mkdir()
    subprocess.run(["mount", "--bind", root / "sub", tmp_path / "bound"], check=True)
    (tmp_path / "link").symlink_to(root)
    paths = [root, root / "sub", tmp_path / "link", tmp_path / "bound"]
    options = [option for path in paths for option in ("--watch", str(path))]
    program = 'open("sub/f", "wb").write(b"1"); open("../bound/g", "wb").write(b"2")'
    trace = record(root, tmp_path / "trace", program, *options)
    assert [path for _, path in trace.info().roots] == [str(root)]
    check(trace, root)


def test_moving_and_copying_between_roots_is_followed(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"moved" * 100)
    (root / "g").write_bytes(b"copied" * 1000)
    other.mkdir()
    program = """
os.rename("d", "../other/e")
open("../other/e/f", "ab").write(b" and written")
shutil.copyfile("g", "../other/g")
os.link("g", "../other/linked")
os.rename("../other/g", "h")
"""
    trace = record(root, tmp_path / "trace", program, "--watch", str(root), "--watch", str(other))
    assert contents(trace) == {
        **{"root": None, "root/g": b"copied" * 1000, "root/h": b"copied" * 1000},
        **{"other": None, "other/e": None, "other/e/f": b"moved" * 100 + b" and written"},
        "other/linked": b"copied" * 1000,
    }
    assert trace.info().is_complete
    assert [event.kind for event in trace.timeline() if event.path == b"root/d"] == [Kind.RENAME]


def test_roots_on_different_file_systems_are_recorded_together(mounted: None, root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", other], check=True)
    program = """
open("f", "wb").write(b"on disk")
open("../other/f", "wb").write(b"in memory")
shutil.copyfile("f", "../other/g")
shutil.move("../other/f", "moved")
"""
    trace = record(root, tmp_path / "trace", program, "--watch", str(root), "--watch", str(other))
    assert contents(trace) == {
        **{"root": None, "root/f": b"on disk", "root/moved": b"in memory"},
        **{"other": None, "other/g": b"on disk"},
    }
    assert trace.info().is_complete


def test_a_child_in_a_chroot_is_followed(root: Path, tmp_path: Path) -> None:
    (root / "jail" / "d").mkdir(parents=True)
    program = """
pid = os.fork()
if pid == 0:
    os.chroot("jail"); os.chdir("/d")
    open("/f", "wb").write(b"absolute")
    os.rename("/f", "g")
    os.link("/d/g", "/linked")
    os.symlink("/d", "/to_d")
    open("/to_d/h", "wb").write(b"by symlink")
    os._exit(0)
os.waitpid(pid, 0)
"""
    trace = record(root, tmp_path / "trace", program)
    check(trace, root)


def test_a_root_that_is_renamed_is_followed(root: Path, tmp_path: Path) -> None:
    program = 'os.rename("../root", "../moved"); open("f", "wb").write(b"1"); os.rename("../moved", "../root")'
    check(record(root, tmp_path / "trace", program), root)


def test_a_root_that_stays_away_cannot_be_verified_and_that_is_said(root: Path, tmp_path: Path) -> None:
    program = 'os.rename("../root", "../moved"); open("f", "wb").write(b"1")'
    trace = record(root, tmp_path / "trace", program)
    assert contents(trace) == {"f": b"1"}
    assert trace.info().counters["not_verified"]


def test_a_root_that_is_removed_ends_empty(root: Path, tmp_path: Path) -> None:
    (root / "f").write_bytes(b"1")
    trace = record(root, tmp_path / "trace", 'open("g", "wb").write(b"2"); shutil.rmtree(os.getcwd())')
    assert contents(trace) == {}


def test_writing_a_hard_link_outside_changes_the_file_inside(root: Path, tmp_path: Path) -> None:
    """Package managers link files of a cache into an environment: who writes the cache writes the environment."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "wheel").write_bytes(b"from the cache" * 500)
    program = """
os.link("../cache/wheel", "installed")
time.sleep(0.3)  # until it was read
with open("../cache/wheel", "r+b") as wheel:
    wheel.seek(100); wheel.write(b"patched")
os.chmod("../cache/wheel", 0o600)
os.unlink("../cache/wheel")
open("installed", "ab").write(b"tail")
"""
    check(record(root, tmp_path / "trace", program), root)


@pytest.mark.parametrize("place", ["btrfs"], indirect=True)
def test_files_of_two_subvolumes_that_bear_one_number_are_two(place: Path) -> None:
    root = place / "subvolumes"
    for command in (f"create {root}", f"create {root}/inner", f"snapshot {root}/inner {root}/copy"):
        subprocess.run(["btrfs", "subvolume", *command.split()], check=True, capture_output=True)
    for folder in (root, root / "inner", root / "copy"):
        (folder / "f").write_bytes(os.fsencode(folder.name))
    (place / "source").write_bytes(os.urandom(300_000))
    assert len({(folder / "f").stat().st_ino for folder in (root, root / "inner", root / "copy")}) == 1
    program = """
for folder in (".", "inner", "copy"):
    with open(folder + "/f", "ab") as f:
        f.write(b" was written in " + os.fsencode(folder))
    os.link(folder + "/f", folder + "/linked")
subprocess.run(["cp", "--reflink=always", "../source", "inner/cloned"], check=True)
shutil.move("inner/linked", "copy/moved")
os.mkdir("inner/d")
open("inner/d/g", "wb").write(b"x")
os.rename("inner/d", "inner/e")
os.rename("inner", "renamed")
open("renamed/e/g", "ab").write(b"y")
"""
    check(record(root, place / "trace-subvolumes", program), root)


@pytest.mark.parametrize("place", ["btrfs", "xfs", "tmpfs"], indirect=True)
def test_a_file_that_gets_its_name_by_way_of_proc_is_no_inode_of_proc(place: Path) -> None:
    root = place / "nameless"
    root.mkdir()
    program = """
import ctypes
os.mkdir("d")
for number in range(3):
    fd = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o640)
    os.write(fd, b"x" * 5000)
    path = b"/proc/self/fd/%d" % fd
    assert ctypes.CDLL(None).linkat(-100, path, -100, b"d/f%d" % number, 0x400) == 0
    os.close(fd)
"""
    check(record(root, place / "trace-nameless", program), root)


DEEPER = """
at = os.open(".", os.O_RDONLY)
for level in range(FROM, TO):
    name = "d%04d" % level
    if not os.path.exists("/proc/self/fd/%d/%s" % (at, name)):
        os.mkdir(name, dir_fd=at)
    below = os.open(name, os.O_RDONLY, dir_fd=at)
    os.close(at)
    at = below
with open(os.open("f", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at), "wb") as f:
    f.write(b"deep")
os.rename("f", "g", src_dir_fd=at, dst_dir_fd=at)
os.mkdir("x", dir_fd=at)
os.rmdir("x", dir_fd=at)
"""


@pytest.mark.parametrize("place", ["ext4"], indirect=True)  # taken away as a whole: to remove such a tree takes long
def test_a_tree_of_three_thousand_levels_is_recorded_verified_and_exported(place: Path) -> None:
    """A thousand levels are there before, a thousand come in from outside, a thousand are made."""
    root, outside, out = (place / name for name in ("deep", "outside", "out"))
    for folder, first in ((root, 0), (outside, 1_000)):
        folder.mkdir()
        program = "import os\n" + DEEPER.replace("FROM", str(first)).replace("TO", str(first + 1_000))
        subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)
    program = DEEPER.replace("FROM", "0").replace("TO", "1000")
    program += 'os.rename("../outside/d1000", "d1000", dst_dir_fd=at)' + DEEPER.replace("FROM", "0").replace(
        "TO", "3000"
    )
    trace = record(root, place / "trace", program)
    check(trace, root)
    assert max(entry.path.count(b"/") for entry in trace.at("end").entries()) == 3_000
    done = run("export", "--state-dir", place / "trace", "--time", "end", "--out", out, cwd=place)
    assert done.returncode == 0, done.stderr
    assert not compare(FolderReader(os.fsencode(root)).read(), FolderReader(os.fsencode(out)).read())
