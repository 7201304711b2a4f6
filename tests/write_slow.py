"""`python tests/write_slow.py DURATIONS [SECONDS]` writes slow.txt: what `pytest` leaves out.

DURATIONS: output of `pytest -m "" --durations=0 -vv`, or of as many as matter. SECONDS: what a test
function may take in all its cases. What isn't measured counts as quick.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

LINE = re.compile(r"^(\d+\.\d+)s (?:call|setup|teardown) +tests/(\w+)\.py::(?:\w+::)*(\w+)", re.M)
LEARNING = "test_learning"  # has a mark of its own


def slow_in(durations, seconds):
    """Names `file::function` of those that take longer."""
    total = defaultdict(float)
    for took, file, function in LINE.findall(durations):
        total[f"{file}::{function}"] += float(took)
    return sorted(k for k, t in total.items() if t > seconds and not k.startswith(LEARNING))


if __name__ == "__main__":
    limit = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    found = slow_in(Path(sys.argv[1]).read_text(), limit)
    Path(__file__).with_name("slow.txt").write_text("\n".join(found) + "\n")
