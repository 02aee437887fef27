"""Block after block against tensors of the published code: prompts, latents, logits and ids of its blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.cola_parts import cola_recording, recorded_generator
from tests.helpers.recordings import error
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.samplers import Blockwise, Euler, Sample
from textflow.types import Conditioning


def tokens_of(config: dict[str, Any]) -> int:
    """Tokens of a block."""
    return config["dit"]["block_size"] * config["vae"]["patch_size"]


def published_run(
    tensors: dict[str, Tensor], config: dict[str, Any], model: Generator, restore: bool = True
) -> tuple[Sample, list[int]]:
    """The recorded prompts continued by the recorded noise, and the first block that each row generates; without
    `restore` the ids of a prompt's last block are those that were read out."""
    prompts = [tensors[f"gen.prompt.{i}"] for i in range(len(config["prompt_lens"]))]
    size, blocks, dim = config["dit"]["block_size"], len(tensors["gen.noise"]), config["vae"]["latent_dim"]
    first = [len(prompt) // tokens_of(config) for prompt in prompts]
    length = size * (max(first) + blocks)
    noise = tensors["gen.noise"].view(blocks, len(prompts), size, dim)
    z = torch.zeros(len(prompts), length, dim)
    ids = torch.full((len(prompts), model.codec.num_tokens(length)), model.codec.pad_id)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        z[i, size * first[i] : size * (first[i] + blocks)] = noise[:, i].flatten(0, 1)
        ids[i, : len(prompt)], mask[i, : len(prompt)] = prompt, True
    times = (1 - tensors["gen.timesteps"] / 1000).tolist()
    noise_streams, prompt = Noise(range(len(prompts))), model.make_prompt(ids, mask)
    prompt = prompt if restore else prompt._replace(ids=None)
    denoise = model.denoiser(prompt=prompt, noise=noise_streams)
    with torch.no_grad():
        return model.order.sample(denoise, model.readout, Euler(), times, z, noise_streams), first


@pytest.mark.integration
@pytest.mark.parity
@pytest.mark.parametrize("cache", [True, False])
def test_generated_blocks_are_the_published_ones_with_and_without_a_cache(cache: bool) -> None:
    tensors, config = cola_recording()
    model = recorded_generator(tensors, config, order=Blockwise(config["guidance"], cache))
    sample, first = published_run(tensors, config, model)
    read = published_run(tensors, config, model, restore=False)[0].ids
    size, blocks = config["dit"]["block_size"], len(tensors["gen.noise"])
    latents = tensors["gen.block_latents"].view(blocks, len(first), size, -1)
    for i, start in enumerate(first):
        span = slice(size * start, size * (start + blocks))
        assert error(sample.trace.z[i, span], latents[:, i].flatten(0, 1)) < 1e-3
        span = slice(tokens_of(config) * start, tokens_of(config) * (start + blocks))
        kept = slice(int(tensors["gen.trim"][i]), None)
        assert torch.equal(read[i, span], tensors["gen.ids"][i])
        assert torch.equal(sample.ids[i, span][kept], tensors["gen.ids"][i][kept])
        assert torch.equal(sample.ids[i, : config["prompt_lens"][i]], tensors[f"gen.prompt.{i}"])


@pytest.mark.parity
def test_prompts_and_the_first_call_are_the_published_ones() -> None:
    tensors, config = cola_recording()
    model, size = recorded_generator(tensors, config), config["dit"]["block_size"]
    for i, length in enumerate(config["prompt_lens"]):
        ids = torch.full((1, tokens_of(config) * (length // tokens_of(config) + 1)), model.codec.pad_id)
        ids[0, :length] = tensors[f"gen.prompt.{i}"]
        prompt = model.make_prompt(ids, torch.arange(ids.shape[1])[None] < length)
        latents, known, whole = prompt.latents[0], prompt.mask, size * (length // tokens_of(config))
        if whole:
            assert error(latents[:whole], tensors[f"gen.prefix_latents.{i}"]) < 2e-5
        pinned = tensors[f"gen.first_block_labels.{i}"] == 1
        assert torch.equal(pinned, known[0, whole:])
        assert error(latents[whole:][pinned], tensors[f"gen.first_block_latents.{i}"][pinned]) < 2e-5
        rows = slice(size * i, size * (i + 1))
        z = torch.where(pinned[:, None], latents[whole:], tensors["gen.noise"][0, rows])[None]
        assert error(z[0], tensors["gen.first_step.txt"][rows]) < 2e-5
        past = model.net(latents[None, :whole], torch.ones(1)).carry if whole else None
        t = (1 - tensors["gen.first_step.timestep"][rows] / 1000)[None]
        for name, kept in (("cond", past), ("uncond", None)):
            v = (z - model.net(z, t, Conditioning(past=kept)).mean)[0, ~pinned] / (1 - t[0, ~pinned, None])
            assert error(v, tensors[f"gen.first_step.{name}"][rows][~pinned]) < 2e-5


@pytest.mark.integration
@pytest.mark.parity
def test_logits_of_generated_blocks_are_the_published_ones() -> None:
    tensors, config = cola_recording()
    model = recorded_generator(tensors, config)
    sample, first = published_run(tensors, config, model)
    size, blocks = config["dit"]["block_size"], len(tensors["gen.noise"])
    expected = tensors["gen.block_logits"].view(blocks, len(first), -1, config["vae"]["vocab_size"])
    logits = model.codec.decode_logits(sample.trace.z)
    for i, start in enumerate(first):
        own = logits[i, model.codec.num_tokens(size * start) : model.codec.num_tokens(size * (start + blocks))]
        assert error(own, expected[:, i].flatten(0, 1)) < 1e-3
