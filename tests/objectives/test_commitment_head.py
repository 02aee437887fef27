"""The commitment head: denoising rows learn p(token | z_t), and a net without it knows nothing of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.testing import assert_close

from tests.helpers.sampling import GivenLatents
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
from textflow.types import Batch, Latents

ROWS, LENGTH, DIM, VOCAB = 12, 5, 8, 20
PATH = LinearPath()


def tiny(head: bool = True, dropout: float = 0.0) -> ELF:
    torch.manual_seed(0)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=4, heads=2, bottleneck=8, dropout=dropout, commitment_head=head)
    nn.init.normal_(net.out.weight, std=0.3)  # it starts at 0, where no guess differs from another
    return net


def toy() -> tuple[Latents, Batch]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCAB, (ROWS, LENGTH), generator=draw)
    mask = torch.arange(LENGTH)[None].expand(ROWS, LENGTH) < torch.randint(1, LENGTH + 1, (ROWS, 1), generator=draw)
    return torch.randn(ROWS, LENGTH, DIM, generator=draw), Batch(ids, mask)


def draws() -> ELFDraws:
    torch.manual_seed(3)
    return ELFObjective(row_assignment="stratified").sample_draws(toy()[0])


def losses(net: ELF, **options: float) -> dict[str, Tensor]:
    return ELFObjective(**options).loss(net, PATH, *toy(), draws())


def test_a_net_without_a_head_is_the_old_one_to_the_bit() -> None:
    plain, headed = tiny(False), tiny()
    extra = {
        "commitment_head.down.weight",
        "commitment_head.down.bias",
        "commitment_head.up.weight",
        "commitment_head.up.bias",
    }
    assert set(headed.state_dict()) - set(plain.state_dict()) == extra and plain.commitment_head is None
    headed.load_state_dict(plain.state_dict(), strict=False)
    (x, _), t = toy(), torch.full((ROWS,), 0.4)
    assert plain(x, t).logits is None and torch.equal(plain(x, t).mean, headed(x, t).mean)
    ours, theirs = losses(plain), losses(plain, head_loss_weight=7.0)
    assert set(ours) == {"loss", "tokens", "mse", "decode_ce"} and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )
    weightless = losses(headed, head_loss_weight=0.0)
    assert all(torch.equal(ours[name], weightless[name]) for name in ours)


def test_the_loss_has_the_heads_cross_entropy_of_denoising_tokens() -> None:
    net, batch, drawn = tiny(), toy()[1], draws()
    met, trunk = [], net.forward_hidden
    net.forward_hidden = lambda *given: met.append(trunk(*given)) or met[-1]  # type: ignore[method-assign]
    without, with_head = losses(net, head_loss_weight=0.0), losses(net, head_loss_weight=0.3)
    told = batch.mask & ~drawn.decode[:, None]
    logits = net.commitment_logits(met[-1])
    assert logits is not None and 0 < told.sum() < batch.mask.sum()
    nll = F.cross_entropy(logits[told], batch.ids[told], reduction="sum")
    assert_close(with_head["commitment_head_ce"], nll.detach() / told.sum(), rtol=1e-5, atol=0)
    assert_close(with_head["loss"] - without["loss"], 0.3 * nll / batch.mask.sum(), rtol=1e-4, atol=1e-6)


def test_the_lean_step_is_the_plain_one() -> None:
    found = []
    for form in ("lean", "plain"):
        net, objective = tiny().double(), ELFObjective(head_loss_weight=0.5)
        (x, batch), drawn = toy(), draws()
        drawn = ELFDraws(*(part.double() if part.is_floating_point() else part for part in drawn))
        arguments = (net, PATH, x.double(), batch, drawn)
        made = objective.loss(*arguments) if form == "lean" else reference_elf_loss(objective, *arguments)
        made["loss"].backward()
        found.append((made, {name: p.grad for name, p in net.named_parameters()}))
    (ours, grads), (theirs, expected) = found
    for name in ("loss", "mse", "decode_ce", "commitment_head_ce"):
        assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-12)
    for name, grad in grads.items():
        assert_close(grad, expected[name], rtol=1e-9, atol=1e-12)
    assert all(grads[name].abs().max() > 0 for name in grads if name.startswith("commitment_head."))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_makes_no_logits_of_the_head(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny(dropout=dropout).train()

    def refuse(hidden: Tensor) -> Tensor:
        raise AssertionError("logits were made")

    assert net.commitment_head is not None
    monkeypatch.setattr(net.commitment_head, "forward", refuse)
    assert losses(net)["commitment_head_ce"].isfinite()
    with pytest.raises(AssertionError, match="logits were made"):
        net(toy()[0], torch.full((ROWS,), 0.5))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_batch_of_one_kind_of_rows_still_gives_finite_losses_and_gradients(share: float) -> None:
    net = tiny()
    x, batch = toy()
    made = ELFObjective(decode_prob=share)(net, GivenLatents(x), PATH, batch, 0)
    made["loss"].backward()
    assert all(value.isfinite() for value in made.values()) and (made["commitment_head_ce"] == 0) == (share == 1.0)
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_it_learns_what_z_says_of_the_token() -> None:
    """Codes without context: after some steps the head finds tokens near t = 1 and does not near t = 0."""
    torch.manual_seed(0)
    codes = torch.eye(DIM) * DIM**0.5
    net = ELF(LatentSpace(DIM, DIM), 16, 1, 2, 8, time_tokens=1, guidance_tokens=1, mode_tokens=1, commitment_head=True)
    objective, optimizer = (
        ELFObjective(Uniform(), loss_space="x0", head_loss_weight=1.0),
        Adam(net.parameters(), lr=0.03),
    )
    for _ in range(80):
        ids = torch.randint(DIM, (64, LENGTH))
        loss = objective(net, GivenLatents(codes[ids]), PATH, Batch(ids, torch.ones_like(ids, dtype=torch.bool)), 0)[
            "loss"
        ]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids, hits = torch.randint(DIM, (128, LENGTH)), []
    for t in (0.05, 0.8):
        z = PATH.mix(codes[ids], torch.randn(128, LENGTH, DIM), t)
        logits = net(z, torch.full((128,), t)).logits
        assert logits is not None
        hits.append(float((logits.argmax(-1) == ids).double().mean()))
    assert hits[0] < 0.3 and hits[1] > 0.9


def test_the_readout_from_belief_and_an_escape_read_it() -> None:
    reading = {"readout": FromPosterior(), "token_readout": FromPosterior(), "escape": Commit(), "sampler": Ancestral()}
    made = untrained(VOCAB, DIM, LENGTH, head=True, **reading)
    found = made.sample([1, 2, 3], 4)
    (z, noise), times = made.initial_noise([1, 2, 3]), made.sampling_schedule.grid(4)
    denoise = made.denoiser(escape=made.escape, noise=noise)
    with torch.no_grad():
        trace = sample(denoise, made.sampler, made.path, times, z, noise, final_denoise=made.denoiser(noise=noise))
    for belief in trace.beliefs[1:-1]:
        assert belief.logits is not None and belief.committed is not None
        assert torch.equal(belief.committed, belief.logits.argmax(-1))
    assert torch.equal(found.ids, trace.beliefs[-1].logits.argmax(-1))
    assert [belief.logits is None for belief in found.trace.beliefs] == [True, True, True, False]
