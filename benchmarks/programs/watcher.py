"""Count with watchdog what happens below a folder, until standard input ends: watcher.py FOLDER."""

import sys
from collections import Counter

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class Counting(FileSystemEventHandler):
    """Count events by type."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Count one."""
        if not event.is_directory:
            self.seen[event.event_type] += 1


counting, observer = Counting(), Observer()
observer.schedule(counting, sys.argv[1], recursive=True)
observer.start()
print("ready", flush=True)
sys.stdin.read()
observer.stop()
observer.join()
print(sum(counting.seen[name] for name in ("created", "modified", "moved", "deleted")))
