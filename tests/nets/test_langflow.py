"""LangFlow's network against tensors and sizes of the published code."""

import pytest
import torch

from tests.helpers.langflow_nets import langflow, tiny_langflow
from tests.helpers.recordings import error, recorded
from textflow.codecs import EmbeddingTable, OneHot
from textflow.nets import LangFlow
from textflow.nets import langflow as module
from textflow.nets.dit import DiTBlock
from textflow.noise import Noise
from textflow.paths import VariancePreserving
from textflow.samplers import Euler, Trace, sample
from textflow.types import Conditioning, Latents, Posterior


@pytest.mark.parity
@torch.no_grad()
def test_embeddings_and_their_means_are_langflows() -> None:
    data, _ = recorded("langflow")
    net, _ = langflow(data)
    assert error(net.table, data["embed.E"]) < 1e-5
    assert error(net.expected(data["embed.probs"]), data["embed.expected"]) < 1e-5
    z = VariancePreserving().mix(net.token_codec.encode(data["ids"]), data["fwd.eps"], -data["fwd.gamma"])
    assert error(z, data["fwd.z"]) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("given", ["nosc", "sc"])
@torch.no_grad()
def test_forward_is_langflows(given: str) -> None:
    data, _ = recorded("langflow")
    net, _ = langflow(data)
    cond = Conditioning(self_cond=data["fwd.x_self_cond"] if given == "sc" else None)
    features = net.features(data["fwd.z"], -data["fwd.gamma"], cond)
    assert error(net.token_logits(features), data[f"fwd.{given}.logits"]) < 1e-5
    assert error(net.out(features.chunk(2, -1)[0]), data[f"fwd.{given}.backbone_logits"]) < 1e-5
    if given == "sc":
        assert error(net(data["fwd.z"], -data["fwd.gamma"], cond).mean, data["step.x_pred"]) < 1e-5
        terms = net.token_nll(features.flatten(0, 1), data["ids"].flatten())[1]
        assert error(terms.view_as(data["fwd.ce"]), data["fwd.ce"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
def test_the_weight_of_the_likelihood_is_langflows() -> None:
    data, _ = recorded("langflow")
    net, _ = langflow(data)
    ones = torch.ones(len(data["pre.gamma"]), 1, net.dim)
    evidence = net.features(ones, -data["pre.gamma"]).chunk(2, -1)[1]
    assert error(evidence[:, 0, 0], data["pre.c_bias"]) < 1e-5


def rollout(net: LangFlow, path: VariancePreserving, times: list[float], z: Latents) -> Trace:
    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return net(z, z.new_full((len(z),), t), Conditioning(self_cond=self_cond))

    return sample(denoise, Euler(), path, times, z, Noise(range(len(z))))


@pytest.mark.parity
@pytest.mark.parametrize("k", recorded("langflow")[1]["config"]["sampler_K"])
@torch.no_grad()
def test_k_calls_are_langflows_updates_and_readout(k: int) -> None:
    data, _ = recorded("langflow")
    net, law = langflow(data)
    path = VariancePreserving(-1.0 - law.gamma_max, 1.0 - law.gamma_min)  # longer than the grid at both ends
    trace = rollout(net, path, law.grid(k, t_min=path.t_min, t_max=path.t_max), data[f"sample.{k}.z0"])
    assert error(torch.stack(trace.states)[1:], data[f"sample.{k}.z"]) < 1e-5
    assert error(torch.stack([b.mean for b in trace.beliefs])[:-1], data[f"sample.{k}.x_pred"]) < 1e-5
    last = trace.beliefs[-1]
    assert error(net.belief_logits(last), data[f"sample.{k}.final_logits"]) < 1e-5
    assert torch.equal(net.belief_ids(last), data[f"sample.{k}.ids"])


@pytest.mark.parametrize(("vocab", "published"), [(50_257, 170_805_332), (30_522, 140_472_637)])
def test_the_size_is_the_published_one(vocab: int, published: int) -> None:
    with torch.device("meta"):
        net = LangFlow(EmbeddingTable(vocab, 768, trainable=True))
    assert sum(p.numel() for p in net.parameters()) + 3 == published  # and loc, scale, entropy


def test_a_fresh_net_knows_the_likelihood_alone() -> None:
    torch.manual_seed(0)
    net = LangFlow(EmbeddingTable(7, 8, trainable=True), depth=1, heads=2, cond_width=4)
    z, t = torch.randn(2, 3, 8), torch.tensor([-3.0, 1.0])
    strength = (VariancePreserving().alpha(t) / VariancePreserving().sigma(t) ** 2)[:, None, None]
    torch.testing.assert_close(net.forward_logits(z, t), strength * z @ net.table.T)
    net.ramp.zero_()
    torch.testing.assert_close(net.forward_logits(z, t), torch.zeros(2, 3, 7))


@torch.no_grad()
def test_chunks_move_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    net, z, t = tiny_langflow(), torch.randn(3, 5, 8), torch.tensor([-3.0, 0.0, 1.0])
    logits = net.forward_logits(z, t)
    for budget in (1, 4 * net.vocab_size, 2**22):
        monkeypatch.setattr(module, "BUDGET", budget)
        belief = net(z, t)
        torch.testing.assert_close(belief.mean, logits.softmax(-1) @ net.table)
        torch.testing.assert_close(net.belief_logits(belief), logits)
        assert torch.equal(net.belief_ids(belief), logits.argmax(-1))
    assert net(z[:0], t[:0]).mean.shape == (0, 5, 8)
    assert net.belief_logits(Posterior(z)) is None and net.belief_ids(Posterior(z)) is None
    assert torch.equal(net.belief_ids(Posterior(z, logits)), logits.argmax(-1))


def test_another_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the codec EmbeddingTable, not OneHot"):
        LangFlow(OneHot(7))


@torch.no_grad()
def test_normalised_queries_do_not_depend_on_their_length() -> None:
    z, t = torch.randn(2, 5, 8), torch.zeros(2)
    for qk_norm in (False, True):
        net = tiny_langflow(qk_norm=qk_norm)
        before = net(z, t).mean
        block = net.blocks[0]
        assert isinstance(block, DiTBlock)
        block.qkv.weight[:8] *= 50  # the queries'
        assert torch.allclose(net(z, t).mean, before, atol=1e-5) is qk_norm


@torch.no_grad()
def test_a_net_wider_than_its_latents_adds_their_likelihood_alike() -> None:
    net, z, t = tiny_langflow(width=12), torch.randn(2, 5, 8), torch.zeros(2)
    features = net.features(z, t)
    assert features.shape == (2, 5, 12 + 8) and net.self_cond_proj.weight.shape == (12, 16)
    net.out.weight.zero_()
    net.out.bias.zero_()
    strength = torch.exp((t + torch.nn.functional.softplus(t)) / 2)[0]  # alpha / sigma^2
    torch.testing.assert_close(net.token_logits(features), strength * z @ net.table.T)
    terms = net.token_nll(features.flatten(0, 1), torch.arange(10))[1]
    expected = -net.token_logits(features).log_softmax(-1).flatten(0, 1)[range(10), range(10)]
    torch.testing.assert_close(terms, expected)
