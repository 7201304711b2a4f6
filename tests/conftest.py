"""Settings of the whole test run, and which tests are slow."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the tensors are small, and other work may share the machine
SLOW = Path(__file__).with_name("slow.txt")  # `python tests/write_slow.py` writes it


def pytest_collection_modifyitems(items):
    """Mark the tests whose file or function `slow.txt` names."""
    slow = set(SLOW.read_text().split())
    for item in items:
        name = f"{item.path.stem}::{getattr(item, 'originalname', item.name)}"
        if item.path.stem in slow or name in slow:
            item.add_marker(pytest.mark.slow)
