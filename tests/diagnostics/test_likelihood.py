"""The likelihood of text under LangFlow: its recorded numbers, and a net whose likelihood is known."""

import math

import pytest
import torch

from tests.helpers.langflow_nets import langflow, tiny_langflow
from tests.helpers.recordings import error, recorded
from textflow.diagnostics.likelihood import Likelihood, Scored, flow_nll, variational_nll
from textflow.schedules import Gumbel
from textflow.types import Batch

PARTS = dict(zip(Likelihood._fields, ("nll", "reconst_nll", "int_nll", "prior_nll"), strict=True))


def scored(data: dict) -> Scored:
    net, law = langflow(data)
    return Scored(net, net.token_codec, law, Batch(data["ids"], data["ids"] >= 0))


@pytest.mark.parity
def test_the_variational_bound_is_langflows() -> None:
    data, _ = recorded("langflow")
    found = variational_nll(scored(data), data["sde_nll.eps0"], data["sde_nll.u"], data["sde_nll.eps"])
    for ours, theirs in PARTS.items():
        assert error(getattr(found, ours), data[f"sde_nll.{theirs}"]) < 1e-5, ours


@pytest.mark.parity
@pytest.mark.parametrize(("method", "official"), [("euler", "euler"), ("heun", "heun2")])
def test_the_flows_likelihood_is_langflows(method: str, official: str) -> None:
    data, meta = recorded("langflow")
    key = f"nll.{official}"
    probes = iter(data[f"{key}.probes"])
    found = flow_nll(scored(data), data[f"{key}.eps"], lambda: next(probes), meta["config"]["nll_steps"], method)
    for ours, theirs in PARTS.items():
        assert error(getattr(found, ours), data[f"{key}.{theirs}"]) < 1e-5, ours
    with pytest.raises(StopIteration):
        next(probes)


def uniform_text(rows: int = 12, length: int = 5) -> Scored:
    """A net that knows nothing but the likelihood of z_t: its posterior is exact for independent uniform tokens."""
    torch.manual_seed(0)
    net = tiny_langflow()
    for name, p in net.named_parameters():
        if name.startswith("out."):
            p.data.zero_()
    ids = torch.randint(net.vocab_size, (rows, length))
    return Scored(net, net.token_codec, Gumbel(0.0, 1.0), Batch(ids, torch.arange(length) < torch.full((rows, 1), 4)))


@pytest.mark.integration
def test_both_find_the_entropy_of_independent_uniform_tokens() -> None:
    """The bound is tight for an exact posterior: 4 ln V nats per row of 4 tokens and one of padding."""
    case = uniform_text()
    x = case.codec.encode(case.batch.ids)
    n = 40
    u = ((torch.arange(n)[:, None] + torch.rand(n, len(x))) / n).float()
    bound = variational_nll(case, torch.randn_like(x), u, torch.randn(n, *x.shape))
    expected = 4 * math.log(case.net.vocab_size)
    assert float(bound.nll.mean()) == pytest.approx(expected, rel=0.06)
    flow = flow_nll(case, torch.randn_like(x), lambda: torch.randn_like(x), 24)
    assert float(flow.nll.mean()) == pytest.approx(expected, rel=0.2)
