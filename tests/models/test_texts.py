"""A generator goes on with a text, fills holes, answers sources."""

from collections.abc import Iterator

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.codecs import TransformerCodec, encode_batch
from textflow.codecs.prefix_mask import mask_until_eos, prefix_attention_mask
from textflow.escapes import Commit, Escape, LogitAdjustment, LowConfidence, NoEscape, Sharpen
from textflow.eval.samples import count_network_rows
from textflow.models.generator import Generator
from textflow.objectives import ELFObjective
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, Heun, LowNoiseResample, Reinject, Sampler
from textflow.types import Batch

EOS, PAD, VOCAB, LENGTH = 1, 0, 40, 12
SEEDS = [11, 5, 902]
IDS = torch.randint(2, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(1))
HOLES = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0], [0] * 12, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1]]).bool()
PROMPTS = torch.arange(LENGTH)[None] < torch.tensor([3, 5, 1])[:, None]
SAMPLERS = [
    Euler(),
    Heun(),
    DPMSolverPP2M(),
    Reinject(1.5),
    Reinject(1.0, "marginal_preserving"),
    Ancestral(),
    Ancestral(1.0, 0.0),
    LowNoiseResample(),
]
ESCAPES = [NoEscape(), Commit(), Commit("sample"), Commit(gate=LowConfidence()), LogitAdjustment(), Sharpen(top_k=3)]


class Words:
    """What a generator asks of a tokenizer here."""

    eos, pad = EOS, PAD


def generator() -> Generator:
    def codec(vocab: int) -> TransformerCodec:
        return TransformerCodec(vocab, 8, width=16, heads=2)

    made = untrained(
        VOCAB, length=LENGTH, codec=codec, objective=ELFObjective(loss_on_padding=True), prompt_dropout=0.1
    )
    made.codec.norm.num_batches_tracked += 1
    made.tokenizer = Words()
    return made


@pytest.fixture(scope="module")
def plain() -> Generator:
    return generator()


@pytest.fixture(scope="module")
def paired() -> Generator:
    made = generator()
    made.max_source_length = 6
    return made


@pytest.fixture(params=["plain", "paired"])
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Generator, torch.Tensor]]:
    yield request.getfixturevalue(request.param), HOLES if request.param == "plain" else PROMPTS


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: type(escape).__name__)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_what_is_given_comes_back_exactly_by_every_sampler_and_escape(
    case: tuple[Generator, torch.Tensor], sampler: Sampler, escape: Escape
) -> None:
    made, fixed = case
    ids = made.complete(IDS, fixed, SEEDS, 3, sampler, self_cond_guidance=2.0, escape=escape)
    assert torch.equal(ids[fixed], IDS[fixed])
    assert not torch.equal(ids[~fixed], IDS[~fixed])


@pytest.mark.parametrize("sampler", [Euler(), Reinject(1.5), Ancestral()], ids=str)
@pytest.mark.parametrize("escape", [NoEscape(), Commit("sample")], ids=["Soft", "Commit"])
def test_a_sample_does_not_depend_on_its_batch(
    case: tuple[Generator, torch.Tensor], sampler: Sampler, escape: Escape
) -> None:
    made, fixed = case
    together = made.complete(IDS, fixed, SEEDS, 4, sampler, escape=escape)
    for i, seed in enumerate(SEEDS):
        one = slice(i, i + 1)
        assert torch.equal(made.complete(IDS[one], fixed[one], [seed], 4, sampler, escape=escape), together[one])


def test_what_stands_in_a_hole_is_not_read(case: tuple[Generator, torch.Tensor]) -> None:
    made, fixed = case
    other = torch.where(fixed, IDS, (IDS + 7) % VOCAB)
    assert torch.equal(made.complete(other, fixed, SEEDS, 3), made.complete(IDS, fixed, SEEDS, 3))


def test_what_is_given_is_seen(case: tuple[Generator, torch.Tensor]) -> None:
    made, fixed = case
    prompt, other = (made.make_prompt(torch.where(fixed, ids, IDS), fixed) for ids in (IDS, IDS.flip(0)))
    ours, theirs = (made.sample(SEEDS, 4, prompt=one).trace.z for one in (prompt, other))
    rows = fixed.any(1)
    assert not torch.allclose(ours[~fixed & rows[:, None]], theirs[~fixed & rows[:, None]], atol=1e-3)
    assert torch.equal(ours[~rows], theirs[~rows])


