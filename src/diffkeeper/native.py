"""The only file that calls the shared library: capture in the kernel, and what Python has no call for."""

from __future__ import annotations

import ctypes
import os
import sys

from diffkeeper.errors import EngineUnavailableError, RecordError

TYPE_CHECKING = False  # to import typing, or dataclasses, takes longer than the rest of the helper's start
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_native.so")
_BTF = "/sys/kernel/btf/vmlinux"
# linux/capability.h: what loading, attaching and reading back need. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
# What native/ is compiled for, and counts a page as; kernels for arm64 come with larger pages too.
_MACHINES, _PAGE_BYTES = ("x86_64", "aarch64"), 4096
_CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_LOST_CHANNELS = ("ring", "table", "recursion", "queue", "probe", "decode")
_MAX_FILLED = 256


class CaptureSettings:
    """Say what to capture: roots, what to leave out below them, and for whom.

    ``roots`` are (dev, inode, generation), ``dev`` being the kernel's s_dev, and ``excluded`` (dev, inode).
    ``root_fds`` are open descriptors of the roots, in their order; they must stay open while the capture lasts.
    ``faults`` are for tests: docs/faults.md.
    ``reader_uid`` and ``reader_gid`` own the trace: bytes of files that they may not read are not recorded (0: all).
    ``scratch_fd`` is a directory in which hooks may be tried; -1: in the roots, with a file that has no name.
    ``mapped_interval_ns`` is the time between two looks at files that are mapped shared and writable (0: none).
    """

    def __init__(
        self,
        *,
        roots: Sequence[tuple[int, int, int]],
        excluded: Sequence[tuple[int, int]],
        trace_id: int,
        ring_bytes: int = 1 << 26,
        root_fds: Sequence[int] = (),
        reader_uid: int = 0,
        reader_gid: int = 0,
        faults: dict[str, int] | None = None,
        mapped_interval_ns: int = 0,
        scratch_fd: int = -1,
    ) -> None:
        self.roots = roots
        self.excluded = excluded
        self.trace_id = trace_id
        self.ring_bytes = ring_bytes
        self.root_fds = root_fds
        self.reader_uid = reader_uid
        self.reader_gid = reader_gid
        self.faults = faults or {}
        self.mapped_interval_ns = mapped_interval_ns
        self.scratch_fd = scratch_fd


class CaptureFacts:
    """Say which hooks are attached, which this kernel lacks, and where the bytes of copies come from.

    ``reads_page_cache``: they are taken where the kernel puts them; else they are read back from the file.
    ``silent`` names hooks, or kinds of records, that a trial at start found wanting; with ``is_untried`` the file
    system of a root offered no place to try. ``finds_holes`` says which changes are found that no call explains.
    """

    def __init__(
        self,
        hooks: Sequence[str],
        missing: Sequence[str],
        ring_bytes: int,
        *,
        reads_page_cache: bool = False,
        silent: Sequence[str] = (),
        is_untried: bool = False,
        finds_holes: Sequence[str] = (),
    ) -> None:
        self.hooks = hooks
        self.missing = missing
        self.ring_bytes = ring_bytes
        self.reads_page_cache = reads_page_cache
        self.silent = silent
        self.is_untried = is_untried
        self.finds_holes = finds_holes

    def as_json(self) -> dict[str, object]:
        """Return the facts as JSON values."""
        return {
            "hooks": list(self.hooks),
            "missing": list(self.missing),
            "ring_bytes": self.ring_bytes,
            "reads_page_cache": self.reads_page_cache,
            "silent": list(self.silent),
            "is_untried": self.is_untried,
            "finds_holes": list(self.finds_holes),
        }


class Progress:
    """Say how far the draining is: totals, except ``filled``: the segments that became full since the last look."""

    def __init__(
        self,
        batches: int = 0,
        bytes: int = 0,
        free_segments: int = 0,
        filled: Sequence[int] = (),
        lost: dict[str, int] | None = None,
        disturbed: int = 0,
    ) -> None:
        self.batches = batches
        self.bytes = bytes
        self.free_segments = free_segments
        self.filled = tuple(filled)
        self.lost = lost or {}
        self.disturbed = disturbed  # opens that would not wait for a lease to be given up, and failed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Progress) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it holds a dictionary


