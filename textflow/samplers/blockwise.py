"""Blockwise: block after block of latents, each given the clean blocks before it (Cola-DLM, 2605.06548)."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.nets import Denoiser
from textflow.noise import Noise
from textflow.readouts import Readout
from textflow.samplers.after_blocks import AfterBlocks, AfterText, CodecAfterBlocks, CodecAfterText
from textflow.samplers.base import Sampler, Trace
from textflow.samplers.denoise_fn import DenoiseFn
from textflow.samplers.order import Order, Sample, denoise_and_read
from textflow.types import Conditioning, Ids, KeyValues, Latents, PositionMask, Posterior

RowIds = Int[Tensor, " n"]


@dataclass(frozen=True)
class Blockwise(Order):
    """Block after block: v = u + guidance (c - u), c the velocity after the clean blocks before, u that of the block
    alone (Cola-DLM, sec. 4.4.2 and released code).

    A prompt's whole blocks are such clean blocks. In the block that it ends in, its latents stay clean, at the clean
    end of time. A row's first block has none before it, and no guidance. A row ends with the block of its first EOS.

    Args:
        guidance: scale of the guidance by the blocks before; 1 is none.
        cache: whether keys and values of the blocks before are kept; otherwise they are computed in each call.
        stop_at_eos: whether a row ends after the block in which an EOS was generated; padding follows.
    """

    guidance: float = 7.0
    cache: bool = True
    stop_at_eos: bool = True
    reads_prompts = True

    def block_size(self, net: Denoiser) -> int | None:
        return causal_block(net)

    def after_text(self, denoise: DenoiseFn, x: Latents) -> DenoiseFn:
        size, prompt = causal_block(denoise.net), denoise.prompt
        net, codec = AfterText(denoise.net, denoise.path, x, self.guidance), CodecAfterText(denoise.codec, x, size)
        return replace(denoise, net=net, codec=codec, prompt=None if prompt is None else prompt._replace(cfg_scale=1.0))

    def sample(
        self, denoise: DenoiseFn, readout: Readout, sampler: Sampler, times: list[float], z: Latents, noise: Noise
    ) -> Sample:
        row = Row(self, denoise, z)
        for start in range(0, z.shape[1], row.size):
            span = slice(start, min(start + row.size, z.shape[1]))
            rows = row.unfinished(span)
            if not len(rows):
                continue
            part, pinned, before = row.context(rows, span, noise)
            block = denoise_and_read(
                part,
                readout,
                sampler,
                times,
                z[rows, span],
                noise.rows(rows.tolist()),
                row.x[rows, span],
                pinned,
                before,
            )
            row.put(rows, span, block)
        return row.result(times)


class Row:
    """Rows that are being generated: what is clean so far, and the context of the next block.

    Args:
        order: guidance, cache and end.
        denoise: network with conditioning, prompt and escape, of whole rows.
        z: noise [B, S, d].
    """

    def __init__(self, order: Blockwise, denoise: DenoiseFn, z: Latents) -> None:
        size = causal_block(denoise.net)
        if denoise.early_exit is not None:
            raise ValueError("an early exit skips rows of a block, but the order Blockwise needs all; leave it out")
        self.order, self.denoise, self.size = order, denoise, size
        prompt, codec = denoise.prompt, denoise.codec
        self.known = torch.zeros_like(z[..., 0], dtype=torch.bool) if prompt is None else prompt.mask
        if bool((self.known.long().diff(dim=1) > 0).any()):
            raise ValueError(
                "the order Blockwise generates from left to right and cannot fill in before given text; continue a text"
                " with --prompt"
            )
        self.x = z.clone() if prompt is None else torch.where(self.known[..., None], prompt.latents, z)
        self.patch = codec.num_tokens(self.size) // self.size
        self.pad = 0 if denoise.special is None else denoise.special[1]
        self.ids = z.new_full((len(z), self.patch * z.shape[1]), -1, dtype=torch.long)  # -1: not read out
        self.done = z.new_zeros(len(z), dtype=torch.bool)
        self.net_past: tuple[KeyValues | None, int] = None, 0  # and the number of latents in it
        self.codec_past: tuple[KeyValues | None, int] = None, 0
        self.blocks: list[tuple[RowIds, slice, Trace]] = []

    def unfinished(self, span: slice) -> RowIds:
        """Indices of the rows whose block is not given and that have not ended."""
        return (~self.known[:, span].all(1) & ~self.done).nonzero()[:, 0]

    def context(self, rows: RowIds, span: slice, noise: Noise) -> tuple[DenoiseFn, PositionMask, Ids]:
        """Denoiser of the block of some rows, its clean latents, and the tokens that were read out before."""
        start, denoise, pinned = span.start, self.denoise, self.known[rows, span]
        self.extend(start)
        past = x = None
        if start and self.order.cache:
            past = take(self.net_past[0], rows)
        elif start:
            x = self.x[rows, :start]
        guidance = self.order.guidance if start else 1.0
        net = AfterBlocks(denoise.net, denoise.path, pinned, guidance, past, x)
        ids = self.tokens()[rows, : self.patch * start]
        codec = CodecAfterBlocks(denoise.codec, take(self.codec_past[0], rows), ids)
        streams = None if denoise.noise is None else noise.rows(rows.tolist())
        part = replace(denoise, net=net, codec=codec, prompt=None, start=None, noise=streams)
        return part, pinned, self.ids[rows, : self.patch * start]

    def extend(self, start: int) -> None:
        """Add the clean latents before `start` to the keys and values."""
        (past, count), net = self.net_past, self.denoise.net
        if self.order.cache and count < start:
            x = self.x[:, count:start]
            clean = x.new_full((len(x),), self.denoise.path.t_max)
            self.net_past = cast(KeyValues, net(x, clean, Conditioning(past=past)).carry), start
        past, count = self.codec_past
        if count < start:
            self.codec_past = self.denoise.codec.extend_past(self.x[:, count:start], past), start

    def tokens(self) -> Ids:
        """Tokens so far: the prompt's, those read out, and padding."""
        ids = self.ids.masked_fill(self.ids < 0, self.pad)
        return ids if self.denoise.prompt is None else self.denoise.prompt.restore_prompt_ids(ids)

    def put(self, rows: RowIds, span: slice, block: Sample) -> None:
        """Keep a finished block of some rows."""
        where = slice(self.patch * span.start, self.patch * span.stop)
        self.x[rows, span], self.ids[rows, where] = block.trace.z, block.ids
        self.blocks.append((rows, span, block.trace))
        if self.order.stop_at_eos and self.denoise.special is not None:
            new = ~self.known[rows, span].repeat_interleave(self.patch, 1)
            self.done[rows] = ((block.ids == self.denoise.special[0]) & new).any(1)

    def result(self, times: list[float]) -> Sample:
        """Tokens of whole rows, and the trace of all blocks as if they had been denoised together."""
        steps = range(len(times) - 1)
        states, means = ([self.x.clone() for _ in steps] for _ in range(2))
        committed = [torch.full_like(self.known, -1, dtype=torch.long) for _ in steps]
        for rows, span, trace in self.blocks:
            for k in steps:
                states[k][rows, span], means[k][rows, span] = trace.states[k], trace.beliefs[k].mean
                if (chosen := trace.beliefs[k].committed) is not None:
                    committed[k][rows, span] = chosen
        chose = any(belief.committed is not None for *_, trace in self.blocks for belief in trace.beliefs)
        beliefs = [Posterior(means[k], committed=committed[k] if chose else None) for k in steps]
        return Sample(self.tokens(), Trace(self.x, times[:-1], states, beliefs))


def causal_block(net: Denoiser) -> int:
    """Block size of a net that is causal over blocks."""
    if net.block_size is None:
        raise ValueError(
            f"the order Blockwise needs a net that is causal over blocks (ColaDiT); {type(net).__name__} denoises all "
            "latents at once: leave model.order out"
        )
    return net.block_size


def take(past: KeyValues | None, rows: RowIds) -> KeyValues | None:
    """Keys and values of some rows."""
    return None if past is None else tuple(layer if len(rows) == len(layer) else layer[rows] for layer in past)
