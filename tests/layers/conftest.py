"""A CPU that passes for a GPU."""

import pytest

from textflow.layers import functional, kernels, transformer


@pytest.fixture
def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kernels, functional, transformer):
        monkeypatch.setattr(module, "cuda", lambda x: True)
