"""The commitment head: denoising rows learn p(token | z_t), and a net without a head is unchanged."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam
from torch.testing import assert_close

from tests.helpers.sampling import GivenLatents
from tests.helpers.tiny_elf import random_batch, tiny_elf
from tests.helpers.tiny_generator import untrained
from textflow.codecs import LatentSpace
from textflow.escapes import Commit
from textflow.nets import ELF
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.readouts import FromPosterior
from textflow.reference.elf import reference_elf_loss
from textflow.samplers import Ancestral, sample
from textflow.schedules import Uniform
from textflow.types import Batch

ROWS, LENGTH, DIM, VOCAB = 12, 5, 8, 20
PATH, X, BATCH = LinearPath(), *random_batch(ROWS, LENGTH, DIM, VOCAB)


def make_net(head: bool = True, dropout: float = 0.0) -> ELF:
    return tiny_elf(DIM, VOCAB, depth=4, std=0.3, dropout=dropout, commitment_head=head)


def make_draws() -> ELFDraws:
    torch.manual_seed(3)
    return ELFObjective(row_assignment="stratified").sample_draws(X)


def losses_of(net: ELF, **options: float) -> dict[str, Tensor]:
    return ELFObjective(**options).loss(net, PATH, X, BATCH, make_draws())


def test_the_head_adds_weights_and_changes_nothing_else() -> None:
    plain, headed = make_net(False), make_net()
    extra = {f"commitment_head.{layer}.{kind}" for layer in ("down", "up") for kind in ("weight", "bias")}
    assert set(headed.state_dict()) - set(plain.state_dict()) == extra and plain.commitment_head is None
    headed.load_state_dict(plain.state_dict(), strict=False)
    t = torch.full((ROWS,), 0.4)
    assert plain(X, t).logits is None and torch.equal(plain(X, t).mean, headed(X, t).mean)
    losses = losses_of(plain)
    assert set(losses) == {"loss", "tokens", "mse", "decode_ce"}
    for other in (losses_of(plain, head_loss_weight=7.0), losses_of(headed, head_loss_weight=0.0)):
        assert all(torch.equal(losses[name], other[name]) for name in losses)


def test_the_loss_has_the_cross_entropy_of_the_head_on_denoising_tokens() -> None:
    net, hidden = make_net(), list[Tensor]()
    forward_hidden = net.forward_hidden
    net.forward_hidden = lambda *args: hidden.append(forward_hidden(*args)) or hidden[-1]  # type: ignore[method-assign]
    without, with_head = losses_of(net, head_loss_weight=0.0), losses_of(net, head_loss_weight=0.3)
    denoised = BATCH.mask & ~make_draws().decode[:, None]
    logits = net.commitment_logits(hidden[-1])
    assert logits is not None and 0 < denoised.sum() < BATCH.mask.sum()
    nll = F.cross_entropy(logits[denoised], BATCH.ids[denoised], reduction="sum")
    assert_close(with_head["commitment_head_ce"], nll.detach() / denoised.sum(), rtol=1e-5, atol=0)
    assert_close(with_head["loss"] - without["loss"], 0.3 * nll / BATCH.mask.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.integration
@pytest.mark.parametrize("row_assignment", ["bernoulli", "stratified"])
def test_the_losses_and_gradients_are_those_of_the_reference_form(row_assignment: str) -> None:
    objective, results = ELFObjective(head_loss_weight=0.5, row_assignment=row_assignment), []
    draws = ELFDraws(*(part.double() if part.is_floating_point() else part for part in make_draws()))
    for loss in (objective.loss, lambda *args: reference_elf_loss(objective, *args)):
        net = make_net().double()
        losses = loss(net, PATH, X.double(), BATCH, draws)
        losses["loss"].backward()
        results.append((losses, {name: p.grad for name, p in net.named_parameters()}))
    (losses, grads), (expected_losses, expected_grads) = results
    for name in ("loss", "mse", "decode_ce", "commitment_head_ce"):
        assert_close(losses[name], expected_losses[name], rtol=1e-9, atol=1e-12)
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name], rtol=1e-9, atol=1e-12)
    assert all(grads[name].abs().max() > 0 for name in grads if name.startswith("commitment_head."))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_makes_no_logits_of_the_head(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_net(dropout=dropout).train()

    def refuse(hidden: Tensor) -> Tensor:
        raise AssertionError("logits were made")

    assert net.commitment_head is not None
    monkeypatch.setattr(net.commitment_head, "forward", refuse)
    assert losses_of(net)["commitment_head_ce"].isfinite()
    with pytest.raises(AssertionError, match="logits were made"):
        net(X, torch.full((ROWS,), 0.5))


@pytest.mark.integration
def test_the_head_learns_the_tokens_near_text_and_not_near_noise() -> None:
    """Embeddings without context: the accuracy is high near t = 1 and low near t = 0."""
    torch.manual_seed(0)
    codes = torch.eye(DIM) * DIM**0.5
    net = ELF(LatentSpace(DIM, DIM), 16, 1, 2, 8, time_tokens=1, guidance_tokens=1, mode_tokens=1, commitment_head=True)
    objective, optimizer = ELFObjective(Uniform(), loss_space="x0", head_loss_weight=1.0), Adam(net.parameters(), 0.03)
    for _ in range(40):
        ids = torch.randint(DIM, (64, LENGTH))
        batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
        loss = objective(net, GivenLatents(codes[ids]), PATH, batch, 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids, accuracy = torch.randint(DIM, (128, LENGTH)), []
    for t in (0.05, 0.8):
        z = PATH.mix(codes[ids], torch.randn(128, LENGTH, DIM), t)
        logits = net(z, torch.full((128,), t)).logits
        assert logits is not None
        accuracy.append(float((logits.argmax(-1) == ids).double().mean()))
    assert accuracy[0] < 0.3 and accuracy[1] > 0.9


def test_the_readout_from_the_posterior_and_an_escape_use_the_head() -> None:
    parts = {"readout": FromPosterior(), "token_readout": FromPosterior(), "escape": Commit(), "sampler": Ancestral()}
    model = untrained(VOCAB, DIM, LENGTH, head=True, **parts)
    samples = model.sample([1, 2, 3], 4)
    (z, noise), times = model.initial_noise([1, 2, 3]), model.sampling_schedule.grid(4)
    denoise = model.denoiser(escape=model.escape, noise=noise)
    with torch.no_grad():
        trace = sample(denoise, model.sampler, model.path, times, z, noise, final_denoise=model.denoiser(noise=noise))
    for belief in trace.beliefs[1:-1]:
        assert belief.logits is not None and belief.committed is not None
        assert torch.equal(belief.committed, belief.logits.argmax(-1))
    assert torch.equal(samples.ids, trace.beliefs[-1].logits.argmax(-1))
    assert [belief.logits is None for belief in samples.trace.beliefs] == [True, True, True, False]
