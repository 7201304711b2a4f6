"""From host to device without a wait, and what matrix products are made of."""

import pytest
import torch

from metarl.config.settings import RunConfig
from metarl.envs import make_family, sample_tasks, simulate
from metarl.envs.core.host_to_device import to_agent
from metarl.experiment.run import start
from metarl.experiment.train_run import train_in
from metarl.system.machine import set_matmul


def test_to_a_gpu_from_pinned_memory_without_a_wait(monkeypatch):
    calls = []

    def pin(x):
        calls.append("pin")
        return x

    def to(x, *where, **how):
        calls.append((*where, how))
        return x

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    to_agent(torch.zeros(3), torch.device("cuda"))
    assert calls == ["pin", (torch.device("cuda"), {"non_blocking": True})]


def test_simulators_on_the_host_send_all_that_a_step_gives_this_way(monkeypatch):
    pytest.importorskip("mujoco")
    family = make_family("half-cheetah-dir")
    task = sample_tasks(family, 2, torch.Generator().manual_seed(0))
    simulator = simulate(family, task, 2, torch.Generator().manual_seed(0))
    sent = []
    monkeypatch.setattr(
        "metarl.envs.mujoco.simulator.to_agent", lambda x, d: sent.append(x.shape) or x
    )
    simulator.reset()
    simulator.step(torch.zeros(2, 2, 6))
    assert len(sent) == 4  # first obs; obs, rew, terminated


@pytest.mark.parametrize(
    ("numbers", "precision"), [("float32", "highest"), ("tf32", "high"), ("bf16", "medium")]
)
def test_matrix_products_are_of_the_numbers_that_a_run_asks_for(tmp_path, numbers, precision):
    from small import small

    before = torch.get_float32_matmul_precision()
    try:
        job = start(
            tmp_path / "run", small("point-navigation", iterations=1), RunConfig(matmul=numbers)
        )
        train_in(tmp_path / "run", job)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_float32_is_the_default():
    assert RunConfig().matmul == "float32"
    set_matmul("float32")
    assert torch.get_float32_matmul_precision() == "highest"
