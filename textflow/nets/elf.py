"""The network of ELF (2605.10938): a bidirectional transformer that denoises latents and decodes tokens."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from textflow.codecs.base import Codec
from textflow.layers.functional import RMSNorm
from textflow.layers.kernels import Graphs, Kernels, on_gpu, refuse_missing
from textflow.layers.rope import rope
from textflow.layers.transformer import LMHead, ScalarTokens, SwiGLU, TransformerBlock
from textflow.nets.base import DecodingDenoiser
from textflow.types import Conditioning, Latents, Logits, Posterior, RowMask, Times


class ELF(DecodingDenoiser):
    """[time, guidance, mode, text] tokens -> clean prediction, or logits in decode mode (ELF, sec. 3 and app. A).

    Args:
        codec: codec of the latents and tokens.
        width: width of the hidden states.
        depth: number of blocks, >= 1.
        heads: number of attention heads.
        bottleneck: width between latents and hidden states.
        mlp_width: hidden width of SwiGLU; default int(8 / 3 width).
        time_tokens: number of tokens that embed t.
        guidance_tokens: number of tokens that embed the guidance scale w.
        mode_tokens: number of tokens that mark decode mode.
        dropout: dropout rate in the middle half of the blocks, in [0, 1).
        commitment_head: whether denoising rows give p(token | z_t) too, by a head as narrow as the bottleneck [ours].
        compile_blocks: whether training compiles the blocks (torch.compile); the first steps wait for the compiler. The
            moving average, which validates, samples and gives derivatives, is not compiled. `graphs` adds CUDA graphs
            on a GPU: faster where the host is the bottleneck and batches and lengths are fixed.
        activation_checkpointing: whether only the inputs of the blocks are saved for the backward pass and the rest is
            recomputed: less memory, a third more work.
        kernels: implementation of norms and gates: torch's, or on a GPU liger-kernel's, without forward-mode
            derivatives.
        two_time: whether the net is conditioned on the length of a step too, for flow maps: an embedding added to the
            time tokens, initialised at 0 [ours].
    """

    def __init__(
        self,
        codec: Codec,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        bottleneck: int = 128,
        mlp_width: int | None = None,
        time_tokens: int = 4,
        guidance_tokens: int = 4,
        mode_tokens: int = 4,
        dropout: float = 0.0,
        commitment_head: bool = False,
        two_time: bool = False,
        compile_blocks: bool | Literal["graphs"] = False,
        activation_checkpointing: bool = False,
        kernels: Kernels = "torch",
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; an ELF needs at least 1 block, such as 12")
        if compile_blocks == "graphs" and activation_checkpointing:
            raise ValueError(
                "activation_checkpointing inside compile_blocks: graphs is not possible in torch; use compile_blocks: "
                "true, or only one of the two"
            )
        self.activation_checkpointing, self.graphs = activation_checkpointing, Graphs()
        dim, vocab_size = codec.dim, codec.vocab_size
        self.dim, self.vocab_size, self.head_width, self.dropout = dim, vocab_size, width // heads, dropout
        self.self_cond_proj = nn.Linear(2 * dim, dim)
        self.bottleneck_down = nn.Linear(dim, bottleneck, bias=False)
        self.bottleneck_up = nn.Linear(bottleneck, width)
        self.t_embed = ScalarTokens(width, time_tokens)
        self.end_t_embed = ScalarTokens(width, time_tokens) if two_time else None
        self.guidance_embed = ScalarTokens(width, guidance_tokens)
        self.mode_tokens = nn.Parameter(torch.zeros(1, mode_tokens, width))
        middle = range(depth // 4, depth - depth // 4)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_width, dropout if i in middle else 0.0) for i in range(depth)
        )
        self.norm = RMSNorm(width, eps=1e-6)
        self.out = nn.Linear(width, dim)
        self.lm_head = LMHead(width, dim, vocab_size)
        self.commitment_head = LMHead(width, bottleneck, vocab_size) if commitment_head else None
        self._initialise()
        self.set_backend(compile_blocks, kernels)

    def set_backend(self, compile_blocks: bool | Literal["graphs"], kernels: Kernels) -> None:
        """Change the backend, by the values of the class's arguments; the weights do not depend on it."""
        self.compile_blocks, self.kernels = compile_blocks, kernels
        for module in self.modules():
            if isinstance(module, (RMSNorm, SwiGLU)):
                module.kernels = kernels
        for block in self.blocks if compile_blocks is True else ():
            block.compile()

    def use_backend_of(self, other: nn.Module) -> None:
        if isinstance(other, ELF):
            self.set_backend(other.compile_blocks, other.kernels)

    def _initialise(self) -> None:
        """Xavier-uniform weights, zero biases, N(0, .02) for scalars and learned tokens, zero clean prediction."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, p in self.named_parameters():
            if name.startswith(("t_embed.", "guidance_embed.", "mode_tokens")) and p.ndim > 1:
                nn.init.normal_(p, std=0.02)
        nn.init.zeros_(self.out.weight)
        if self.end_t_embed is not None:
            nn.init.zeros_(self.end_t_embed.mlp[-1].weight)  # type: ignore[arg-type]

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        hidden = self.forward_hidden(z, t, cond)
        return Posterior(self.predict_x0(hidden), self.commitment_logits(hidden))

    def decode_logits(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Logits:
        return self.lm_logits(self.forward_hidden(z, t, cond, torch.ones_like(t, dtype=torch.bool)))

    def forward_hidden(
        self, z: Latents, t: Times, cond: Conditioning, decode: RowMask | None = None
    ) -> Float[Tensor, "B S width"]:
        if t.ndim > 1:
            raise ValueError("ELF takes one time per row, but got one time per position; use the net DiT")
        self_cond = torch.zeros_like(z) if cond.self_cond is None else cond.self_cond
        w = torch.ones_like(t) if cond.guidance is None else cond.guidance
        gate = torch.zeros_like(t) if decode is None else decode.to(t.dtype)
        with torch.autocast(z.device.type, enabled=False):  # the input layers stay in float32
            latents = self.self_cond_proj(torch.cat([z, self_cond], -1))  # [B, S, 2 d] -> [B, S, d]
            text = self.bottleneck_up(self.bottleneck_down(latents))  # -> [B, S, width]
            time = self.t_embed(t)
            if self.end_t_embed is not None:  # no end: length 0
                time = time + self.end_t_embed(torch.zeros_like(t) if cond.end_time is None else cond.end_time - t)
            prefix = [time, self.guidance_embed(w), self.mode_tokens * gate[:, None, None]]
        x = torch.cat([*prefix, text], 1)
        freqs = rope(z.shape[1], self.head_width, z)
        if self.compile_blocks:
            freqs = torch.view_as_real(freqs)
        return self._run_blocks(x, freqs)[:, -z.shape[1] :].to(z.dtype)

    def _run_blocks(self, x: Float[Tensor, "B N width"], freqs: Tensor) -> Float[Tensor, "B N width"]:
        """The output of the blocks, by the chosen backend."""
        if self.kernels == "liger" and on_gpu(x, "kernels: liger", "kernels: torch"):
            refuse_missing()
        if self.compile_blocks == "graphs" and on_gpu(x, "compile_blocks: graphs", "compile_blocks: true"):
            return self.graphs(self, self.blocks, x, freqs)
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, freqs, use_reentrant=False) if recompute else block(x, freqs)
        return x

    def predict_x0(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... d"]:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.out(self.norm(hidden))

    def lm_logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... V"]:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.lm_head(hidden)

    def decode_nll(
        self, hidden: Float[Tensor, "n width"], ids: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.lm_head.nll(hidden, ids, weights)

    def decode_ids(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Int[Tensor, "B S"]:
        rows = max((2**10 if z.is_cpu else 2**16) // z.shape[1], 1)  # a CPU gains nothing from more latents at a time
        parts = (slice(i, i + rows) for i in range(0, len(z), rows))
        return torch.cat([self._decode_ids(z[part], t[part], cond.rows(part)) for part in parts])

    def _decode_ids(self, z: Latents, t: Times, cond: Conditioning) -> Int[Tensor, "B S"]:
        hidden = self.forward_hidden(z, t, cond, torch.ones_like(t, dtype=torch.bool))
        with torch.autocast(hidden.device.type, enabled=False):
            return self.lm_head.argmax(hidden)

    @property
    def is_deterministic(self) -> bool:
        return self.dropout == 0 or not self.training
