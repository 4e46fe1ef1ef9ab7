"""How much memory processing may take, beside what the tree of the files takes itself."""

from __future__ import annotations

MEMORY_BYTES = 256 << 20
LEAST_MEMORY_BYTES = 64 << 20
HELD_SHARE = 4  # the part of it that open streams may hold: one of so many