FAULTS = (
    "stall",
    "probe",
    "table",
    "decode",
    "kill",
    "recursion",
    "hook",
    "kill_held",
    "search",
    "plain",
)  # as struct faults has them


class _Faults(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in FAULTS)


class _Progress(ctypes.Structure):
    _fields_ = (
        ("batches", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("free_segments", ctypes.c_uint64),
        ("late_reads", ctypes.c_uint64),
        ("late_failures", ctypes.c_uint64),
        ("lost", ctypes.c_uint64 * len(_LOST_CHANNELS)),
        ("disturbed", ctypes.c_uint64),
    )


_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "dk_probe_library": (ctypes.c_int, (ctypes.c_char_p, ctypes.c_int)),
    "dk_new": (ctypes.c_void_p, (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32)),
    "dk_set_faults": (None, (ctypes.c_void_p, ctypes.POINTER(_Faults))),
    "dk_error": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "dk_add_root": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64)),
    "dk_add_excluded": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64)),
    "dk_set_mapped_interval": (None, (ctypes.c_void_p, ctypes.c_uint64)),
    "dk_start": (ctypes.c_int, (ctypes.c_void_p,)),
    "dk_hooks": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    ),
    "dk_set_scratch": (None, (ctypes.c_void_p, ctypes.c_int)),
    "dk_silent": (ctypes.c_char_p, (ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))),
    "dk_reads_page_cache": (ctypes.c_int, (ctypes.c_void_p,)),
    "dk_adopt": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
    "dk_add_segment": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int)),
    "dk_drain": (ctypes.c_int, (ctypes.c_void_p,)),
    "dk_give_up": (None, (ctypes.c_void_p,)),
    "dk_progress": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.POINTER(_Progress), ctypes.POINTER(ctypes.c_uint32), ctypes.c_int),
    ),
    "dk_stop": (ctypes.c_int, (ctypes.c_void_p,)),
    "dk_hold": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int)),
    "dk_let_go": (None, (ctypes.c_void_p, ctypes.c_uint64)),
    "dk_close": (None, (ctypes.c_void_p,)),
    "dk_generations": (
        ctypes.c_int,
        (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int64)),
    ),
}

_SIGNATURES |= {
    "dk_holder_start": (ctypes.c_void_p, (ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32)),
    "dk_holder_watch": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_uint64)),
    "dk_holder_pid": (ctypes.c_int, (ctypes.c_void_p,)),
    "dk_holder_free": (None, (ctypes.c_void_p,)),
}


_AT, _COUNT = ctypes.c_void_p, ctypes.c_uint64  # native/rows.c, runs.c: addresses of the caller's arrays
_SIGNATURES |= {
    "dk_rows_scan": (ctypes.c_int, (ctypes.c_char_p, _COUNT, _AT, _AT, _AT, _AT, _COUNT, _AT)),
    "dk_rows_changes": (ctypes.c_int64, (_AT, _COUNT, ctypes.c_uint, _AT, _AT)),
    "dk_rows_sort": (None, (_AT, _COUNT, _COUNT)),
    "dk_rows_positions": (None, (_AT, _COUNT, _AT, _COUNT, _AT)),
    "dk_run_begin": (ctypes.c_int, (_AT, _COUNT, _AT, _AT, _AT, _AT, _AT, _AT)),
    "dk_run_bytes": (None, (_AT, _AT, _COUNT, _AT, _AT)),
    "dk_run_extents": (_COUNT, (_AT, _AT, _COUNT, _AT)),
    "dk_run_columns": (None, (_AT, _COUNT, _COUNT, _AT, _AT, _AT, _AT, _AT, _AT)),
    "dk_pack": (ctypes.c_int, (_AT, _COUNT, ctypes.c_int, _AT)),
}

_library: ctypes.CDLL | None = None


def _load() -> ctypes.CDLL | None:
    """Return the library, loaded on first use, or None where this installation has none."""
    global _library
    if _library is None and os.path.exists(_LIBRARY):
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
        for name, (result, arguments) in (_SIGNATURES | _walk_signatures()).items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        _library = library
    return _library


def columns_library() -> Any:
    """Return the functions of native/rows.c and runs.c, None where this installation has no library.

    They take addresses of memory, which must stay where it is and be as large as they say.
    """
    return _load()


