"""What tracking costs: `python tests/tracking_cost.py forager 25`.

CPU time of the calls that track, and of the thread that writes, beside all CPU time of the run.
Other work on the machine doesn't change it; to show as little by runs with and without tracking
would take very many of them.
"""

import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from metarl import RunConfig, preset, start, train_in
from metarl.experiment import periodic_eval, train_run


def cost(family, iterations=25, **settings):
    """Seconds once, seconds in `iterations` with an evaluation at their end, and of the whole."""
    spent = {"once": 0.0, "always": 0.0}

    def timed(where, name, kind):
        def call(*args, **how):
            began = time.thread_time()
            result = original(*args, **how)
            spent[kind] += time.thread_time() - began
            return result

        original = getattr(where, name)
        return mock.patch.object(where, name, call)

    calls = [
        (train_run.Trackers, name, "always") for name in ("write", "histograms", "sync", "close")
    ]
    calls += [(periodic_eval, "how_it_adapts", "always"), (train_run, "shipped_trackers", "once")]
    patches = [timed(*each) for each in calls]
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        how = RunConfig(threads=1, device="cpu", eval_every=iterations, save_every=iterations)
        job = start(where, preset(family, iterations=iterations, **settings), how)
        for patch in patches:
            patch.start()
        began, mine = time.process_time(), time.thread_time()
        train_in(where, job)
        whole, mine = time.process_time() - began, time.thread_time() - mine
        for patch in patches:
            patch.stop()
    return spent["once"], spent["always"] + whole - mine, whole - spent["once"]


if __name__ == "__main__":
    once, tracking, whole = cost(sys.argv[1], int(sys.argv[2]))
    share = tracking / (whole - tracking)
    print(f"{sys.argv[1]}: {100 * share:.2f} % more CPU time, and {once:.2f} s once")
