"""A causal language model: loss, weights, and the folder that a scorer loads."""

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import textflow
from tests.helpers.tiny_causal_lm import tiny_causal_lm
from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.tiny_scorer import WORDS, save_scorer
from tests.helpers.word_tokenizer import Words
from textflow.cli.app import main
from textflow.metrics import Scorer
from textflow.models.causal_lm import CausalLM, load_scorer
from textflow.models.text_format import TextFormat
from textflow.training import CheckpointCallback, TrainingModule
from textflow.types import Batch

CYCLE = torch.arange(12).remainder(5).repeat(4, 1)  # the next token is known
TEXT = torch.ones_like(CYCLE, dtype=torch.bool)
TOKENIZER = Words(WORDS)
TRAINER_OPTIONS = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def test_the_loss_is_the_mean_cross_entropy_of_text_after_the_first_token():
    model, mask = tiny_causal_lm(), TEXT.clone()
    mask[0, 5:] = mask[1, 1:] = False
    logits = model.net(input_ids=CYCLE).logits.double()
    nll = [-logits[b, i - 1].log_softmax(-1)[CYCLE[b, i]] for b in range(4) for i in range(1, 12) if mask[b, i]]
    assert len(nll) == 4 + 0 + 11 + 11
    loss = model.losses(model.net, Batch(CYCLE, mask))["loss"]
    assert_close(loss.double(), torch.stack(nll).mean(), rtol=1e-5, atol=0)


def test_the_loss_ignores_padding_and_is_zero_for_rows_of_one_token():
    model, mask = tiny_causal_lm(), torch.arange(12).expand(4, -1) < 7
    losses = [model.losses(model.net, Batch(ids, mask)) for ids in (CYCLE, torch.where(mask, CYCLE, 3))]
    assert_close(*losses)
    assert model.losses(model.net, Batch(CYCLE, torch.arange(12).expand(4, -1) < 1))["loss"] == 0


def test_the_first_token_of_a_whole_text_is_predicted_from_eos_and_that_of_a_packed_row_is_left_out():
    model, eos = tiny_causal_lm(), TOKENIZER.eos
    model.text_format = TextFormat(TOKENIZER, 12, packed=False)
    inputs = torch.cat([torch.full((4, 1), eos), CYCLE[:, :-1]], 1)
    nll = F.cross_entropy(model.net(input_ids=inputs).logits.double().flatten(0, 1), CYCLE.flatten())
    found = model.losses(model.net, Batch(CYCLE, TEXT))
    assert found["tokens"] == 4 * 12
    assert_close(found["loss"].double(), nll, rtol=1e-5, atol=0)
    model.text_format = TextFormat(TOKENIZER, 12)
    assert model.losses(model.net, Batch(CYCLE, TEXT))["tokens"] == 4 * 11


def test_training_lowers_the_loss_of_a_predictable_sequence():
    model, batch = tiny_causal_lm(), Batch(CYCLE, TEXT)
    optimizer = model.configure_optimizers()["optimizer"]
    first = model.losses(model.net, batch)["loss"].item()
    for _ in range(40):
        optimizer.zero_grad()
        model.losses(model.net, batch)["loss"].backward()
        optimizer.step()
    assert abs(first - torch.tensor(5.0).log()) < 0.3 and model.losses(model.net, batch)["loss"] < 0.1


def test_weights_with_tied_embeddings_load_into_another_model():
    model, other = tiny_causal_lm(), tiny_causal_lm()
    with torch.no_grad():
        for p in model.ema_net.parameters():
            p.add_(torch.randn_like(p))
    other.load_weights(model.weights())
    for net in (other.net, other.ema_net):
        assert torch.equal(net(input_ids=CYCLE).logits, model.ema_net(input_ids=CYCLE).logits)
        assert net.get_input_embeddings().weight is net.get_output_embeddings().weight


def test_a_saved_model_has_its_logits_tokenizer_and_scores(tmp_path):
    model, text = tiny_causal_lm(len(WORDS)), "God created"
    model.save_pretrained(tmp_path, TOKENIZER)
    logits = model.ema_net.eval()(input_ids=CYCLE).logits
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(input_ids=CYCLE).logits, logits)
    scorer, ids = load_scorer(tmp_path), torch.tensor([TOKENIZER.encode([text])[0] + [TOKENIZER.eos]])
    assert scorer.max_length == 12 and scorer.tokenizer.encode([text]) == TOKENIZER.encode([text])
    nll = F.cross_entropy(model.ema_net(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="sum")
    assert_close(scorer.score([text]).nll[0].float(), nll)


class TokenRowData(L.LightningDataModule):
    tokenizer = TOKENIZER

    def train_dataloader(self):
        return torch.utils.data.DataLoader([Batch(CYCLE, TEXT)] * 4, batch_size=None)


@pytest.mark.integration
def test_a_fit_writes_the_averaged_net_for_a_scorer(tmp_path):
    trainer = L.Trainer(max_steps=3, default_root_dir=tmp_path, enable_checkpointing=False, **TRAINER_OPTIONS)
    model = tiny_causal_lm(len(WORDS))
    trainer.fit(TrainingModule(model), TokenRowData())
    assert (tmp_path / "hf" / "model.safetensors").is_file() and (tmp_path / "hf" / "config.json").is_file()
    assert load_scorer(tmp_path).weights_hash == load_scorer(tmp_path / "hf").weights_hash
    logits = load_scorer(tmp_path).model(input_ids=CYCLE).logits
    assert torch.equal(logits, model.ema_net.eval()(input_ids=CYCLE).logits)
    assert not torch.equal(logits, model.net.eval()(input_ids=CYCLE).logits)


@pytest.mark.integration
def test_a_fit_writes_the_scorer_to_the_folder_of_its_checkpoints(tmp_path):
    trainer = L.Trainer(max_steps=1, default_root_dir=tmp_path / "elsewhere", **TRAINER_OPTIONS)
    trainer.callbacks.append(CheckpointCallback(tmp_path / "run"))
    trainer.fit(TrainingModule(tiny_causal_lm(len(WORDS))), TokenRowData())
    assert (tmp_path / "run" / "hf" / "config.json").is_file() and not (tmp_path / "elsewhere" / "hf").exists()


def test_a_hugging_face_folder_loads_as_a_scorer(tmp_path):
    folder = save_scorer(tmp_path)
    assert load_scorer(folder).score(["God created"]).perplexity == Scorer(folder).score(["God created"]).perplexity


def test_a_width_that_heads_cannot_share_is_an_error():
    with pytest.raises(ValueError, match="use width 96"):
        CausalLM(5, width=100, heads=3)


@pytest.mark.integration
def test_a_run_with_default_optimizer_and_schedule_loads(tmp_path):
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
run: {{folder: {tmp_path}/run, save_every: 2, sample_every: 2, num_samples: 2, wandb: false}}
trainer: {{max_steps: 2, val_check_interval: 2, accelerator: cpu}}
""")
    assert main(["fit", str(tmp_path / "ar.yaml")]) == 0
    assert len(textflow.load(tmp_path / "run").generate(num_samples=2)) == 2
