"""What tasks cost: `python tests/task_scaling.py docs/tasks.png 5 20 100 500 2000 5000`.

A meta-iteration of nav-20 with so many tasks, each in a process of its own, which is what its peak
memory is measured of; prints the rows and draws them.
"""

import json
import subprocess
import sys

import matplotlib.pyplot as plt


def measure(tasks):
    """Milliseconds a task, and MiB in all."""
    repeats = str(max(2, min(15, 1500 // tasks)))
    words = ["bench", "nav-20", "--tasks", str(tasks), "--repeats", repeats, "--threads", "2"]
    command = [sys.executable, "-m", "metarl", *words, "--json", "-"]
    record = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    row = tasks, 1e3 * record["seconds_per_iteration"] / tasks, record["peak_rss_mb"]
    print("| {} | {:.2f} | {:.0f} |".format(*row), flush=True)
    return row


def draw(rows, path):
    tasks, cost, memory = zip(*rows, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    left.plot(tasks, cost, "o-")
    left.set(ylabel="ms a task", ylim=(0, 1.3 * max(cost)))
    right.plot(tasks, [m / 1024 for m in memory], "o-")
    right.axhline(4, color="grey", linestyle=":")
    right.set(ylabel="peak memory of the process, GiB", ylim=(0, 4.4))
    for axes in (left, right):
        axes.set(xscale="log", xlabel="tasks in a meta-batch")
        axes.set_xticks(tasks, [str(n) for n in tasks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw([measure(int(n)) for n in sys.argv[2:]], sys.argv[1])
