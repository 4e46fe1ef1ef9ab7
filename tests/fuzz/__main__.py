"""Look for bytes that break a reader: ``PYTHONPATH=tests python -m fuzz TARGET [SECONDS]``, needs atheris (PyPI).

What is found, and what reaches code that nothing else reached, is put into ``tests/fuzz/corpus/TARGET``; commit it,
``make test`` runs all of it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("fuzzing needs atheris: .venv/bin/pip install atheris")

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run one target until it breaks or the time is over."""
    with atheris.instrument_imports(include=["diffkeeper"]):
        from fuzz.seeds import golden
        from fuzz.targets import TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {{{','.join(TARGETS)}}} [SECONDS]")
    folder = CORPUS / sys.argv[1]
    folder.mkdir(parents=True, exist_ok=True)
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    options = [f"-max_total_time={seconds}", "-max_len=16384", "-rss_limit_mb=2048", f"-artifact_prefix={folder}/"]
    seeds = Path(tempfile.mkdtemp(prefix="fuzz-seeds-"))
    for number, seed in enumerate(golden(sys.argv[1])):
        (seeds / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], str(folder), str(seeds), *options], TARGETS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
