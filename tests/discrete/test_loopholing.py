"""Loopholing: identities with the nets of MDLM and Duo, the way of the carried states, and a resumed run."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from textflow.discrete import (
    DuoObjective,
    DuoSampler,
    LoopholingDiT,
    MDLMObjective,
    MDLMSampler,
    TokenDiT,
)
from textflow.eval.samples import count_network_rows
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.text_format import TextFormat
from textflow.training import TrainingModule
from textflow.types import Batch, Ids

VOCAB, LENGTH = 6, 8
BASES = ("MDLM", "Duo")
TEXTS = Batch(torch.arange(4 * LENGTH).remainder(5).view(4, LENGTH), torch.ones(4, LENGTH, dtype=torch.bool))


def make(base: str, carry_prob: float | None, gain: float = 0.0, **options: Any) -> DiscreteDiffusion:
    """MDLM or Duo with random weights, by a LoopholingDiT whose gain is constant, or by a TokenDiT (None)."""
    sizes: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2, "cond_width": 8, "dropout": 0.0}
    own = {} if carry_prob is None else {"carry_prob": carry_prob}
    parts = (MDLMObjective(), MDLMSampler()) if base == "MDLM" else (DuoObjective(curriculum_steps=0), DuoSampler())
    net = TokenDiT if carry_prob is None else LoopholingDiT
    model = DiscreteDiffusion(VOCAB, lambda states: net(states, **sizes, **own), *parts, **options)
    weights = torch.Generator().manual_seed(0)
    for name, p in model.net.named_parameters():
        p.data.fill_(gain) if "carry" in name else p.data.copy_(0.4 * torch.randn(p.shape, generator=weights))
    model.ema_net.load_state_dict(model.net.state_dict())
    model.text_format = TextFormat(seq_length=LENGTH)
    return model


def trained_values(model: DiscreteDiffusion, steps: int = 3) -> list[Tensor]:
    """Losses of a few steps of Adam from one random state, one of validation, and samples afterwards."""
    torch.manual_seed(1)
    optimizer, losses = torch.optim.Adam(model.net.parameters(), 1e-2), []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(model.losses(model.net, TEXTS)["loss"])
        losses[-1].backward()
        optimizer.step()
    model.ema_net.load_state_dict(model.net.state_dict())
    return [*losses, model.eval().losses(model.ema_net, TEXTS)["loss"], model.sample([1, 2, 3], 5)]


@pytest.mark.integration
@pytest.mark.parametrize("base", BASES)
def test_without_carrying_it_is_the_base_to_the_bit(base: str) -> None:
    off, plain = (trained_values(make(base, carry_prob, gain=1.0)) for carry_prob in (0.0, None))
    assert all(torch.equal(a, b) for a, b in zip(off, plain, strict=True))
    on = trained_values(make(base, 1.0, gain=1.0))
    assert not any(torch.equal(a, b) for a, b in zip(on[1:], plain[1:], strict=True))


@pytest.mark.parametrize("base", BASES)
def test_training_starts_at_the_base_to_the_bit(base: str) -> None:
    new, plain = (make(base, carry_prob).eval() for carry_prob in (0.9, None))
    losses = []
    for model in (new, plain):
        torch.manual_seed(2)
        losses.append(model.losses(model.net, TEXTS)["loss"])
    assert torch.equal(*losses) and torch.equal(new.sample([1, 2], 5), plain.sample([1, 2], 5))
    losses[0].backward()
    assert bool(new.net.carry_norm.weight.grad.abs().sum() > 0)  # it does not stay there


def test_the_loss_is_of_a_second_pass_from_the_states_of_the_first() -> None:
    net, sigma = make("Duo", 1.0, gain=1.0).net, torch.rand(4)
    ids = TEXTS.ids

    def gradients(states: Tensor) -> list[Tensor]:
        net.zero_grad()
        net.lm_logits(states).square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    alone = net.next_states(ids, sigma, None)
    first = alone.detach()
    second = net.next_states(ids, sigma, first)
    for a, b in zip(gradients(net(ids, sigma)), gradients(second), strict=True):
        torch.testing.assert_close(a, b)
    torch.manual_seed(3)
    net.carry_prob, rows = 0.5, list[list[bool]]()
    for _ in range(4):
        states = net(ids, sigma)
        rows.append([bool((states[i] - second[i]).abs().max() < 1e-5) for i in range(4)])
        expected = torch.where(torch.tensor(rows[-1])[:, None, None], second, alone)
        torch.testing.assert_close(states, expected)
    assert {True, False} == {carried for row in rows for carried in row}


@pytest.mark.parametrize("base", BASES)
def test_each_pass_of_a_sampler_reads_the_states_of_the_pass_before(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, passes = make(base, 0.9, gain=1.0).eval(), list[tuple[Tensor | None, Tensor]]()
    plain = LoopholingDiT.next_states

    def recorded(net: LoopholingDiT, ids: Ids, sigma: Tensor, states: Tensor | None) -> Tensor:
        passes.append((states, plain(net, ids, sigma, states)))
        return passes[-1][1]

    monkeypatch.setattr(LoopholingDiT, "next_states", recorded)
    with count_network_rows(model.net, model.ema_net) as rows:
        together = model.sample([5, 9, 5], 6)
    assert rows == [len(states) for _, states in passes], "each pass is a network evaluation"
    assert passes[0][0] is None and len(passes) > 4
    for (_, states), (carried, _) in pairwise(passes):
        known = {tuple(row.flatten().tolist()) for row in states}  # rows without masks take no further pass
        assert carried is not None and {tuple(row.flatten().tolist()) for row in carried} <= known
    assert torch.equal(together, torch.cat([model.sample([seed], 6) for seed in (5, 9, 5)]))
    prompt = torch.arange(LENGTH)[None].expand(3, -1) % 2 == 0
    ids = TEXTS.ids[:3]
    assert torch.equal(model.complete(ids, prompt, [1, 2, 3], 4)[prompt], ids[prompt])


class Seeded(L.Callback):
    """Sets the same random state at each step, for a run and its continuation."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        torch.manual_seed(100 + trainer.global_step)


@pytest.mark.integration
def test_a_resumed_run_equals_an_uninterrupted_one_and_the_gain_is_averaged(tmp_path: Path) -> None:
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    def run(steps: int, checkpoint: Path | None = None) -> DiscreteDiffusion:
        model = make("MDLM", 0.9, optimizer=lambda p: torch.optim.Adam([each for _, each in p], 1e-2), ema_decay=0.5)
        trainer = L.Trainer(max_steps=steps, accelerator="cpu", callbacks=[Seeded()], **off)
        trainer.fit(TrainingModule(model), DataLoader([TEXTS] * 8, batch_size=None), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return model

    run(2)
    whole, resumed = run(4), run(4, tmp_path / "2.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    gain, averaged = whole.net.carry_norm.weight, whole.ema_net.carry_norm.weight
    assert bool((averaged != 0).any()) and not torch.equal(gain, averaged)


def test_a_probability_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"carry_prob is 1.5: LoopholingDiT needs a probability in \[0, 1\]"):
        LoopholingDiT(5, 8, 1, 2, 4, carry_prob=1.5)
