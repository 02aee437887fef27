"""Samples of an autoregressive model depend on weights, sampler, prompt and seed alone."""

import pytest
import torch

from tests.helpers.tiny_causal_lm import tiny_causal_lm
from tests.helpers.word_tokenizer import Words
from textflow.models.autoregressive import Autoregressive
from textflow.models.causal_lm import CausalLM
from textflow.models.text_format import TextFormat
from textflow.samplers import Euler
from textflow.types import Batch

EOS = 0
PROMPTS = torch.tensor([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [2, 2, 2, 2, 0, 0]])
PROMPT_MASK = torch.arange(6)[None] < torch.tensor([2, 1, 4])[:, None]


@pytest.fixture(scope="module")
def model() -> CausalLM:
    model = tiny_causal_lm()
    with torch.no_grad():
        for p in model.ema_net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    model.text_format = TextFormat(Words("abcde"), 12)
    return model


@pytest.mark.integration
def test_a_text_depends_on_its_seed_and_not_on_its_batch(model: CausalLM) -> None:
    seeds = [5, 8, 5, 13, 21]
    together = model.sample(seeds)
    assert together.shape == (5, 12) and torch.equal(together[0], together[2])
    assert torch.equal(together, torch.cat([model.sample([seed]) for seed in seeds]))
    assert len({tuple(row) for row in together.tolist()}) > 2
    texts = model.generate(5, seed=3)
    assert model.generate(5, seed=3, batch_size=2) == texts and model.generate(2, seed=3, first_index=3) == texts[3:]


def test_frequencies_of_tokens_are_the_models_probabilities(model: CausalLM) -> None:
    ids = model.sample(list(range(4000)), length=2)
    p = model.ema_net(torch.tensor([[EOS, 1]])).logits[0].double().softmax(-1)  # after EOS, and after EOS 1
    for sample, expected in ((ids[:, 0], p[0]), (ids[ids[:, 0] == 1, 1], p[1])):
        frequency = torch.bincount(sample, minlength=5) / len(sample)
        standard_error = (expected * (1 - expected) / len(sample)).sqrt()
        assert len(sample) > 300 and bool(((frequency - expected).abs() < 4 * standard_error).all())


def test_likelihoods_are_the_same_with_and_without_the_kv_cache(model: CausalLM) -> None:
    for row in model.sample([1, 2, 3], Autoregressive(1e-4)):
        text = row[: row.tolist().index(EOS) + 1] if EOS in row else row
        logits = model.ema_net(torch.cat([torch.tensor([EOS]), text])[None]).logits[0, :-1]
        assert torch.equal(logits.argmax(-1), text)


def test_a_text_that_has_ended_stays_ended(model: CausalLM) -> None:
    ids = model.sample(list(range(40)))
    ended = (ids == EOS).cumsum(1) > 0
    assert ended.any() and bool((ids[ended] == EOS).all()) and not bool(ended.all())


def test_a_low_temperature_gives_fewer_texts(model: CausalLM) -> None:
    warm, cold = (len(model.sample(list(range(64)), Autoregressive(t)).unique(dim=0)) for t in (1.0, 0.05))
    assert cold < warm


def test_samples_neither_change_nor_read_the_global_random_state(model: CausalLM) -> None:
    torch.manual_seed(1)
    first = model.sample([3])
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after) and torch.equal(model.sample([3]), first)


def test_wrong_options_of_sampling_are_errors(model: CausalLM) -> None:
    with pytest.raises(ValueError, match="no guidance scale"):
        model.generate(1, self_cond_guidance=2.0)
    with pytest.raises(ValueError, match="at most 12"):
        model.sample([1], length=13)
    with pytest.raises(ValueError, match="not by Euler"):
        model.generate(1, sampler=Euler())
    with pytest.raises(ValueError, match=r"textflow\.load"):
        tiny_causal_lm().generate(1)
    with pytest.raises(ValueError, match="from left to right .* --prompt"):
        model.complete(PROMPTS, PROMPT_MASK.flip(1), [5, 8, 13])


def test_a_prompt_stays_and_is_continued(model: CausalLM) -> None:
    seeds = [5, 8, 13]
    ids = model.complete(PROMPTS, PROMPT_MASK, seeds)
    assert torch.equal(ids[PROMPT_MASK], PROMPTS[PROMPT_MASK])
    alone = [model.complete(PROMPTS[i : i + 1], PROMPT_MASK[i : i + 1], seeds[i : i + 1]) for i in range(3)]
    assert torch.equal(ids, torch.cat(alone))
    greedy = model.complete(PROMPTS, PROMPT_MASK, seeds, sampler=Autoregressive(1e-4))
    logits = model.ema_net(torch.cat([torch.full((3, 1), EOS), greedy], 1)).logits[:, :-1]
    free = ~PROMPT_MASK & ((greedy == EOS).cumsum(1) - (greedy == EOS).long() == 0)
    assert torch.equal(logits.argmax(-1)[free], greedy[free]) and free.sum() > 3


def test_the_loss_of_pairs_is_that_of_their_targets(model: CausalLM) -> None:
    batches = [Batch(PROMPTS, PROMPTS >= 0, prompt_mask) for prompt_mask in (None, PROMPT_MASK)]
    both, targets = (model.losses(model.ema_net, batch)["loss"] for batch in batches)
    nll = -model.ema_net(PROMPTS).logits[:, :-1].log_softmax(-1).gather(-1, PROMPTS[:, 1:, None])[..., 0]
    torch.testing.assert_close(targets, nll[~PROMPT_MASK[:, 1:]].mean())
    torch.testing.assert_close(both, nll.mean())
