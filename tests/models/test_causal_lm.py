from functools import partial
from itertools import islice

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch.optim import AdamW
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import textflow
from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.tiny_scorer import save_judge
from textflow.cli.app import main
from textflow.data import Bible, SentencePiece
from textflow.metrics import Scorer
from textflow.models.causal_lm import CausalLM, load_scorer
from textflow.training.callbacks.checkpointing import CheckpointCallback
from textflow.types import Batch

CYCLE = torch.arange(12).remainder(5).repeat(4, 1)  # the next token is known


def small(vocab: int = 5, **options) -> CausalLM:
    torch.manual_seed(0)
    return CausalLM(vocab, width=16, depth=1, heads=2, max_length=12, optimizer=partial(AdamW, lr=3e-2), **options)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    text = " ".join(chapter.text for chapter in islice(Bible().documents(), 3))
    tokenizer = SentencePiece(vocab_size=320)
    tokenizer.prepare(lambda: iter([text]), tmp_path_factory.mktemp("pieces"))
    return tokenizer


def test_the_loss_is_the_mean_cross_entropy_of_text_after_the_first_token():
    model, mask = small(), torch.ones(4, 12, dtype=torch.bool)
    mask[0, 5:] = mask[1, 1:] = False
    logits = model.net(input_ids=CYCLE).logits.double()
    nll = [-logits[b, i - 1].log_softmax(-1)[CYCLE[b, i]] for b in range(4) for i in range(1, 12) if mask[b, i]]
    assert len(nll) == 4 + 0 + 11 + 11
    assert_close(
        model.losses(model.net, Batch(CYCLE, mask))["loss"].double(), torch.stack(nll).mean(), rtol=1e-5, atol=0
    )


def test_a_batch_of_one_token_rows_has_loss_zero():
    mask = torch.zeros(4, 12, dtype=torch.bool)
    mask[:, 0] = True
    assert small().losses(small().net, Batch(CYCLE, mask))["loss"] == 0


def test_padding_on_the_right_does_not_change_the_loss():
    model, mask = small(), torch.zeros(4, 12, dtype=torch.bool)
    mask[:, :7] = True
    other = torch.where(mask, CYCLE, 3)
    assert_close(model.losses(model.net, Batch(CYCLE, mask)), model.losses(model.net, Batch(other, mask)))


def test_the_loss_falls_on_a_sequence_that_can_be_learned():
    model, batch = small(), Batch(CYCLE, torch.ones_like(CYCLE, dtype=torch.bool))
    optimizer = model.configure_optimizers()["optimizer"]
    first = model.losses(model.net, batch)["loss"].item()
    for _ in range(40):
        optimizer.zero_grad()
        model.losses(model.net, batch)["loss"].backward()
        optimizer.step()
    assert abs(first - torch.tensor(5.0).log()) < 0.3 and model.losses(model.net, batch)["loss"] < 0.1


def test_embeddings_are_tied_in_net_and_twin():
    model = small()
    for net in (model.net, model.ema_net):
        assert net.get_input_embeddings().weight is net.get_output_embeddings().weight


def test_weights_round_trip_into_another_model():
    model, other = small(), small()
    with torch.no_grad():
        for p in model.ema_net.parameters():
            p.add_(torch.randn_like(p))
    other.load_weights(model.weights())
    for net in (other.net, other.ema_net):
        assert torch.equal(net(input_ids=CYCLE).logits, model.ema_net(input_ids=CYCLE).logits)


def test_save_pretrained_gives_equal_logits_and_the_tokenizer(tmp_path, pieces):
    model = small(pieces.vocab_size)
    model.save_pretrained(tmp_path, pieces)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(input_ids=CYCLE).logits, model.ema_net.eval()(input_ids=CYCLE).logits)
    judge = load_scorer(tmp_path)
    assert judge.max_length == 12 and judge.tokenizer.encode(["the earth"]) == pieces.encode(["the earth"])


def test_a_scorer_of_a_saved_model_gives_its_cross_entropy(tmp_path, pieces):
    model, text = small(pieces.vocab_size), "God created"
    model.save_pretrained(tmp_path, pieces)
    ids = torch.tensor([pieces.encode([text])[0] + [pieces.eos]])
    logits = model.ema_net(input_ids=ids).logits[0, :-1]
    assert_close(
        load_scorer(tmp_path).score([text]).nll[0].float(), F.cross_entropy(logits, ids[0, 1:], reduction="sum")
    )


class Rows(L.LightningDataModule):
    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def train_dataloader(self):
        return torch.utils.data.DataLoader(
            [Batch(CYCLE, torch.ones_like(CYCLE, dtype=torch.bool))] * 4, batch_size=None
        )


@pytest.mark.integration
def test_a_fit_leaves_a_folder_that_a_scorer_reads(tmp_path, pieces):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(max_steps=3, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    model = small(pieces.vocab_size)
    trainer.fit(model, Rows(pieces))
    assert (tmp_path / "hf" / "model.safetensors").is_file() and (tmp_path / "hf" / "config.json").is_file()
    assert load_scorer(tmp_path).weights_hash == load_scorer(tmp_path / "hf").weights_hash
    loaded = load_scorer(tmp_path).model(input_ids=CYCLE).logits
    assert torch.equal(loaded, model.ema_net.eval()(input_ids=CYCLE).logits)
    assert not torch.equal(loaded, model.net.eval()(input_ids=CYCLE).logits)


@pytest.mark.integration
def test_the_folder_is_put_where_checkpoints_go(tmp_path, pieces):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=1, accelerator="cpu", default_root_dir=tmp_path / "elsewhere", **quiet)
    trainer.callbacks.append(CheckpointCallback(tmp_path / "run"))
    trainer.fit(small(pieces.vocab_size), Rows(pieces))
    assert (tmp_path / "run" / "hf" / "config.json").is_file() and not (tmp_path / "elsewhere" / "hf").exists()


def test_a_hugging_face_folder_takes_the_same_way(tmp_path):
    folder = save_judge(tmp_path)
    assert load_scorer(folder).score(["God created"]).perplexity == Scorer(folder).score(["God created"]).perplexity


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="use width 96"):
        CausalLM(5, width=100, heads=3)


@pytest.mark.integration
def test_a_run_that_names_neither_optimizer_nor_schedule_is_loaded_again(tmp_path):
    write_recipe(tmp_path)
    (tmp_path / "ar.yaml").write_text(f"""\
data:
  files: {tmp_path}/text.txt
  tokenizer: {{class_path: SentencePiece, init_args: {{vocab_size: 320}}}}
  seq_length: 8
  batch_size: 4
  val_fraction: 0.2
  cache: {tmp_path}/cache
model: {{class_path: CausalLM, init_args: {{width: 16, depth: 1, heads: 2, max_length: 8}}}}
run: {{folder: {tmp_path}/run, save_every: 2, sample_every: 2, num_samples: 2}}
trainer: {{max_steps: 2, val_check_interval: 2, accelerator: cpu}}
""")
    assert main(["fit", str(tmp_path / "ar.yaml")]) == 0
    assert len(textflow.load(tmp_path / "run").generate(num_samples=2)) == 2
