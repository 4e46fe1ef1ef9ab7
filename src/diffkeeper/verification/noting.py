"""Write into the facts of a recording what its verification found, or why there was none."""

from __future__ import annotations

from collections.abc import Callable

from diffkeeper.patience import OutOfTimeError
from diffkeeper.store.format import SessionFacts
from diffkeeper.verification.result import DONE, FAILED, INTERRUPTED, OUT_OF_TIME, Verification

_MOST_SHOWN = 5


def note(facts: SessionFacts, verify: Callable[[], Verification]) -> None:
    """Verify; whatever goes wrong, the trace is as good as it was before."""
    try:
        result = verify()
    except KeyboardInterrupt:
        facts.verification = INTERRUPTED
    except OutOfTimeError:
        facts.verification = OUT_OF_TIME
    except Exception as error:  # a defect of ours, or of the disk: the recording itself is whole
        facts.verification = f"{FAILED}: {error}"
    else:
        facts.verification = DONE
        facts.counters.update(result.counters())
        facts.differing = result.paths


def differing(facts: SessionFacts) -> list[str]:
    """Return in words why the verification keeps a trace from being complete, nothing if it does not."""
    count = facts.counters.get("differ", 0)
    if not count:
        return []
    shown = ", ".join(facts.differing[:_MOST_SHOWN])
    return [f"{count:,} {'differs' if count == 1 else 'differ'}: {shown}{', …' if count > _MOST_SHOWN else ''}"]
