"""When to look: at once where something is hinted at, again where a file rests, at everything now and then.

A round looks at every entry below the roots. It comes where hints were dropped, at the end, regularly where there are
no hints, and otherwise so seldom that it costs at most a fiftieth of a processor: stores through mappings cause none.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from diffkeeper.beneath import entry_status, s_dev
from diffkeeper.engines.protocol import EngineRequest
from diffkeeper.engines.segments import SegmentWriter
from diffkeeper.engines.watch_looks import Looks, Place
from diffkeeper.engines.watch_mirror import Folder, Root, packed
from diffkeeper.engines.watch_telling import Teller
from diffkeeper.model.observation import LookOp
from diffkeeper.rules import Rules

_DRAIN_S = 10.0
_SELDOM_S, _SELDOM_SHARE = 2.0, 50
_POLLING_S, _POLLING_SHARE = 0.1, 5
_BATCH = 4_096  # names that are looked at in one go
_RETRIES = 3  # of files that change while the last look is taken


class Rounds:
    """Run in a thread of its own from ``begin`` to ``end``; hints come from other threads."""

    def __init__(self, request: EngineRequest, writer: SegmentWriter, on_news: Callable[[], None]) -> None:
        """Tell of segments that were filled with ``on_news``."""
        status = os.stat(request.trace_path)
        self._request = request
        self._writer = writer
        self._on_news = on_news
        self._teller = Teller(writer)
        rules = Rules.from_patterns(request.patterns)
        self._looks = Looks(self._teller, None, rules, (s_dev(status.st_dev), status.st_ino))
        self._roots: list[Folder] = []
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._hints: dict[Place, int] = {}
        self._dropped_since: int | None = None
        self._is_stopping = False
        self._has_given_up = False
        self._round_at = 0.0
        self._round_ns = 0  # when the last whole round began
        self.why_polling = ""
        self.hints_from = ""

    @property
    def is_polling(self) -> bool:
        """Say whether all is looked at regularly."""
        return bool(self.why_polling)

    # --- from other threads ---

    def hint(self, folder: Folder, name: bytes, since_ns: int) -> None:
        """Note that a name of a directory may have changed after a time."""
        with self._lock:
            self._hints.setdefault((folder, name), since_ns)
        if not self._awake.is_set():
            self._awake.set()

    def path_hint(self, path: bytes, since_ns: int) -> None:
        """Note that a path may have changed; what lies in a directory that is not known is found with it."""
        for root in self._roots:
            place = _place_of(root, path)
            if place is not None:
                self.hint(*place, since_ns)
                return

    def dropped(self, since_ns: int) -> None:
        """Note that hints were dropped."""
        with self._lock:
            if self._dropped_since is None:
                self._dropped_since = since_ns
        self._awake.set()

    def stop(self) -> None:
        """Have ``run`` take all that there is and return."""
        self._is_stopping = True
        self._awake.set()

    def give_up(self) -> None:
        """Have ``run`` return without a last look."""
        self._has_given_up = self._is_stopping = True
        self._awake.set()

    # --- in the thread ---

    def begin(self, roots: list[Root], why_polling: str, *, asks_for_hints: bool) -> None:
        """Ask for hints, and look at everything once."""
        self.why_polling = why_polling
        self._roots = [self._looks.begin(root) for root in roots]
        if asks_for_hints:
            self._ask_for_hints()
        begun = time.monotonic()
        for folder in self._roots:
            self._looks.fill(folder)
        self._note_watches()
        self._plan_round(time.monotonic() - begun)

    def _ask_for_hints(self) -> None:
        try:
            from diffkeeper.engines import notify  # watchdog, which eBPF recordings never load
        except ImportError:
            self.why_polling = "watchdog is not installed"
            return
        try:
            self._looks.notifier = notify.start(
                self._roots, self._request.trace_path, self.hint, self.path_hint, self.dropped
            )
            self.hints_from = type(self._looks.notifier).__name__.strip("_").lower()
        except OSError as error:
            self.why_polling = f"the system gives no hints: {error.strerror or error}"

    def _note_watches(self) -> None:
        if self._looks.unwatched and not self.why_polling:
            self.why_polling = "the system's limit of watches is reached"

    def run(self) -> None:
        """Look until ``stop`` is called, then once more at everything."""
        while not self._is_stopping:
            self._awake.wait(self._patience_s())
            self._awake.clear()
            self._turn()
        if not self._has_given_up:
            self._finish()

    def end(self) -> None:
        """Let go of the notifier, and of the mirror: processing needs the room."""
        if self._looks.notifier is not None:
            self._looks.notifier.close()
        for root in self._roots:
            root.children.clear()
        self._roots, self._hints = [], {}

    def _turn(self) -> None:
        self._take(self._due())
        if self._take_drop() or time.monotonic() >= self._round_at:
            self._round()
        if self._teller.flush_in_s == 0:
            self._flush()

    def _finish(self) -> None:
        """Take every hint of what happened until now, then look at everything."""
        notifier = self._looks.notifier
        if notifier is not None and not notifier.drain(_DRAIN_S):
            self.dropped(self._round_ns)
        for _ in range(_RETRIES):
            self._take(self._all())
            if not self._looks.again:
                break
        self._take_drop()
        self._round()
        for _ in range(_RETRIES):
            if not self._looks.again:
                break
            time.sleep(0.002)
            self._take(self._all())
        self._teller.end()
        self._on_news()

    def _flush(self) -> None:
        self._teller.flush()
        self._on_news()

    def _take(self, places: dict[Place, int]) -> None:
        waiting = list(places.items())
        for begin in range(0, len(waiting), _BATCH):
            if self._has_given_up:
                return
            self._looks.look(dict(waiting[begin : begin + _BATCH]))
            if self._teller.flush_in_s == 0:
                self._flush()
        self._note_watches()

    def _due(self) -> dict[Place, int]:
        """Return the names that were hinted at, and those that have rested."""
        now_ns = time.monotonic_ns()
        with self._lock:
            hints, self._hints = self._hints, {}
        again = self._looks.again
        for place in [place for place, (due_ns, _) in again.items() if due_ns <= now_ns]:
            since_ns = again.pop(place)[1]
            hints[place] = min(hints.get(place, since_ns), since_ns)
        return hints

    def _all(self) -> dict[Place, int]:
        """Return the names that were hinted at and those that rest, to be looked at whatever it costs."""
        again = self._looks.again
        for folder, name in list(again):
            entry = folder.children.get(name)
            if entry is not None:
                entry.cost_ns = 0
        for place, (_, since_ns) in list(again.items()):
            again[place] = (0, since_ns)
        places = self._due()
        for folder, name in places:
            entry = folder.children.get(name)
            if entry is not None:
                entry.cost_ns = 0
        return places

    def _take_drop(self) -> bool:
        with self._lock:
            since_ns, self._dropped_since = self._dropped_since, None
        if since_ns is None:
            return False
        self._teller.lost(since_ns or self._round_ns)
        return True

    def _round(self) -> None:
        """Look at everything."""
        begun, begun_ns = time.monotonic(), time.monotonic_ns()
        changed: dict[Place, int] = {}
        for root in self._roots:
            changed[root, b""] = self._round_ns
            waiting = [root]
            while waiting and not self._has_given_up:
                folder = waiting.pop()
                self._differing(folder, changed)
                waiting += [entry.folder for entry in folder.children.values() if entry.folder is not None]
        self._take(changed)
        self._round_ns = begun_ns
        self._teller.look(LookOp.ROUND, begun_ns)
        self._plan_round(time.monotonic() - begun)

    def _differing(self, folder: Folder, changed: dict[Place, int]) -> None:
        """Add the names of a directory that differ from the mirror."""
        children, found = folder.children, set[bytes]()
        since_ns = self._round_ns
        try:
            with os.scandir(folder.path) as listing:
                for entry in listing:
                    known = children.get(entry.name)
                    try:
                        status = entry_status(entry)
                    except OSError:
                        continue
                    found.add(entry.name)
                    if known is None or known.is_fresh or known.status != packed(status):
                        changed[folder, entry.name] = max(since_ns, 0 if known else folder.listed_ns)
        except OSError:
            changed.update({(folder, name): since_ns for name in children})
            return
        changed.update({(folder, name): since_ns for name in children.keys() - found})
        folder.listed_ns = time.monotonic_ns()

    def _plan_round(self, took_s: float) -> None:
        least_s, share = (_POLLING_S, _POLLING_SHARE) if self.is_polling else (_SELDOM_S, _SELDOM_SHARE)
        self._round_at = time.monotonic() + max(least_s, share * took_s)

    def _patience_s(self) -> float:
        times = [self._round_at - time.monotonic()]
        if self._teller.flush_in_s is not None:
            times.append(self._teller.flush_in_s)
        if self._looks.again:
            times.append((min(due for due, _ in self._looks.again.values()) - time.monotonic_ns()) / 1e9)
        return max(0.0, min(times))


def _place_of(root: Folder, path: bytes) -> Place | None:
    """Return the deepest directory that is known on the way to a path, and the name in it that leads on."""
    top = root.root.path.rstrip(b"/")
    below = path.replace(b"\\", b"/") if os.name == "nt" else path
    top = top.replace(b"\\", b"/") if os.name == "nt" else top
    if below == top:
        return root, b""
    if not below.startswith(top + b"/"):
        return None
    folder = root
    parts = below[len(top) + 1 :].split(b"/")
    for part in parts[:-1]:
        entry = folder.children.get(part)
        if entry is None or entry.folder is None:
            return folder, part
        folder = entry.folder
    return folder, parts[-1]
