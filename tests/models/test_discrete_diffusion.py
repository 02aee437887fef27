"""A masked-diffusion model trains and writes."""

import pytest
import torch
from torch.optim import AdamW

from textflow.discrete.mdlm import MDLM
from textflow.discrete.objective import MDLMObjective
from textflow.discrete.sampler import MDLMSampler
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.samplers import Euler
from textflow.training import WarmupLR
from textflow.types import Batch

ROWS = torch.arange(12).remainder(5).repeat(16, 1)
BATCH = Batch(ROWS, torch.ones_like(ROWS, dtype=torch.bool))
SEEDS = [11, 5, 902, 7, 7]


class Ids:
    def decode(self, ids: list[list[int]]) -> list[str]:
        return [" ".join(map(str, row)) for row in ids]


def made(timed: bool = False, width: int = 16) -> DiscreteDiffusion:
    torch.manual_seed(0)
    model = DiscreteDiffusion(
        5,
        net=lambda vocab: MDLM(vocab, width, depth=1, heads=2, cond_width=8, dropout=0.0),
        objective=MDLMObjective(time_conditioning=timed),
        optimizer=lambda params: AdamW(params, lr=1e-2),
        lr_scheduler=lambda optimizer: WarmupLR(optimizer, warmup_steps=0),
    )
    model.tokenizer, model.seq_length = Ids(), 12
    return model


@pytest.fixture(scope="module")
def model() -> DiscreteDiffusion:
    model = made()
    for p in model.ema_net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return model.eval()


def test_a_new_network_knows_nothing() -> None:
    assert torch.isclose(made().losses(made().net, BATCH)["masked_ce"], torch.tensor(5.0).log(), rtol=1e-5)


def test_it_learns_what_it_then_writes() -> None:
    """Counting modulo 5 from anywhere: one choice in a row of 8, so log 5 / 8 = 0.20 nats a token; 1.61 at first."""
    torch.manual_seed(0)
    rows = (torch.arange(8)[None] + torch.arange(32)[:, None]).remainder(5)
    model = made(width=32)
    optimizer = model.configure_optimizers()["optimizer"]
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.losses(model.net, Batch(rows, torch.ones_like(rows, dtype=torch.bool)))["loss"]
        loss.backward()
        optimizer.step()
    model.ema_net.load_state_dict(model.net.state_dict())
    found = model.sample(list(range(64)), num_steps=32, length=8)
    assert loss < 0.6 and ((found.diff(dim=1) % 5) == 1).double().mean() > 0.6  # 0.2 by chance


@pytest.mark.parametrize("sampler", [MDLMSampler(), MDLMSampler(categorical="gumbel"), MDLMSampler(0.5)], ids=str)
def test_a_batch_gives_the_ids_of_its_samples_one_by_one(model: DiscreteDiffusion, sampler: MDLMSampler) -> None:
    together = model.sample(SEEDS, 5, sampler)
    alone = torch.cat([model.sample([seed], 5, sampler) for seed in SEEDS])
    assert torch.equal(together, alone) and torch.equal(together[3], together[4])
    assert len({tuple(row) for row in together.tolist()}) > 2 and int(together.max()) < 5


def test_texts_are_numbered_whatever_the_batch(model: DiscreteDiffusion) -> None:
    assert model.generate(5, 4, seed=3, batch_size=2) == model.generate(5, 4, seed=3)
    assert model.generate(2, 4, seed=3, first_index=3) == model.generate(5, 4, seed=3)[3:]


def test_a_timed_model_sees_the_noise(model: DiscreteDiffusion) -> None:
    told = made(timed=True)
    told.ema_net.load_state_dict(model.ema_net.state_dict())
    start = torch.full((2, 12), 5)
    early, late = told.token_log_probs(start, 0.1), told.token_log_probs(start, 0.9)
    assert not torch.allclose(early, late, atol=1e-4)
    assert torch.equal(model.token_log_probs(start, 0.1), model.token_log_probs(start, 0.9))


def test_weights_go_from_one_model_to_another(model: DiscreteDiffusion) -> None:
    other = made()
    other.load_weights(model.weights())
    assert torch.equal(other.sample([4], 3), model.sample([4], 3))


def test_what_cannot_be_written_is_refused(model: DiscreteDiffusion) -> None:
    with pytest.raises(ValueError, match="no guidance scale"):
        model.generate(1, self_cond_guidance=2.0)
    with pytest.raises(ValueError, match="not by Euler"):
        model.generate(1, sampler=Euler())
    with pytest.raises(ValueError, match=r"textflow\.load"):
        DiscreteDiffusion(5, net=lambda vocab: MDLM(vocab, 16, 1, 2, 8)).generate(1)


def test_what_is_given_stays_and_the_rest_is_unmasked(model: DiscreteDiffusion) -> None:
    ids, fixed = torch.arange(12).remainder(5).repeat(5, 1), torch.arange(12)[None].repeat(5, 1) % 3 == 0
    made = model.complete(ids, fixed, SEEDS, 6)
    assert torch.equal(made[fixed], ids[fixed]) and int(made.max()) < 5
    assert torch.equal(model.complete(ids[2:3], fixed[2:3], SEEDS[2:3], 6), made[2:3])
    nothing = torch.zeros_like(fixed)
    assert torch.equal(model.complete(ids, nothing, SEEDS, 6), model.sample(SEEDS, 6))
    with pytest.raises(ValueError, match="no guidance scale"):
        model.complete(ids, fixed, SEEDS, 6, cfg_scale=2.0)


def test_of_pairs_the_sources_are_never_masked(model: DiscreteDiffusion) -> None:
    fixed = torch.arange(12)[None].repeat(16, 1) < 11
    seen = []
    net = model.net
    hook = net.register_forward_pre_hook(lambda net, args: seen.append(args[0]))
    torch.manual_seed(0)
    loss = model.losses(net, Batch(ROWS, torch.ones_like(fixed), fixed))["loss"]
    hook.remove()
    assert torch.equal(seen[0][fixed], ROWS[fixed]) and (seen[0][~fixed] == net.mask_id).any()
    assert loss.isfinite() and loss > 0
