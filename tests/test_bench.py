"""The benchmark: what its lower bound is, what it counts, what it writes and compares."""

import json
from collections import Counter
from itertools import pairwise

import pytest
import torch
from small import metarl
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.bench.lower_bound import Passes, lower_bound
from metarl.bench.op_counts import operations
from metarl.bench.workloads import WORKLOADS, settings
from metarl.envs import make_family
from metarl.training.meta_train import new_agent

FAMILY = make_family("point-navigation")
N, M, SIZES = 3, 10, [2, 7, 5, 4]
USAGE = 2


class Products(TorchDispatchMode):
    """Shapes (O, I) of the layers whose products were taken, and the activations."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("bmm", "baddbmm"):
            a, b = args[-2:]
            inner = {a.shape[1], a.shape[2], b.shape[2]} - {M}
            self.seen[tuple(sorted(inner))] += 1
        elif name in ("tanh", "tanh_backward"):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def autograd(what):
    """The same passes by autograd, of the loss sum(y^2): its products and activations."""
    x = torch.randn(N, M, SIZES[0])
    weights = [torch.randn(N, o, i, requires_grad=True) for i, o in pairwise(SIZES)]
    with Products() as forward:
        y = x
        for i, w in enumerate(weights):
            y = torch.bmm(y, w.mT)
            y = y if i + 1 == len(weights) else y.tanh()
    loss = y.square().sum()
    with Products() as backward:
        grads = torch.autograd.grad(loss, weights, create_graph=True)
    slope = sum((g * torch.randn_like(g)).sum() for g in grads)
    with Products() as second:
        torch.autograd.grad(slope, weights)
    return {"forward": forward, "backward": backward, "second": second}[what].seen


def passes(*names):
    own = Passes(N, M, SIZES, torch.device("cpu"))
    with Products() as count:
        for name in names:
            getattr(own, name)()
    return count.seen


@pytest.mark.parametrize(
    ("what", "names"), [("forward", ("forward",)), ("backward", ("backward",))]
)
def test_unavoidable_passes_are_those_of_autograd(what, names):
    assert passes(*names) == autograd(what)


def test_second_order_passes_have_the_products_of_autograd():
    """Products alone: autograd writes the activation's second derivative as multiplications."""
    got, want = passes("jvp", "hvp"), autograd("second")
    for shape in want:
        if isinstance(shape, tuple):
            assert got[shape] == want[shape]


def test_more_epochs_cost_more_and_chunks_count_as_the_whole():
    cfg = settings("nav-20-promp")
    agent = new_agent(cfg, FAMILY)
    least = lower_bound(cfg, FAMILY, agent, 1, torch.device("cpu"))
    assert least["outer"] > 5 * least["inner"]
    assert least.keys() == {"rollout", "inner", "rollout after", "outer"}


def test_a_step_of_navigation_with_its_policy_is_at_most_25_operations():
    counts = operations(settings("nav-20"))
    step = counts["environment step"]
    assert step["tanh"] == 2
    assert step["clamp"] == 1
    assert sum(step.values()) <= 25
    assert counts["meta-gradient"]["bmm"] > counts["inner step"]["bmm"] > 0


def test_operations_are_shown(tmp_path):
    code, out, err = metarl("bench nav-20 --ops --json", tmp_path / "ops.json")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "ops.json").read_text())
    for what, names in record["operations"].items():
        assert f"{what} " in out
        assert f" {sum(names.values())} " in out


def test_a_trace_and_the_ratio_to_an_earlier_record(tmp_path):
    first, path = tmp_path / "it.json", tmp_path / "trace.json"
    code, _, err = metarl("bench nav-20 --repeats 1 --json", first)
    assert (code, err) == (0, "")
    record = json.loads(first.read_text())
    assert record["times_lower_bound"] == pytest.approx(
        record["seconds_per_iteration"] / sum(record["lower_bound"].values())
    )
    record["phases"]["rollout"] /= 1000  # a machine that was that fast
    first.write_text(json.dumps(record))
    code, out, _ = metarl("bench nav-20 --repeats 1 --compare", first, "--profile", path)
    assert code == 0
    row = next(line for line in out.splitlines() if line.strip().startswith("rollout "))
    assert float(row.split()[-1]) > 100
    assert "most expensive operations" in out
    assert "aten::tanh" in out
    assert any(e.get("name") == "aten::tanh" for e in json.loads(path.read_text())["traceEvents"])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "No such file"),
        ("{", "not a record of bench"),
        ('{"workload": "nav-200", "phases": {}}', "it is of nav-200; give a record of nav-20"),
    ],
)
def test_what_cannot_be_compared_with_is_named(tmp_path, content, part):
    path = tmp_path / "old.json"
    if content:
        path.write_text(content)
    code, _, err = metarl("bench nav-20 --compare", path)
    assert code == USAGE
    assert f"--compare {path}" in err
    assert part in err


def test_a_trace_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "nowhere" / "trace.json"
    code, _, err = metarl("bench nav-20 --repeats 1 --profile", path)
    assert code == USAGE
    assert f"--profile {path}: no folder {path.parent}" in err


def test_a_trace_is_of_what_was_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("metarl.cli.bench.trace", lambda *how: asked.append(how) or [])
    code, _, _ = metarl("bench nav-20 --repeats 1 --tasks 3 --profile", tmp_path / "trace.json")
    assert code == 0
    ((cfg, _, _, compiled),) = asked
    assert (cfg.tasks, compiled) == (3, False)


def test_workloads_are_as_their_names_say():
    for name in WORKLOADS:
        cfg = settings(name, 3)
        assert (cfg.inner_steps, cfg.hidden, cfg.episodes) == (1, (64, 64), 20)
    assert settings("nav-20", 3).epochs == 1
    assert settings("nav-20-promp", 3).epochs == 5
