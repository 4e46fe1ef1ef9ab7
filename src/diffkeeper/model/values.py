"""The decorator of values that are made by the million: frozen to the type checker, cheap to make at run time.

``@dataclass(frozen=True, slots=True)`` writes each field through ``object.__setattr__``: an Event takes 5.3 µs to make,
of which 4.0 go there, a DataWritten 2.9 of which 2.4 (measured on Python 3.11). mypy sees the standard library's
decorator and so refuses assignments; at run time nothing does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool, slots: bool):
        """Return a decorator that makes a class of values with slots, equality and a hash."""
        assert frozen, "values are not changed"
        return dataclasses.dataclass(slots=slots, unsafe_hash=True)
