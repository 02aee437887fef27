import sys

import pytest
import torch

from tests.helpers.user_errors import refused
from textflow.metrics import mauve


def cloud(n: int, at: float, seed: int) -> torch.Tensor:
    """Points around a spot."""
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)) + at


def test_unequal_texts_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("at least 5000", mauve, torch.zeros(100, 2), torch.zeros(100, 2))
    refused("equally many", mauve, torch.zeros(9, 2), torch.zeros(10, 2), min_texts=5)
    monkeypatch.setitem(sys.modules, "mauve", None)
    refused(r"pip install 'textflow\[eval\]'", mauve, torch.zeros(5, 2), torch.zeros(5, 2), min_texts=5)


def test_the_same_law_is_near_one_and_another_is_near_zero() -> None:
    same = mauve(cloud(200, 0.0, 1), cloud(200, 0.0, 2), min_texts=200, seeds=(25, 26))
    other = mauve(cloud(200, 0.0, 1), cloud(200, 5.0, 2), min_texts=200, seeds=(25, 26))
    assert same.value > 0.9 and other.value < 0.1
    assert same.low is not None and same.high is not None and same.low <= same.value <= same.high