def bytes_at(address: int, length: int) -> bytes:
    """Return a copy of ``length`` bytes of memory."""
    return ctypes.string_at(address, length)


def inode_generations(dirfd: int, names: Sequence[bytes]) -> list[int]:
    """Return the generation of each entry of a directory, -1 where it is unknown; an empty name is the directory."""
    library = _load()
    if library is None or not names:
        return [-1] * len(names)
    out = (ctypes.c_int64 * len(names))()
    library.dk_generations(dirfd, b"\0".join(names), len(names), out)
    return list(out)


class WalkRequest(ctypes.Structure):
    """Say what is wanted of a directory (native/walk.h)."""

    _fields_ = (
        ("dirfd", ctypes.c_int32),
        ("skip_count", ctypes.c_uint32),
        ("parent", ctypes.c_uint64),
        ("first_index", ctypes.c_uint64),
        ("content_base", ctypes.c_uint64),
        ("small_bytes", ctypes.c_uint64),
        ("budget_bytes", ctypes.c_uint64),
        ("open_large", ctypes.c_uint64),
        ("skip", ctypes.c_uint64 * 2 * 8),
    )


class WalkedDirectory(ctypes.Structure):
    """Name a directory in a directory."""

    _fields_ = (
        ("index", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("name_at", ctypes.c_uint64),
        ("name_length", ctypes.c_uint32),
        ("zero", ctypes.c_uint32),
    )


class WalkedFile(ctypes.Structure):
    """Hold a file that was not read; ``fd`` is open, and the caller's."""

    _fields_ = (
        ("fd", ctypes.c_int32),
        ("zero", ctypes.c_uint32),
        ("index", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("nlink", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("mtime_ns", ctypes.c_int64),
    )


class WalkIssue(ctypes.Structure):
    """Say of an entry what could not be read."""

    _fields_ = (
        ("index", ctypes.c_uint64),
        ("name_at", ctypes.c_uint64),
        ("name_length", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("what", ctypes.c_int32),
        ("zero", ctypes.c_uint32),
    )


class WalkResult(ctypes.Structure):
    """Hold entries of a directory as records; what it points to is valid until the next call."""

    _fields_ = (
        ("records_at", ctypes.c_void_p),
        ("records_bytes", ctypes.c_uint64),
        ("content_at", ctypes.c_void_p),
        ("content_bytes", ctypes.c_uint64),
        ("directories", ctypes.POINTER(WalkedDirectory)),
        ("directory_count", ctypes.c_uint64),
        ("larges", ctypes.POINTER(WalkedFile)),
        ("large_count", ctypes.c_uint64),
        ("issues", ctypes.POINTER(WalkIssue)),
        ("issue_count", ctypes.c_uint64),
        ("entries", ctypes.c_uint64),
        ("files", ctypes.c_uint64),
        ("kept", ctypes.c_uint64),
        ("is_done", ctypes.c_uint64),
    )

    def records(self) -> bytes:
        """Return the records of the entries."""
        return ctypes.string_at(self.records_at, self.records_bytes) if self.records_bytes else b""

    def content(self) -> bytes:
        """Return the bytes of small files."""
        return ctypes.string_at(self.content_at, self.content_bytes) if self.content_bytes else b""


class Walker:
    """Describe the entries of directories, some hundred thousand in a second; not for several threads at once."""

    def __init__(self) -> None:
        """Make buffers; raises RecordError where there is no library."""
        library = _load()
        if library is None:
            raise RecordError("there is no native library")
        self._library = library
        self._walk = library.dk_walk_new()
        self.result: WalkResult = library.dk_walk_result(self._walk).contents
        self.request = WalkRequest()

    def begin(self, directory: int) -> None:
        """List an open directory; raises OSError."""
        self.request.dirfd = directory
        result = self._library.dk_walk_begin(self._walk, ctypes.byref(self.request))
        if result:
            raise OSError(-result, os.strerror(-result))

    def some(self) -> WalkResult:
        """Describe some more entries; ``result.is_done`` says whether these were the last."""
        self._library.dk_walk_some(self._walk, ctypes.byref(self.request))
        return self.result

    def name(self, at: int, length: int) -> bytes:
        """Return a name in the directory that was listed last."""
        return ctypes.string_at(self._library.dk_walk_names(self._walk) + at, length)

    def close(self) -> None:
        """Free the buffers."""
        if self._walk is not None:
            self._library.dk_walk_free(self._walk)
            self._walk = None


def _walk_signatures() -> dict[str, tuple[object, tuple[object, ...]]]:
    request = ctypes.POINTER(WalkRequest)
    return {
        "dk_walk_new": (ctypes.c_void_p, ()),
        "dk_walk_result": (ctypes.POINTER(WalkResult), (ctypes.c_void_p,)),
        "dk_walk_names": (ctypes.c_void_p, (ctypes.c_void_p,)),
        "dk_walk_begin": (ctypes.c_int, (ctypes.c_void_p, request)),
        "dk_walk_some": (None, (ctypes.c_void_p, request)),
        "dk_walk_free": (None, (ctypes.c_void_p,)),
    }


def can_walk() -> bool:
    """Say whether there is a library that walks."""
    return _load() is not None


class Holder:
    """Run a process that holds leases (native/holder.c); it ends when the other end of its socket is closed."""

    def __init__(self, socket: int, images: int, trace_id: int, most: int = 0) -> None:
        """Fork it; both descriptors stay the caller's. ``most`` limits its leases. Raises RecordError."""
        library = _load()
        started = library.dk_holder_start(socket, images, trace_id, most) if library is not None else None
        if library is None or started is None:
            raise RecordError("no holder of leases could be started")
        self._library, self._started = library, started
        self.pid: int = library.dk_holder_pid(started)

    def has_ended(self, silent_ns: int) -> bool:
        """Say whether it has ended; kill it if it was stopped or has been silent for so long: somebody may wait."""
        if self._started is not None and self._library.dk_holder_watch(self._started, silent_ns):
            self._library.dk_holder_free(self._started)
            self._started = None
        return self._started is None


def refusal(*, with_privileges: bool = True) -> str | None:
    """Return why eBPF capture is impossible here, None when nothing speaks against it; no program is loaded.

    ``with_privileges=False`` leaves out what this process may do: a helper may be started that may do more.
    """
    if sys.platform != "linux":
        return f"eBPF exists on Linux only, and this is {sys.platform}"
    library = _load()
    if library is None:
        return f"this installation of diffkeeper was built without the eBPF engine ({_why_left_out()})"
    if (page_bytes := os.sysconf("SC_PAGE_SIZE")) != _PAGE_BYTES:
        return f"this kernel's pages have {page_bytes} bytes, and the eBPF engine knows {_PAGE_BYTES} only"
    if not os.path.exists(_BTF):
        return f"the kernel has no BTF ({_BTF} is missing): it must be built with CONFIG_DEBUG_INFO_BTF=y"
    message = ctypes.create_string_buffer(512)
    if library.dk_probe_library(message, len(message)):
        return message.value.decode(errors="replace")
    return missing_privileges() if with_privileges else None


def lack_of_private_stacks() -> str | None:
    """Return that the kernel is too old for the programs' stacks (native/load.c), as far as its types tell."""
    with open(_BTF, "rb") as file:
        if b"bpf_jit_supports_private_stack" in file.read():
            return None
    came = "which came with 6.13 on x86-64 and 6.17 on arm64"
    return f"Linux {os.uname().release} has no private stacks for BPF programs, {came}"


def _why_left_out() -> str:
    """Say why the library is missing on Linux: there is none for this processor, or it was not compiled."""
    if sys.byteorder == "big":
        return "it is for little-endian processors, and this one is big-endian"
    machine = os.uname().machine
    if machine not in _MACHINES:
        return f"it is for {' and '.join(_MACHINES)}, and this is {machine}"
    return "no compiler was found"


def missing_privileges() -> str | None:
    """Return which privileges this process lacks for eBPF capture, None when it has them."""
    held = _effective_capabilities()
    needed = dict(_CAPABILITIES)
    if held >> needed["CAP_SYS_ADMIN"] & 1:
        needed.pop("CAP_BPF")
        needed.pop("CAP_PERFMON")
    needed.pop("CAP_SYS_ADMIN")
    missing = sorted(name for name, bit in needed.items() if not held >> bit & 1)
    return f"this process lacks {', '.join(missing)}" if missing else None


def _effective_capabilities() -> int:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


class Capture:
    """Capture the changes below the roots into segments; one at a time, from one thread."""

    def __init__(self, settings: CaptureSettings) -> None:
        """Raise EngineUnavailableError when this installation has no library."""
        library = _load()
        if library is None:
            raise EngineUnavailableError(refusal() or "the native library is missing")
        self._library = library
        self._settings = settings
        self._handle = library.dk_new(settings.trace_id, settings.ring_bytes, settings.reader_uid, settings.reader_gid)

    def start(self) -> CaptureFacts:
        """Load and attach; raise EngineUnavailableError with the kernel's reason."""
        faults = _Faults(*(self._settings.faults.get(name, 0) for name in FAULTS))
        self._library.dk_set_faults(self._handle, ctypes.byref(faults))
        fds = self._settings.root_fds or (-1,) * len(self._settings.roots)
        for (dev, ino, _), fd in zip(self._settings.roots, fds, strict=True):
            self._check(self._library.dk_add_root(self._handle, fd, dev, ino))
        for dev, ino in self._settings.excluded:
            self._check(self._library.dk_add_excluded(self._handle, dev, ino))
        self._library.dk_set_mapped_interval(self._handle, self._settings.mapped_interval_ns)
        self._library.dk_set_scratch(self._handle, self._settings.scratch_fd)
        if self._library.dk_start(self._handle):
            raise EngineUnavailableError(self._error())
        return self._facts()

    def _facts(self) -> CaptureFacts:
        attached = ctypes.create_string_buffer(1024)
        missing = ctypes.c_char_p()
        self._library.dk_hooks(self._handle, attached, len(attached), ctypes.byref(missing))
        absent = (missing.value or b"").decode().split()
        bits = ctypes.c_int()
        silent: bytes = self._library.dk_silent(self._handle, ctypes.byref(bits))
        return CaptureFacts(
            tuple(attached.value.decode().split()),
            tuple(absent),
            self._settings.ring_bytes,
            reads_page_cache=bool(self._library.dk_reads_page_cache(self._handle)),
            silent=silent.decode().split(),
            is_untried=bool(bits.value & 1),
            finds_holes=[what for bit, what in ((2, "times"), (4, "bytes")) if bits.value & bit],
        )

    def add_segment(self, number: int, fd: int) -> None:
        """Hand over an open segment file; the library closes it when it is full."""
        self._check(self._library.dk_add_segment(self._handle, number, fd))

    def drain(self) -> None:
        """Start the drain thread; doing it again does nothing."""
        self._check(self._library.dk_drain(self._handle))

    def give_up(self) -> None:
        """Wait for no more segments when stopping: what finds no room is lost, and counted."""
        self._library.dk_give_up(self._handle)

    def adopt(self, pid: int) -> None:
        """Make a process, held before its exec, the root of the recorded command's tree."""
        self._check(self._library.dk_adopt(self._handle, pid))

    def hold(self, freezer: int, guardian: int, *, is_v2: bool) -> None:
        """Hold the recorded processes where needed: descriptors of their freezer, and of the guardian's pipe."""
        self._check(self._library.dk_hold(self._handle, freezer, guardian, is_v2))

    def let_go(self, pause_ns: int) -> None:
        """Let the recorded processes go, and hold nobody for so long; 0: from now on."""
        self._library.dk_let_go(self._handle, pause_ns)

    def progress(self) -> Progress:
        """Return what was written so far."""
        counts = _Progress()
        filled = (ctypes.c_uint32 * _MAX_FILLED)()
        count = self._library.dk_progress(self._handle, ctypes.byref(counts), filled, _MAX_FILLED)
        lost = dict(zip(_LOST_CHANNELS, counts.lost, strict=True))
        return Progress(counts.batches, counts.bytes, counts.free_segments, filled[:count], lost, counts.disturbed)

    def stop(self) -> Progress:
        """Detach, drain to the end, write the end of the stream; return the last counts."""
        self._check(self._library.dk_stop(self._handle))
        return self.progress()

    def close(self) -> None:
        """Free everything; stops first if that was not done."""
        if self._handle is not None:
            self._library.dk_close(self._handle)
            self._handle = None

    def _check(self, result: int) -> None:
        if result:
            raise RecordError(self._error())

    def _error(self) -> str:
        text: bytes = self._library.dk_error(self._handle)
        return text.decode(errors="replace").strip()
