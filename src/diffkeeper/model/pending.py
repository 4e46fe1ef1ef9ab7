"""Say from when to when requests of io_uring or AIO may be writing to a file: no state of it between is vouched for."""

from __future__ import annotations

from diffkeeper.model.event import PENDING_ENDS, Kind
from diffkeeper.model.ledger import Ledger
from diffkeeper.model.observation import RequestSeen


class Pending:
    """Emit PENDING when the first request to a file may write, and when the last of them writes no more."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: dict[int, set[int]] = {}  # sequences of requests, by node

    def seen(self, seen: RequestSeen) -> None:
        """Take the begin or the end of a request; one that never ends leaves the file in doubt."""
        node = self._ledger.find(seen.inode)
        if node is None or node.content is None:
            return
        requests = self._under_way.setdefault(node.number, set())
        was_pending = bool(requests)
        if not seen.is_over:
            requests.add(seen.of)
        elif seen.of in requests:
            requests.remove(seen.of)
        if was_pending != bool(requests):
            detail, path = 0 if requests else PENDING_ENDS, self._ledger.path(node)
            self._ledger.emit(seen, Kind.PENDING, detail=detail, node=node.number, path=path, size=node.size)
        if not requests:
            del self._under_way[node.number]
