"""An autoregressive model writes: its texts depend on weights, sampler and seed alone."""

import pytest
import torch

from tests.models.test_causal_lm import small
from textflow.models.autoregressive import Autoregressive
from textflow.samplers import Euler
from textflow.types import Batch


class Ends:
    """A tokenizer whose texts are their ids."""

    eos = 4

    def decode(self, ids):
        return [" ".join(map(str, row[: row.index(4)] if 4 in row else row)) for row in ids]


@pytest.fixture(scope="module")
def writer():
    model = small()
    with torch.no_grad():
        for p in model.ema_net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    model.tokenizer, model.seq_length = Ends(), 12
    return model


def test_a_text_depends_on_its_seed_and_not_on_its_batch(writer):
    seeds = [5, 8, 5, 13, 21]
    together = writer.sample(seeds)
    assert together.shape == (5, 12) and torch.equal(together[0], together[2])
    assert torch.equal(together, torch.cat([writer.sample([seed]) for seed in seeds]))
    assert len({tuple(row) for row in together.tolist()}) > 2
    assert writer.generate(5, seed=3, batch_size=2) == writer.generate(5, seed=3, batch_size=5)
    assert writer.generate(2, seed=3, first_index=3) == writer.generate(5, seed=3)[3:]


def test_tokens_are_drawn_from_the_law_of_all_before_them(writer):
    ids = writer.sample(list(range(4000)), length=2)
    law = writer.ema_net(torch.tensor([[4, 0]])).logits[0].double().softmax(-1)  # after EOS, and after EOS 0
    first, second = ids[:, 0], ids[ids[:, 0] == 0, 1]
    for found, p in ((first, law[0]), (second, law[1])):
        share, spread = torch.bincount(found, minlength=5) / len(found), (p * (1 - p) / len(found)).sqrt()
        assert len(found) > 300 and bool(((share - p).abs() < 4 * spread).all()), (share, p)


def test_memory_of_keys_and_values_changes_no_likelihood(writer):
    ids = writer.sample([1, 2, 3], Autoregressive(1e-4))
    for row in ids:
        kept = row[: row.tolist().index(4) + 1] if 4 in row else row
        whole = writer.ema_net(torch.cat([torch.tensor([4]), kept])[None]).logits[0, :-1]
        assert torch.equal(whole.argmax(-1), kept)


def test_a_text_that_has_ended_stays_ended(writer):
    ids = writer.sample(list(range(40)))
    ended = (ids == 4).cumsum(1) > 0
    assert ended.any() and bool((ids[ended] == 4).all()) and not bool(ended.all())


def test_temperature_narrows_the_texts(writer):
    warm, cold = (writer.sample(list(range(64)), Autoregressive(t)).unique(dim=0).shape[0] for t in (1.0, 0.05))
    assert cold < warm


def test_writing_leaves_the_global_stream_alone(writer):
    torch.manual_seed(1)
    first = writer.sample([3])
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after) and torch.equal(writer.sample([3]), first)


def test_what_cannot_be_written_is_refused(writer):
    with pytest.raises(ValueError, match="no guidance scale"):
        writer.generate(1, self_cond_guidance=2.0)
    with pytest.raises(ValueError, match="at most 12"):
        writer.sample([1], length=13)
    with pytest.raises(ValueError, match="not by Euler"):
        writer.generate(1, sampler=Euler())
    with pytest.raises(ValueError, match=r"textflow\.load"):
        small().generate(1)


GIVEN = torch.tensor([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [2, 2, 2, 2, 0, 0]])
FIXED = torch.arange(6)[None] < torch.tensor([2, 1, 4])[:, None]


def test_a_text_that_is_given_goes_on(writer):
    ids = writer.complete(GIVEN, FIXED, [5, 8, 13])
    assert torch.equal(ids[FIXED], GIVEN[FIXED])
    for i, seed in enumerate([5, 8, 13]):
        one = slice(i, i + 1)
        assert torch.equal(writer.complete(GIVEN[one], FIXED[one], [seed]), ids[one])
    greedy = writer.complete(GIVEN, FIXED, [5, 8, 13], sampler=Autoregressive(1e-4))
    logits = writer.ema_net(torch.cat([torch.full((3, 1), 4), greedy], 1)).logits[:, :-1]
    free = ~FIXED & ((greedy == 4).cumsum(1) - (greedy == 4).long() == 0)
    assert torch.equal(logits.argmax(-1)[free], greedy[free]) and free.sum() > 3


def test_a_hole_before_what_is_given_is_refused_with_the_way_out(writer):
    with pytest.raises(ValueError, match="from left to right .* --prompt"):
        writer.complete(GIVEN, FIXED.flip(1), [5, 8, 13])


def test_of_pairs_the_targets_alone_count(writer):
    mask = torch.ones_like(FIXED)
    whole, targets = (writer.losses(writer.ema_net, Batch(GIVEN, mask, fixed))["loss"] for fixed in (None, FIXED))
    logits = writer.ema_net(GIVEN).logits[:, :-1].log_softmax(-1)
    nll = -logits.gather(-1, GIVEN[:, 1:, None])[..., 0]
    torch.testing.assert_close(targets, nll[~FIXED[:, 1:]].mean())
    torch.testing.assert_close(whole, nll.mean())
