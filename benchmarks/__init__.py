"""What recording costs, as ratios to the same work unrecorded: python -m benchmarks, or make bench."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # the workloads are the oracle's