def test_a_text_without_anything_given_is_the_plain_sample(plain: Generator) -> None:
    nothing = torch.zeros_like(HOLES)
    for sampler, escape in ((Reinject(1.5), NoEscape()), (Ancestral(), Commit("sample"))):
        alone = plain.sample(SEEDS, 4, sampler, escape=escape).ids
        assert torch.equal(plain.complete(IDS, nothing, SEEDS, 4, sampler, escape=escape), alone)


def test_prompt_guidance_one_is_none_and_costs_no_pass(paired: Generator) -> None:
    costs = []
    for scale in (None, 1.0, 2.0):
        with count_network_rows(paired.ema_net) as rows:
            costs.append((paired.complete(IDS, PROMPTS, SEEDS, 4, Euler(), cfg_scale=scale), sum(rows)))
    (none, free), (one, same), (two, twice) = costs
    assert torch.equal(none, one) and free == same == 3 * 5 and twice == 3 * 9
    prompts = [paired.make_prompt(IDS, PROMPTS, scale) for scale in (1.0, 2.0)]
    ours, theirs = (paired.sample(SEEDS, 4, Euler(), prompt=prompt).trace.z for prompt in prompts)
    assert not torch.allclose(ours, theirs, atol=1e-3)


def test_the_recipes_prompt_guidance_is_the_default(paired: Generator) -> None:
    paired.cfg_scale = 2.0
    try:
        assert (
            paired.make_prompt(IDS, PROMPTS).cfg_scale == 2.0 and paired.make_prompt(IDS, PROMPTS, 1.0).cfg_scale == 1.0
        )
    finally:
        paired.cfg_scale = None


def test_an_escape_reads_tokens_under_the_prompts_guidance(paired: Generator) -> None:
    ones, twos = (
        paired.complete(IDS, PROMPTS, SEEDS, 4, Ancestral(), escape=Commit(), cfg_scale=scale) for scale in (1.0, 4.0)
    )
    assert not torch.equal(ones, twos)


def test_prompt_guidance_needs_prompts_in_training(plain: Generator) -> None:
    with pytest.raises(ValueError, match="not trained on prompts"):
        plain.complete(IDS, HOLES, SEEDS, 2, cfg_scale=2.0)


def test_a_prompt_sees_itself_alone_and_its_target_sees_both(paired: Generator) -> None:
    mask = torch.ones_like(PROMPTS)
    ours = encode_batch(paired.codec, Batch(IDS, mask, PROMPTS))
    other = encode_batch(paired.codec, Batch(torch.where(PROMPTS, IDS, IDS.flip(0)), mask, PROMPTS))
    torch.testing.assert_close(ours[PROMPTS], other[PROMPTS])
    torch.testing.assert_close(ours[PROMPTS], paired.make_prompt(IDS, PROMPTS).latents[PROMPTS])
    swapped = encode_batch(paired.codec, Batch(torch.where(PROMPTS, IDS.flip(0), IDS), mask, PROMPTS))
    assert not torch.allclose(ours[~PROMPTS], swapped[~PROMPTS], atol=1e-3)


def test_the_share_of_dropped_prompts_is_respected(paired: Generator) -> None:
    torch.manual_seed(0)
    ids = IDS.repeat(400, 1)
    batch = Batch(ids, torch.ones_like(ids).bool(), PROMPTS.repeat(400, 1))
    x = encode_batch(paired.codec, paired.drop_prompts(batch))
    share = float((x[:, 0] == 0).all(-1).double().mean())
    assert abs(share - 0.1) < 0.03  # 1,200 rows: standard error .009


def test_text_ends_with_its_end() -> None:
    ids = torch.tensor([[5, EOS, 7, 8, EOS, 9, EOS, 3]])
    fixed = torch.arange(8)[None] < 3
    assert mask_until_eos(ids, fixed, EOS, PAD).tolist() == [[True] * 5 + [False] * 3]
    assert mask_until_eos(ids, fixed, EOS, EOS).tolist() == [[True] * 4 + [False] * 4]


def test_a_mask_of_who_sees_whom_and_a_mask_of_text_agree(plain: Generator) -> None:
    mask = torch.arange(LENGTH)[None] < torch.tensor([12, 7, 3])[:, None]
    nobody = torch.zeros_like(mask)
    torch.testing.assert_close(
        plain.codec.encode(IDS, prefix_attention_mask(mask, nobody)), plain.codec.encode(IDS, mask)
    )
