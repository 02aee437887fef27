"""The transformer of FLM's family against tensors and sizes of the published code."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.flm_nets import dit
from tests.helpers.recordings import constant, error, part, recorded
from textflow.codecs import EmbeddingTable, LatentSpace, OneHot
from textflow.distill.targets.jvp import denoiser_jvp
from textflow.layers.short_conv import ShortConv
from textflow.nets import ResidualFlowMap
from textflow.nets.dit import DiT, schedule_cdf
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Conditioning


@pytest.mark.parity
@torch.no_grad()
def test_forward_is_the_published_one_of_flm() -> None:
    data, _ = recorded("flm")
    net = dit(part(data, "flm.weights."))
    belief = net(data["flm.x_t"], data["flm.tau"])
    assert belief.logits is not None
    assert error(belief.logits, data["flm.logp"]) < 1e-5
    torch.testing.assert_close(belief.mean, belief.logits.exp())


@pytest.mark.parity
@torch.no_grad()
def test_forward_with_two_times_is_the_published_one_of_fmlm() -> None:
    data, meta = recorded("fmlm")
    net = dit(part(data, "weights."), logit_softcap=constant(meta["config"], "logit_softcap"))
    belief = net(data["psd.x_s"], data["psd.tau_s"], Conditioning(end_time=data["psd.tau_t"]))
    assert belief.logits is not None
    assert error(belief.logits, data["psd.log_D_st"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
def test_one_step_of_a_student_is_the_published_one() -> None:
    data, meta = recorded("flm")
    if 1 not in meta["config"]["fsteps"]:
        pytest.skip("no sample of one step is recorded")
    net, z = dit(part(data, "stage2.weights.")), data["stage2.sample.1.z0"]
    p = net(z, torch.zeros(len(z)), Conditioning(end_time=torch.ones(len(z)))).mean
    assert error(p, data["stage2.sample.1.z1"]) < 1e-5
    assert torch.equal(p.argmax(-1), data["stage2.sample.1.ids"])


@torch.no_grad()
def test_the_input_times_are_the_cdf_of_the_schedule() -> None:
    data, _ = recorded("flm")
    schedule = LogitNormal()
    plain, timed = (dit(part(data, "stage2.weights."), time_schedule=s) for s in (None, schedule))
    z, rows = data["stage2.x_s"], len(data["stage2.x_s"])
    t, u = torch.linspace(0.05, 0.4, rows), torch.linspace(0.5, 0.9, rows)
    for end in (u, None):  # no end: length 0
        times = schedule_cdf(schedule, t), Conditioning(end_time=schedule_cdf(schedule, t if end is None else end))
        torch.testing.assert_close(timed(z, t, Conditioning(end_time=end)).mean, plain(z, *times).mean)


def test_the_size_is_the_published_one() -> None:
    """MDLM on OpenWebText: GPT-2's tokens and the mask."""
    with torch.device("meta"):
        net = DiT(OneHot(50_258))
    assert sum(p.numel() for p in net.parameters()) == 169_627_218


def test_an_untrained_net_predicts_uniform_probabilities() -> None:
    net = DiT(OneHot(7), width=8, depth=1, heads=2, cond_width=4, two_time=True)
    belief = net(torch.randn(2, 3, 7), torch.tensor([0.1, 0.9]), Conditioning(end_time=torch.ones(2)))
    torch.testing.assert_close(belief.mean, torch.full((2, 3, 7), 1 / 7))


