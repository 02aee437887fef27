import sys

import pytest
import torch

from textflow.metrics import mauve


def cloud(n: int, at: float, seed: int) -> torch.Tensor:
    """Points around a spot."""
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)) + at


def test_too_few_or_unequal_texts_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="at least 5000"):
        mauve(torch.zeros(100, 2), torch.zeros(100, 2))
    with pytest.raises(ValueError, match="equally many"):
        mauve(torch.zeros(9, 2), torch.zeros(10, 2), min_texts=5)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(ValueError, match=r"pip install 'textflow\[eval\]'"):
        mauve(torch.zeros(5, 2), torch.zeros(5, 2), min_texts=5)


def test_the_same_law_is_near_one_and_another_is_near_zero() -> None:
    same = mauve(cloud(200, 0.0, 1), cloud(200, 0.0, 2), min_texts=200, seeds=(25, 26))
    other = mauve(cloud(200, 0.0, 1), cloud(200, 5.0, 2), min_texts=200, seeds=(25, 26))
    assert same.value > 0.9 and other.value < 0.1
    assert same.low is not None and same.high is not None and same.low <= same.value <= same.high
