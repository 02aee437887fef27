"""The network of ELF (2605.10938): a bidirectional transformer that denoises latents and reads tokens out of them."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from textflow.layers.functional import Norm
from textflow.layers.kernels import Graphs, Kernels, on_gpu, refuse_missing
from textflow.layers.transformer import Block, Scalar, SwiGLU, Vocabulary, rotary
from textflow.nets.base import Speaker
from textflow.nets.split import split
from textflow.types import Given, Latents, Logits, Posterior, Rows, Times


class ELF(Speaker):
    """[time, guidance, mode, text] tokens -> clean guess, or logits on rows in decode mode (ELF, sec. 3 and app. A).

    Args:
        dim: width of the latents (from the codec).
        vocab: number of tokens (from the tokenizer).
        width: of the hidden states.
        depth: number of blocks, >= 1.
        heads: of attention.
        bottleneck: width between latents and hidden states.
        hidden: of SwiGLU; default int(8 / 3 width).
        time_tokens: tokens that carry t.
        guidance_tokens: tokens that carry the guidance scale w.
        mode_tokens: tokens that are present in decode mode only.
        dropout: in the middle half of the blocks, in [0, 1).
        head: whether denoising rows give p(token | z_t) too, by a readout as narrow as the bottleneck [ours].
        compiled: train the blocks compiled (torch.compile); the first steps wait for the compiler. The average, which
            validates and samples and is asked for derivatives, runs as it is written. graphs: on a GPU, as CUDA graphs
            too: of use where the host is slower than the GPU, and where batches and lengths are fixed.
        recompute: keep the inputs of the blocks alone for the way back and compute the rest again: less memory, a
            third more work.
        kernels: of norms and gates: torch's, or on a GPU liger-kernel's, which have no forward-mode derivatives.
        spans: whether it is told the length of a step too, for flow maps: added to the time tokens, from 0 on [ours].
    """

    def __init__(
        self,
        dim: int,
        vocab: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        bottleneck: int = 128,
        hidden: int | None = None,
        time_tokens: int = 4,
        guidance_tokens: int = 4,
        mode_tokens: int = 4,
        dropout: float = 0.0,
        head: bool = False,
        spans: bool = False,
        compiled: bool | Literal["graphs"] = False,
        recompute: bool = False,
        kernels: Kernels = "torch",
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; an ELF needs at least 1 block, such as 12")
        if compiled == "graphs" and recompute:
            raise ValueError(
                "recompute inside compiled: graphs is not possible in torch; use compiled: true, or one of them"
            )
        self.recompute, self.graphs = recompute, Graphs()
        self.dim, self.vocab, self.head_width, self.dropout = dim, vocab, width // heads, dropout
        self.join = nn.Linear(2 * dim, dim)
        self.narrow = nn.Linear(dim, bottleneck, bias=False)
        self.widen = nn.Linear(bottleneck, width)
        self.time = Scalar(width, time_tokens)
        self.until = Scalar(width, time_tokens) if spans else None
        self.guidance = Scalar(width, guidance_tokens)
        self.mode = nn.Parameter(torch.zeros(1, mode_tokens, width))
        middle = range(depth // 4, depth - depth // 4)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout if i in middle else 0.0) for i in range(depth))
        self.norm = Norm(width, eps=1e-6)
        self.out = nn.Linear(width, dim)
        self.vocabulary = Vocabulary(width, dim, vocab)
        self.head = Vocabulary(width, bottleneck, vocab) if head else None
        self._initialise()
        self.hasten(compiled, kernels)

    def hasten(self, compiled: bool | Literal["graphs"], kernels: Kernels) -> None:
        """Run by other means, which no weight depends on.

        Args:
            compiled: as above.
            kernels: as above.
        """
        self.compiled, self.kernels = compiled, kernels
        for module in self.modules():
            if isinstance(module, (Norm, SwiGLU)):
                module.kernels = kernels
        for block in self.blocks if compiled is True else ():
            block.compile()

    def run_as(self, other: nn.Module) -> None:
        if isinstance(other, ELF):
            self.hasten(other.compiled, other.kernels)

    def _initialise(self) -> None:
        """Xavier-uniform weights, zero biases, N(0, .02) for scalars and learned tokens, zero clean guess."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, p in self.named_parameters():
            if name.startswith(("time.", "guidance.", "mode")) and p.ndim > 1:
                nn.init.normal_(p, std=0.02)
        nn.init.zeros_(self.out.weight)
        if self.until is not None:
            nn.init.zeros_(self.until.mlp[-1].weight)  # type: ignore[arg-type]

    def forward(self, z: Latents, t: Times, given: Given = Given()) -> Posterior:
        hidden = self.trunk(z, t, given)
        return Posterior(self.mean(hidden), self.token_logits(hidden))

    def decode(self, z: Latents, t: Times, given: Given = Given()) -> Logits:
        return self.logits(self.trunk(z, t, given, torch.ones_like(t, dtype=torch.bool)))

    def trunk(self, z: Latents, t: Times, given: Given, decode: Rows | None = None) -> Float[Tensor, "B S width"]:
        prev = torch.zeros_like(z) if given.prev is None else given.prev
        w = torch.ones_like(t) if given.w is None else given.w
        gate = torch.zeros_like(t) if decode is None else decode.to(t.dtype)
        with torch.autocast(z.device.type, enabled=False):  # the way in stays in float32
            text = self.widen(self.narrow(self.join(torch.cat([z, prev], -1))))  # [B, S, 2 d] -> [B, S, width]
            time = self.time(t)
            if self.until is not None:  # no end: no length
                time = time + self.until(torch.zeros_like(t) if given.until is None else given.until - t)
            prefix = [time, self.guidance(w), self.mode * gate[:, None, None]]
        x = torch.cat([*prefix, text], 1)
        turn = rotary(z.shape[1], self.head_width, z)
        if self.compiled:
            turn = torch.view_as_real(turn)
        return self._body(x, turn)[:, -z.shape[1] :].to(z.dtype)

    def _body(self, x: Float[Tensor, "B N width"], turn: Tensor) -> Float[Tensor, "B N width"]:
        """The blocks, as they shall run."""
        if self.kernels == "liger" and on_gpu(x, "kernels: liger", "kernels: torch"):
            refuse_missing()
        if self.compiled == "graphs" and on_gpu(x, "compiled: graphs", "compiled: true"):
            return self.graphs(self, self.blocks, x, turn)
        again = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, turn, use_reentrant=False) if again else block(x, turn)
        return x

    def mean(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... d"]:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.out(self.norm(hidden))

    def logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"]:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.vocabulary(hidden)

    def nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], each: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.vocabulary.nll(hidden, ids, each)

    def tokens(self, z: Latents, t: Times, given: Given = Given()) -> Int[Tensor, "B S"]:
        rows = max((2**10 if z.is_cpu else 2**16) // z.shape[1], 1)  # few latents at a time, as a CPU gains by no more
        return torch.cat([self._tokens(*part) for part in split(rows, z, t, given)])

    def _tokens(self, z: Latents, t: Times, given: Given) -> Int[Tensor, "B S"]:
        hidden = self.trunk(z, t, given, torch.ones_like(t, dtype=torch.bool))
        with torch.autocast(hidden.device.type, enabled=False):
            return self.vocabulary.tokens(hidden)

    @property
    def repeats(self) -> bool:
        return self.dropout == 0 or not self.training