@pytest.mark.parametrize("cap", [None, 50.0])
def test_it_differentiates_forwards_in_z_and_both_times(cap: float | None) -> None:
    torch.manual_seed(0)
    net = DiT(OneHot(7), width=8, depth=2, heads=2, cond_width=4, two_time=True, attention_softcap=cap).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    z, s, u = torch.randn(2, 3, 7).double(), torch.tensor([0.1, 0.5]).double(), torch.tensor([0.6, 0.9]).double()
    direction = (torch.randn_like(z), torch.randn_like(s), torch.randn_like(u))
    belief, value, rate = denoiser_jvp(net, z, s, u, Conditioning(), direction)
    h = 1e-5
    ahead, back = (
        net(z + k * direction[0], s + k * direction[1], Conditioning(end_time=u + k * direction[2])).mean
        for k in (h, -h)
    )
    torch.testing.assert_close(rate, ((ahead - back) / (2 * h)).detach(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(value, net(z, s, Conditioning(end_time=u)).mean)
    assert belief.mean.requires_grad and not rate.requires_grad


def test_a_residual_flow_map_of_length_0_is_the_teacher() -> None:
    torch.manual_seed(0)
    teacher, net = (DiT(OneHot(7), width=8, depth=1, heads=2, cond_width=4, two_time=spans) for spans in (False, True))
    torch.nn.init.normal_(net.out.weight)
    torch.nn.init.normal_(teacher.out.weight)
    student = ResidualFlowMap(OneHot(7), lambda _: teacher, lambda _: net, LinearPath(1.0))
    z, t = torch.randn(2, 3, 7), torch.tensor([0.1, 0.5])
    torch.testing.assert_close(student(z, t, Conditioning(end_time=t)).mean, teacher(z, t).mean)
    assert error(student(z, t, Conditioning(end_time=t + 0.3)).mean, teacher(z, t).mean) > 1e-3
    trained = [name for name, p in student.named_parameters() if p.requires_grad]
    assert trained == [f"net.{name}" for name, _ in net.named_parameters()]
    student.train()
    assert net.training and not teacher.training
    student.init_from(teacher.state_dict())
    torch.testing.assert_close(student(z, t, Conditioning(end_time=t + 0.3)).mean, teacher(z, t).mean)
    with pytest.raises(ValueError, match="textflow distill"):
        ResidualFlowMap(OneHot(7))


def test_a_codec_without_an_embedding_a_token_is_refused() -> None:
    net = DiT(LatentSpace(8, 7), width=8, depth=1, heads=2, cond_width=4)
    with pytest.raises(
        ValueError, match="LatentSpace has no embedding of a single token; use EmbeddingTable or OneHot"
    ):
        net(torch.randn(2, 3, 8), torch.tensor([0.1, 0.9]))


@pytest.mark.parametrize("dim", [5, 7])
def test_the_mean_is_that_of_the_codecs_embeddings(dim: int) -> None:
    torch.manual_seed(0)
    table = EmbeddingTable(7, dim)
    net = DiT(table, width=8, depth=1, heads=2, cond_width=4)
    torch.nn.init.normal_(net.out.weight)
    belief = net(torch.randn(2, 3, dim), torch.tensor([0.1, 0.9]))
    assert belief.logits is not None
    torch.testing.assert_close(belief.mean, belief.logits.exp() @ table.embeddings)


def test_one_hot_rows_are_rows_of_the_table() -> None:
    net = DiT(OneHot(7), width=8, depth=1, heads=2, cond_width=4)
    torch.nn.init.normal_(net.out.weight)
    ids, t = torch.tensor([[1, 2, 3]]), torch.tensor([0.0])
    hot = F.one_hot(ids, 7).float()
    torch.testing.assert_close(net.forward_logits(hot, t), net.out(net.run_blocks(net.embed[ids], net.t_embed(t))))


@torch.no_grad()
def test_the_short_convolution_is_depthwise_and_the_identity_at_first() -> None:
    torch.manual_seed(0)
    conv, x = ShortConv(4, 3), torch.randn(2, 6, 4)
    assert torch.equal(conv(x), x)
    conv.kernel.normal_()
    expected = x + F.conv1d(x.mT, conv.kernel.T[:, None], padding=1, groups=4).mT
    torch.testing.assert_close(conv(x), expected)


@torch.no_grad()
def test_a_net_with_a_convolution_starts_as_the_one_without() -> None:
    codec, z, t = EmbeddingTable(7, 8), torch.randn(2, 6, 8), torch.zeros(2)
    plain, mixed = (DiT(codec, 8, 2, 2, 4, conv_width=width) for width in (None, 3))
    mixed.load_state_dict(plain.state_dict(), strict=False)
    for block in mixed.blocks:
        block.adaLN_modulation.bias.fill_(1.0)
    mixed.out.weight.normal_()
    plain.load_state_dict(mixed.state_dict(), strict=False)
    assert torch.equal(plain(z, t).mean, mixed(z, t).mean)
    mixed.blocks[0].conv.kernel[0] = 1.0
    assert not torch.allclose(plain(z, t).mean, mixed(z, t).mean)


def test_a_convolution_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="conv_width 4 has no middle; give an odd number of positions"):
        DiT(EmbeddingTable(7, 8), 8, 1, 2, 4, conv_width=4)
