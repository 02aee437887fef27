"""Prompts of a generator: continued texts, filled spans and answers to sources."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_generator import untrained
from tests.helpers.word_tokenizer import PaddedWords
from textflow.codecs import EmbeddingTable, TransformerCodec, encode_batch
from textflow.codecs.prefix_mask import mask_until_eos, prefix_attention_mask
from textflow.escapes import Commit, Escape, LogitAdjustment, LowConfidence, NoEscape, Sharpen
from textflow.eval.samples import count_network_rows
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.objectives import ELFObjective
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, Heun, LowNoiseResample, Prompt, Reinject, Sampler
from textflow.types import Batch

EOS, PAD, VOCAB, LENGTH = 1, 0, 40, 12
SEEDS = [11, 5, 902]
IDS = torch.randint(2, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(1))
SPANS = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0], [0] * 12, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1]]).bool()
PREFIXES = torch.arange(LENGTH)[None] < torch.tensor([3, 5, 1])[:, None]
TEXT = torch.ones_like(PREFIXES)
METHODS = [
    (Euler(), Sharpen(top_k=3)),
    (Heun(), Commit()),
    (DPMSolverPP2M(), Commit(gate=LowConfidence())),
    (Reinject(1.5), LogitAdjustment()),
    (Reinject(1.0, "marginal_preserving"), NoEscape()),
    (Ancestral(), Commit("sample")),
    (Ancestral(1.0, 0.0), LogitAdjustment()),
    (LowNoiseResample(), Commit()),
]


class Case(NamedTuple):
    model: Generator
    prompt_mask: Tensor


def generator(max_source_length: int | None = None) -> Generator:
    def codec(vocab: int) -> TransformerCodec:
        return TransformerCodec(vocab, 8, width=16, heads=2)

    model = untrained(
        VOCAB, length=LENGTH, codec=codec, objective=ELFObjective(loss_on_padding=True), prompt_dropout=0.1
    )
    model.codec.norm.num_batches_tracked += 1
    model.text_format = TextFormat(PaddedWords([]), LENGTH, max_source_length)
    return model


@pytest.fixture(scope="module")
def plain() -> Generator:
    return generator()


@pytest.fixture(scope="module")
def paired() -> Generator:
    return generator(max_source_length=6)


@pytest.fixture(params=["plain", "paired"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.getfixturevalue(request.param), SPANS if request.param == "plain" else PREFIXES)


@pytest.mark.integration
@pytest.mark.parametrize(("sampler", "escape"), METHODS, ids=lambda part: type(part).__name__)
def test_a_prompt_comes_back_exactly_from_every_sampler_and_escape(
    case: Case, sampler: Sampler, escape: Escape
) -> None:
    model, prompt_mask = case
    ids = model.complete(IDS, prompt_mask, SEEDS, 3, sampler, self_cond_guidance=2.0, escape=escape)
    assert torch.equal(ids[prompt_mask], IDS[prompt_mask])
    assert not torch.equal(ids[~prompt_mask], IDS[~prompt_mask])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("sampler", "escape"),
    [(Euler(), NoEscape()), (Reinject(1.5), Commit("sample")), (Ancestral(), Commit("sample"))],
    ids=lambda part: type(part).__name__,
)
def test_a_sample_does_not_depend_on_its_batch(case: Case, sampler: Sampler, escape: Escape) -> None:
    model, prompt_mask = case
    together = model.complete(IDS, prompt_mask, SEEDS, 3, sampler, escape=escape)
    for i, seed in enumerate(SEEDS):
        row = slice(i, i + 1)
        assert torch.equal(model.complete(IDS[row], prompt_mask[row], [seed], 3, sampler, escape=escape), together[row])


@pytest.mark.integration
def test_samples_depend_on_the_prompt_and_not_on_ids_elsewhere(case: Case) -> None:
    model, prompt_mask = case
    changed = torch.where(prompt_mask, IDS, (IDS + 7) % VOCAB)
    assert torch.equal(model.complete(changed, prompt_mask, SEEDS, 3), model.complete(IDS, prompt_mask, SEEDS, 3))
    prompts = [model.make_prompt(torch.where(prompt_mask, ids, IDS), prompt_mask) for ids in (IDS, IDS.flip(0))]
    ours, other = (model.sample(SEEDS, 4, prompt=prompt).trace.z for prompt in prompts)
    has_prompt = prompt_mask.any(1)
    free = ~prompt_mask & has_prompt[:, None]
    assert not torch.allclose(ours[free], other[free], atol=1e-3)
    assert torch.equal(ours[~has_prompt], other[~has_prompt])


def test_without_a_prompt_the_completion_is_the_plain_sample(plain: Generator) -> None:
    for sampler, escape in ((Reinject(1.5), NoEscape()), (Ancestral(), Commit("sample"))):
        sample = plain.sample(SEEDS, 4, sampler, escape=escape).ids
        assert torch.equal(plain.complete(IDS, ~TEXT, SEEDS, 4, sampler, escape=escape), sample)


def test_classifier_free_guidance_of_one_costs_no_evaluation(paired: Generator) -> None:
    ids, costs = [], []
    for scale in (None, 1.0, 2.0):
        with count_network_rows(paired.ema_net) as rows:
            ids.append(paired.complete(IDS, PREFIXES, SEEDS, 4, Euler(), cfg_scale=scale))
        costs.append(sum(rows))
    assert torch.equal(ids[0], ids[1]) and costs == [3 * 5, 3 * 5, 3 * 9]
    ones, twos = (
        paired.sample(SEEDS, 4, Euler(), prompt=paired.make_prompt(IDS, PREFIXES, scale)).trace.z
        for scale in (1.0, 2.0)
    )
    assert not torch.allclose(ones, twos, atol=1e-3)


def test_an_escape_reads_tokens_under_the_guidance_of_the_prompt(paired: Generator) -> None:
    options = {"sampler": Ancestral(), "escape": Commit()}
    ones, fours = (paired.complete(IDS, PREFIXES, SEEDS, 4, cfg_scale=scale, **options) for scale in (1.0, 4.0))
    assert not torch.equal(ones, fours)


def test_the_guidance_of_the_recipe_is_the_default_and_needs_prompts_in_training(
    plain: Generator, paired: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "cfg_scale", 2.0)
    assert [paired.make_prompt(IDS, PREFIXES, scale).cfg_scale for scale in (None, 1.0)] == [2.0, 1.0]
    with pytest.raises(ValueError, match="not trained on prompts"):
        plain.complete(IDS, SPANS, SEEDS, 2, cfg_scale=2.0)


def test_a_prompt_attends_to_itself_alone_and_its_answer_to_both(paired: Generator) -> None:
    latents, other_answer, other_prompt = (
        encode_batch(paired.codec, Batch(ids, TEXT, PREFIXES))
        for ids in (IDS, torch.where(PREFIXES, IDS, IDS.flip(0)), torch.where(PREFIXES, IDS.flip(0), IDS))
    )
    torch.testing.assert_close(latents[PREFIXES], other_answer[PREFIXES])
    torch.testing.assert_close(latents[PREFIXES], paired.make_prompt(IDS, PREFIXES).latents[PREFIXES])
    assert not torch.allclose(latents[~PREFIXES], other_prompt[~PREFIXES], atol=1e-3)


class MaskRecorder(EmbeddingTable):
    """A codec that records its attention mask."""

    attention_mask: Tensor | None = None

    def encode(self, ids, mask=None):
        self.attention_mask = mask if mask is not None and mask.ndim == 3 else None
        return super().encode(ids)


def test_dropped_prompts_are_hidden_from_their_answers_and_from_the_loss() -> None:
    model = untrained(
        codec=lambda vocab: MaskRecorder(vocab, 8), objective=ELFObjective(loss_on_padding=True), prompt_dropout=0.1
    )
    ids = IDS.repeat(400, 1)
    batch = Batch(ids, torch.ones_like(ids).bool(), (torch.arange(LENGTH) < 5).expand_as(ids))
    torch.manual_seed(0)
    x = encode_batch(model.codec, model.drop_prompts(batch))
    dropped = (x[:, :5] == 0).all(-1).all(-1)
    assert abs(float(dropped.double().mean()) - 0.1) < 0.03  # 1,200 rows: standard error .009
    assert bool((x[:, 5:] != 0).any(-1).all())
    attention = model.codec.attention_mask
    assert torch.equal(attention[:, 6, 0], ~dropped) and not attention[:, 0, 5:].any()
    assert model.losses(model.net, Batch(*(part[:16] for part in batch[:3])))["loss"].isfinite()


def test_a_prompt_of_latents_alone_stays(paired: Generator) -> None:
    latents = encode_batch(paired.codec, Batch(IDS, TEXT, PREFIXES))
    z = paired.sample(SEEDS, 4, Reinject(1.5), prompt=Prompt(latents, PREFIXES, 2.0)).trace.z
    assert torch.equal(z[PREFIXES], latents[PREFIXES])


def test_a_text_is_masked_after_its_eos() -> None:
    ids = torch.tensor([[5, EOS, 7, 8, EOS, 9, EOS, 3]])
    for pad, length in ((PAD, 5), (EOS, 4)):
        mask = mask_until_eos(ids, torch.arange(8)[None] < 3, EOS, pad)
        assert mask.tolist() == [[True] * length + [False] * (8 - length)]


def test_an_attention_mask_and_a_text_mask_encode_alike(plain: Generator) -> None:
    mask = torch.arange(LENGTH)[None] < torch.tensor([12, 7, 3])[:, None]
    attention = prefix_attention_mask(mask, torch.zeros_like(mask))
    torch.testing.assert_close(plain.codec.encode(IDS, attention), plain.codec.encode(IDS, mask))
