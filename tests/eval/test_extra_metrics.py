from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.helpers.tiny_scorer import WORDS
from tests.helpers.word_tokenizer import Words
from textflow.data.row_file import PackedBatch
from textflow.eval.extra_metrics import ExtraMetrics, codec_token_recovery, memorization
from textflow.types import Batch


class IndexedRows(list):
    def __getitem__(self, indices):
        ids = torch.tensor([super(IndexedRows, self).__getitem__(i) for i in indices], dtype=torch.int32)
        return PackedBatch(ids, torch.full((len(ids),), ids.shape[1], dtype=torch.int32))


DATA = SimpleNamespace(
    tokenizer=Words(WORDS), vocab_size=len(WORDS), rows=IndexedRows([[2, 3, 4, 5, 6], [7, 8, 9, 2, 3]])
)


def test_memorization_counts_the_text_before_the_first_eos():
    assert memorization([[2, 3, 4, 5, 0, 7, 8, 9, 2], [9, 9, 9, 9, 0]], DATA, batch_size=1).value == 0.5
    assert memorization([[0, 0], []], DATA).value == 0


def test_recovery_is_the_share_of_tokens_that_the_codec_decodes_correctly():
    class Forgetful(nn.Module):
        def encode(self, ids, mask):
            return nn.functional.one_hot(ids.clamp_max(4), 10).float()

        def decode_logits(self, z):
            return z

    ids = torch.tensor([[1, 2, 9, 0], [4, 5, 0, 0], [3, 3, 3, 3]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    model = SimpleNamespace(codec=Forgetful(), device="cpu")
    assert codec_token_recovery(model, Batch(ids, mask), batch_size=2).value == pytest.approx(7 / 9)


@pytest.mark.integration
def test_mauve_counts_empty_samples_as_texts_and_no_metric_is_measured_by_default(scorer):
    real = ["in the beginning God", "and the earth was", "", "heaven and earth"] * 5
    metrics = ExtraMetrics(None, scorer, real, 20)
    mauve = metrics([[0]] * 20, [[2, 3, 4]] * 18)["mauve"]
    assert 0 <= mauve.value <= 1 and metrics.real_features is not None and len(metrics.real_features) == 20
    with pytest.raises(ValueError, match="at least 20"):
        ExtraMetrics(None, scorer, ["God"] * 5, 20)
    assert ExtraMetrics(scorer=scorer)([[2, 3]], [[2, 3]]) == {} and ExtraMetrics()(None, []) == {}
