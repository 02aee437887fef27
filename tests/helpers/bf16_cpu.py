"""A CPU with or without instructions for bf16."""

import pytest
import torch

SLOW = "this CPU has no fast bf16: its products are emulated, slower than fp32"


def half(monkeypatch: pytest.MonkeyPatch, avx: bool, amx: bool = False) -> None:
    """Torch finds these sets of instructions."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
