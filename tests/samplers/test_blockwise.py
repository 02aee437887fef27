"""Block after block: prompts of any length, the cache, the end of a row, and how its tokens are read out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_generator import untrained
from tests.helpers.word_tokenizer import Words
from textflow.codecs import LatentSpace, TextVAE
from textflow.escapes import Commit
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import ColaDiT
from textflow.noise import Noise
from textflow.objectives import ColaObjective
from textflow.paths import LinearPath
from textflow.readouts import FromCodec, View
from textflow.samplers import Ancestral, Blockwise, EarlyExit, Euler, Sampler
from textflow.samplers.after_blocks import CodecAfterText
from textflow.schedules import Uniform
from textflow.types import Posterior

VOCAB, SIZE, LENGTH = 11, 3, 12


def small(patch_size: int = 1, **options: Any) -> Generator:
    """A Cola-DLM with random weights."""
    torch.manual_seed(0)
    vae: dict[str, Any] = {"dim": 4, "width": 16, "mlp_width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2}
    own: dict[str, Any] = {
        "codec": lambda vocab: TextVAE(vocab, **vae, block_size=SIZE, patch_size=patch_size),
        "net": lambda codec: ColaDiT(codec, width=16, depth=1, heads=2, block_size=SIZE),
        "objective": ColaObjective(),
        "path": LinearPath(noise_scale=1.0, min_one_minus_t=0.0),
        "readout": FromCodec(repetition_penalty=1.1),
        "token_readout": FromCodec(),
        "sampling_schedule": Uniform(),
        "order": Blockwise(),
    }
    model = Generator(VOCAB, **(own | options))
    for p in [*model.net.parameters(), *model.codec.parameters()]:
        p.data.add_(0.3 * torch.randn_like(p))
    model.ema_net.load_state_dict(model.net.state_dict())
    model.text_format = TextFormat(seq_length=LENGTH)
    return model.eval()


def prompts(*lengths: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, VOCAB, (len(lengths), LENGTH), generator=torch.Generator().manual_seed(3))
    return ids, torch.arange(LENGTH)[None] < torch.tensor(lengths)[:, None]


@pytest.mark.integration
@pytest.mark.parametrize(("sampler", "patch_size"), [(Euler(), 1), (Ancestral(), 2)])
def test_a_text_depends_on_its_seed_and_prompt_and_not_on_its_batch(sampler: Sampler, patch_size: int) -> None:
    drawn = FromCodec(repetition_penalty=1.1, temperature=0.7)
    model, (ids, mask) = small(patch_size, readout=drawn), prompts(0, 1, 3, 7, 11)
    together = model.complete(ids, mask, [1, 2, 3, 4, 5], 3, sampler)
    assert torch.equal(together[mask], ids[mask])
    for i in range(len(ids)):
        assert torch.equal(model.complete(ids[i : i + 1], mask[i : i + 1], [i + 1], 3, sampler)[0], together[i])
    others = model.complete(ids, mask, [6, 7, 8, 9, 10], 3, sampler)
    assert not torch.equal(others, together)


def test_the_answer_that_a_prompt_row_holds_is_not_looked_at() -> None:
    model, (ids, mask) = small(), prompts(4, 5)
    other = torch.where(mask, ids, (ids + 1) % VOCAB)
    assert torch.equal(model.complete(ids, mask, [1, 2], 3), model.complete(other, mask, [1, 2], 3))


def test_a_patch_that_a_prompt_ends_in_is_clean_with_padding_behind_the_prompt() -> None:
    model, (ids, mask) = small(patch_size=2), prompts(3, 8)
    prompt = model.make_prompt(ids, mask)
    assert prompt.mask.sum(1).tolist() == [2, 4]
    padded = model.codec.encode(ids.masked_fill(~mask, model.codec.pad_id))
    sample = model.sample([1, 2], 3, prompt=prompt)
    torch.testing.assert_close(sample.trace.z[prompt.mask], padded[prompt.mask])
    assert torch.equal(sample.ids[mask], ids[mask]) and sample.ids.shape == ids.shape
    with pytest.raises(ValueError, match="7 tokens has no whole number of patches of 2"):
        model.sample([1], 3, length=7)


@pytest.mark.integration
@pytest.mark.parametrize("patch_size", [1, 2])
def test_the_cache_changes_no_token_and_the_trace_is_of_whole_rows(patch_size: int) -> None:
    cached = small(patch_size).sample([1, 2], 3, length=LENGTH)
    plain = small(patch_size, order=Blockwise(cache=False)).sample([1, 2], 3, length=LENGTH)
    assert torch.equal(cached.ids, plain.ids) and cached.ids.shape == (2, LENGTH)
    torch.testing.assert_close(cached.trace.z, plain.trace.z, atol=1e-4, rtol=1e-4)
    assert len(cached.trace.times) == len(cached.trace.states) == len(cached.trace.beliefs) == 3
    assert all(z.shape == cached.trace.z.shape == b.mean.shape for z, b in zip(*cached.trace[2:], strict=True))


def test_guidance_acts_after_the_first_block() -> None:
    one, seven = (small(order=Blockwise(guidance)).sample([1], 3).trace.z for guidance in (1.0, 7.0))
    torch.testing.assert_close(one[:, :SIZE], seven[:, :SIZE])
    assert not torch.allclose(one[:, SIZE:], seven[:, SIZE:])


def test_a_row_ends_with_the_block_of_its_first_eos() -> None:
    model = small()
    free = model.sample([1, 2, 3], 3).ids
    eos = int(free[0, 1])
    model.text_format = TextFormat(Words([f"w{i}" for i in range(VOCAB)]), LENGTH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Words, "eos", eos)
        patch.setattr(Words, "pad", VOCAB - 1)
        ended = model.sample([1, 2, 3], 3).ids
        longer = model.sample([1, 2, 3], 3, length=2 * LENGTH).ids
    for row, whole, doubled in zip(ended, free, longer, strict=True):
        found = (whole == eos).nonzero()
        end = LENGTH if not len(found) else SIZE * (int(found[0]) // SIZE + 1)
        assert torch.equal(row[:end], whole[:end]) and bool((row[end:] == VOCAB - 1).all())
        assert torch.equal(doubled[:end], whole[:end])


def test_an_escape_commits_inside_a_block() -> None:
    model = small(escape=Commit())
    trace = model.sample([1, 2], 3).trace
    chosen, mean = trace.beliefs[1].committed, trace.beliefs[1].mean
    assert chosen is not None and bool((chosen[:, :SIZE] >= 0).all())
    torch.testing.assert_close(mean[:, :SIZE], model.codec.encode(chosen[:, :SIZE]))
    assert len(trace.beliefs) == 3 and trace.beliefs[-1].committed is not None


def test_what_cannot_be_written_block_after_block_is_refused_in_one_line() -> None:
    ids, mask = prompts(4, 5)
    for call, expected in (
        (lambda: small().complete(ids, ~mask, [1, 2], 3), "from left to right"),
        (lambda: small(early_exit=EarlyExit(margin=1.0)).sample([1], 3), "early exit"),
        (lambda: untrained(order=Blockwise()).sample([1], 3), "causal over blocks"),
    ):
        with pytest.raises(ValueError, match=expected) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_the_penalty_lowers_tokens_that_were_read_out_before() -> None:
    model = small()
    z, logits = torch.zeros(1, 1, 4), torch.tensor([[[2.0, 1.9, -1.0]]])
    codec = LatentSpace(4, 3)
    codec.decode_logits = lambda z: logits  # type: ignore[method-assign]
    view = View(z, 1.0, Posterior(z), model.path, codec, model.net)
    readout = FromCodec(repetition_penalty=1.1)
    assert readout.decode(view).item() == 0
    assert readout.decode(view._replace(before=torch.tensor([[-1, 2]]))).item() == 0
    assert readout.decode(view._replace(before=torch.tensor([[-1, 0]]))).item() == 1
    with pytest.raises(ValueError, match="repetition_penalty is 0"):
        FromCodec(0.0)


def test_tokens_are_drawn_from_the_likeliest() -> None:
    model, z = small(), torch.zeros(300, 1, 4)
    codec = LatentSpace(4, 4)
    codec.decode_logits = lambda z: torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(300, 1, 4)  # type: ignore[method-assign]
    view = View(z, 1.0, Posterior(z), model.path, codec, model.net)

    def shares(**options: float) -> list[float]:
        ids = FromCodec(**options).decode(view, Noise(range(300)))
        return (ids.flatten().bincount(minlength=4) / 300).tolist()

    assert shares(temperature=1.0, top_p=1.0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.08)
    assert shares(temperature=1.0, top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=0.08)
    assert shares(temperature=1.0, top_k=3, top_p=1.0)[3] == 0
    assert shares(temperature=1.0, top_k=1)[0] == shares()[0] == shares(temperature=0.05)[0] == 1
    with pytest.raises(ValueError, match="top_k 0"):
        FromCodec(top_k=0)


def test_noised_text_is_denoised_and_read_after_its_own_clean_blocks() -> None:
    model, (ids, _) = small(order=Blockwise(guidance=1.0)), prompts(0, 0)
    x = model.codec.encode(ids)
    z, t = torch.randn_like(x), torch.full((2, LENGTH), 0.4)
    denoise, net = model.denoiser(text=x), model.sampling_net
    assert isinstance(net, ColaDiT) and isinstance(denoise.codec, CodecAfterText)
    torch.testing.assert_close(denoise(z, 0.4).mean, z + 0.6 * net.velocity_after(x, z, t), atol=1e-5, rtol=1e-5)
    logits = denoise.codec.decode_logits(z)
    for start in range(0, LENGTH, SIZE):
        row = torch.cat([x[:, :start], z[:, start : start + SIZE]], 1)
        torch.testing.assert_close(logits[:, start : start + SIZE], model.codec.decode_logits(row)[:, start:])
    one = x.clone()
    one[:, 4] = z[:, 4]
    alone = denoise.codec.decode_alone(z)
    torch.testing.assert_close(alone[:, 4], model.codec.decode_logits(one)[:, 4])
    assert model.denoiser().net is net, "samples have their own context"
    guided = small().denoiser(text=x)(z, 0.4).mean
    torch.testing.assert_close(guided[:, :SIZE], denoise(z, 0.4).mean[:, :SIZE])
    assert not torch.allclose(guided[:, SIZE:], denoise(z, 0.4).mean[:, SIZE:])
