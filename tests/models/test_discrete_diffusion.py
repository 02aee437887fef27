"""A masked diffusion model: training, samples and prompts."""

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from tests.helpers.word_tokenizer import Words
from textflow.discrete import MDLMObjective, MDLMSampler, TokenDiT
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.text_format import TextFormat
from textflow.samplers import Euler
from textflow.training import WarmupLR
from textflow.types import Batch

IDS = torch.arange(12).remainder(5).repeat(16, 1)
BATCH = Batch(IDS, torch.ones_like(IDS, dtype=torch.bool))
SEEDS = [11, 5, 902, 7, 7]
MASK = 5


def untrained(time_conditioning: bool = False, width: int = 16) -> DiscreteDiffusion:
    torch.manual_seed(0)
    model = DiscreteDiffusion(
        5,
        net=lambda states: TokenDiT(states, width, depth=1, heads=2, cond_width=8, dropout=0.0),
        objective=MDLMObjective(time_conditioning=time_conditioning),
        optimizer=lambda params: AdamW(params, lr=1e-2),
        lr_scheduler=lambda optimizer: WarmupLR(optimizer, warmup_steps=0),
    )
    model.text_format = TextFormat(Words("abcde"), 12)
    return model


@pytest.fixture(scope="module")
def model() -> DiscreteDiffusion:
    model = untrained()
    for p in model.ema_net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return model.eval()


def test_the_initial_network_predicts_the_uniform_distribution() -> None:
    model = untrained()
    assert torch.isclose(model.losses(model.net, BATCH)["masked_ce"], torch.tensor(5.0).log(), rtol=1e-5)


@pytest.mark.integration
def test_samples_follow_the_training_data() -> None:
    """Counting modulo 5 from anywhere: one choice in a row of 8, so log 5 / 8 = 0.20 nats per token; 1.61 at first."""
    ids = (torch.arange(8)[None] + torch.arange(32)[:, None]).remainder(5)
    model = untrained(width=32)
    optimizer = model.configure_optimizers()["optimizer"]
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.losses(model.net, Batch(ids, ids >= 0))["loss"]
        loss.backward()
        optimizer.step()
    model.ema_net.load_state_dict(model.net.state_dict())
    samples = model.sample(list(range(64)), num_steps=32, length=8)
    assert loss < 0.6 and ((samples.diff(dim=1) % 5) == 1).double().mean() > 0.6  # 0.2 by chance


@pytest.mark.integration
@pytest.mark.parametrize("sampler", [MDLMSampler(), MDLMSampler(categorical="gumbel"), MDLMSampler(0.5)], ids=str)
def test_a_batch_gives_the_ids_of_its_samples_one_by_one(model: DiscreteDiffusion, sampler: MDLMSampler) -> None:
    together = model.sample(SEEDS, 5, sampler)
    alone = torch.cat([model.sample([seed], 5, sampler) for seed in SEEDS])
    assert torch.equal(together, alone) and torch.equal(together[3], together[4])
    assert len({tuple(row) for row in together.tolist()}) > 2 and int(together.max()) < 5


def test_texts_depend_on_their_index_and_not_on_the_batch_size(
    model: DiscreteDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, sample_ids = [], model.sample_ids

    def counted(seeds: list[int], *args: object, **options: object) -> Tensor:
        sizes.append(len(seeds))
        return sample_ids(seeds, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "sample_ids", counted)
    texts = model.generate(5, 4, seed=3, batch_size=2)
    assert sizes == [2, 2, 1] and texts == model.generate(5, 4, seed=3)
    assert texts[3:] == model.generate(2, 4, seed=3, first_index=3) and model.generate(0, 4) == []


def test_predictions_depend_on_the_time_with_time_conditioning_alone(model: DiscreteDiffusion) -> None:
    timed, masks = untrained(time_conditioning=True), torch.full((2, 12), MASK)
    timed.ema_net.load_state_dict(model.ema_net.state_dict())
    assert not torch.allclose(timed.token_log_probs(masks, 0.1), timed.token_log_probs(masks, 0.9), atol=1e-4)
    assert torch.equal(model.token_log_probs(masks, 0.1), model.token_log_probs(masks, 0.9))


def test_wrong_options_of_sampling_are_errors(model: DiscreteDiffusion) -> None:
    with pytest.raises(ValueError, match="no guidance scale"):
        model.generate(1, self_cond_guidance=2.0)
    with pytest.raises(ValueError, match="no guidance scale"):
        model.complete(IDS[:1], IDS[:1] > 0, [1], 6, cfg_scale=2.0)
    with pytest.raises(ValueError, match="not by Euler"):
        model.generate(1, sampler=Euler())
    with pytest.raises(ValueError, match=r"textflow\.load"):
        DiscreteDiffusion(5, net=lambda states: TokenDiT(states, 16, 1, 2, 8)).generate(1)


def test_a_prompt_stays_and_the_rest_is_unmasked(model: DiscreteDiffusion) -> None:
    ids, prompt_mask = IDS[:5], torch.arange(12)[None].repeat(5, 1) % 3 == 0
    completed = model.complete(ids, prompt_mask, SEEDS, 6)
    assert torch.equal(completed[prompt_mask], ids[prompt_mask]) and int(completed.max()) < 5
    assert torch.equal(model.complete(ids[2:3], prompt_mask[2:3], SEEDS[2:3], 6), completed[2:3])
    assert torch.equal(model.complete(ids, prompt_mask & False, SEEDS, 6), model.sample(SEEDS, 6))


def test_sources_of_pairs_are_never_masked(model: DiscreteDiffusion) -> None:
    prompt_mask, inputs = torch.arange(12)[None].repeat(16, 1) < 11, list[Tensor]()
    hook = model.net.register_forward_pre_hook(lambda net, args: inputs.append(args[0]))
    torch.manual_seed(0)
    loss = model.losses(model.net, BATCH._replace(prompt_mask=prompt_mask))["loss"]
    hook.remove()
    assert torch.equal(inputs[0][prompt_mask], IDS[prompt_mask])
    assert (inputs[0][~prompt_mask] == MASK).any() and loss.isfinite() and loss > 0
