import sys
from types import SimpleNamespace
from typing import Any

import pytest

from textflow.metrics import mauve


def test_too_few_or_unequal_texts_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="at least 5000"):
        mauve(["a"] * 100, ["b"] * 100)
    with pytest.raises(ValueError, match="equally many"):
        mauve(["a"] * 9, ["b"] * 10, least=5)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(ValueError, match=r"pip install 'textflow\[mauve\]'"):
        mauve(["a"] * 5, ["b"] * 5, least=5)


def test_the_package_is_given_texts_model_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}

    def compute(**options: Any) -> SimpleNamespace:
        said.update(options)
        return SimpleNamespace(mauve=0.75)

    monkeypatch.setitem(sys.modules, "mauve", SimpleNamespace(compute_mauve=compute))
    assert mauve(["a"] * 5, ["b"] * 5, least=5, name="gpt2", device_id=0) == 0.75
    assert said["p_text"] == ["a"] * 5 and said["q_text"] == ["b"] * 5
    assert said["featurize_model_name"] == "gpt2" and said["max_text_length"] == 1024 and said["device_id"] == 0
