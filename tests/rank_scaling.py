"""What several ranks gain and what they say to each other: `python tests/rank_scaling.py nav-20 2`.

One rank of one thread, and then several of one thread each, on the same workload: environment steps
a second of all, bytes that a rank sends to be summed in an iteration, and seconds that it waits.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import torch
import torch.distributed as dist

from metarl.bench.workloads import WARM_UP, settings
from metarl.distributed.collectives import init_process_group, is_rank_zero, process_group
from metarl.distributed.launcher import leave
from metarl.envs import make_family
from metarl.outer.train_state import TrainState
from metarl.system.machine import keep_memory
from metarl.training.meta_train import meta_train, new_agent

REPEATS = 15


@contextmanager
def counted(said):
    """Bytes and seconds of each sum over ranks."""
    plain = dist.all_reduce

    def all_reduce(message, *args, **how):
        began = time.perf_counter()
        result = plain(message, *args, **how)
        said.append((message.numel() * message.element_size(), time.perf_counter() - began))
        return result

    dist.all_reduce = all_reduce
    try:
        yield
    finally:
        dist.all_reduce = plain


def measure(workload):
    """As one rank among all, or alone: one record a line."""
    torch.set_num_threads(1)
    keep_memory()
    cfg = settings(workload, REPEATS)
    family = make_family(cfg.family)
    times, said = [], []
    with init_process_group(torch.device("cpu"), 60.0), counted(said):
        last, sizes, waits = time.perf_counter(), [], []
        for _ in meta_train(cfg, family, TrainState(new_agent(cfg, family))):
            now = time.perf_counter()
            times.append(now - last)
            sizes.append(sum(size for size, _ in said))
            waits.append(sum(wait for _, wait in said))
            messages = len(said)
            said.clear()
            last = time.perf_counter()
        seconds = statistics.median(times[WARM_UP:])
        steps = cfg.tasks * cfg.episodes * family.horizon * (cfg.inner_steps + 1)
        if is_rank_zero():
            record = {
                "ranks": process_group().size,
                "steps_per_second": round(steps / seconds),
                "seconds": round(seconds, 4),
                "bytes": sizes[-1],
                "messages": messages,
                "waits": round(statistics.median(waits[WARM_UP:]), 4),
                "least_wait": round(min(waits[WARM_UP:]), 4),
            }
            print(json.dumps(record))


def main(workload, ranks):
    """Both, one after the other, each in processes of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RANK_OF": workload}
    by_torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    for start in ([], by_torchrun):
        subprocess.run([sys.executable, *start, __file__], env=env, check=True)


if __name__ == "__main__":
    if "RANK_OF" in os.environ:
        measure(os.environ["RANK_OF"])
        leave(0)  # Python's own end may abort while gloo's threads are there
    else:
        main(*sys.argv[1:])
