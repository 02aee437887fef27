"""The data module: batches, exact resume under a real Trainer, and errors that name a fix."""

import json
from itertools import islice

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.helpers.user_errors import refused
from textflow.data import DataModule, SentencePiece, TextFiles
from textflow.types import Batch


class Toy(L.LightningModule):
    """Records the ids that it is trained on and validated with."""

    def __init__(self):
        super().__init__()
        self.layer, self.batches, self.validated = torch.nn.Linear(1, 1), [], []

    def training_step(self, batch):
        assert isinstance(batch, Batch) and batch.ids.dtype == torch.int64 and batch.mask.dtype == torch.bool
        self.batches.append(batch.ids.tolist())
        return self.layer(batch.ids[:, :1].float()).mean()

    def validation_step(self, batch):
        self.validated.append(batch.ids.tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def trainer(folder, steps, **options):
    saves = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}", save_last=False)
    return L.Trainer(max_steps=steps, callbacks=[saves], **{**QUIET, "limit_val_batches": 0, **options})


def firsts(module, n):
    return [module.on_after_batch_transfer(batch, 0).ids.tolist() for batch in islice(module.train_dataloader(), n)]


def test_a_batch_has_a_mask_over_the_text_and_validation_gives_every_row_once(data):
    module = data(pack=False, seq_length=30)
    packed = next(iter(module.train_dataloader()))
    assert packed.ids.dtype == torch.uint16
    batch = module.on_after_batch_transfer(packed, 0)
    assert batch.ids.dtype == torch.int64 and batch.ids.shape == batch.mask.shape == (4, 30)
    assert torch.equal(batch.mask, batch.ids != module.tokenizer.pad)
    module = data()
    rows = torch.cat([batch.ids.long() for batch in module.val_dataloader()]).tolist()
    full = module.validation_rows
    assert rows == full[range(len(full))].ids.long().tolist() and len(rows) == module.describe()["validation_rows"]


@pytest.mark.integration
@pytest.mark.parametrize("workers", [2])
def test_2n_steps_equal_n_steps_and_a_resume(data, tmp_path, workers):
    rows = len(data().rows)
    half = rows // 4 - 3  # the second half crosses the epoch's end
    full, first, second = Toy(), Toy(), Toy()
    trainer(tmp_path / "a", 2 * half).fit(full, data(num_workers=workers))
    trainer(tmp_path / "b", half).fit(first, data(num_workers=2 - workers))
    saved = tmp_path / "b" / f"step={half}.ckpt"
    trainer(tmp_path / "b", 2 * half).fit(second, data(num_workers=workers), ckpt_path=saved)
    assert first.batches + second.batches == full.batches and len(full.batches) == 2 * half
    assert 4 * 2 * half > rows


@pytest.mark.integration
def test_resuming_twice_with_validation_and_accumulation_keeps_the_order(data, tmp_path):
    options = {"val_check_interval": 3, "limit_val_batches": 1, "check_val_every_n_epoch": None}
    options["accumulate_grad_batches"] = 2
    full, parts = Toy(), [Toy(), Toy(), Toy()]
    trainer(tmp_path / "a", 9, **options).fit(full, data())
    for part, steps in zip(parts, (3, 5, 9), strict=True):
        before = tmp_path / "b" / f"step={ {3: 0, 5: 3, 9: 5}[steps] }.ckpt"
        trainer(tmp_path / "b", steps, **options).fit(part, data(), ckpt_path=before if steps > 3 else None)
    assert [ids for part in parts for ids in part.batches] == full.batches and len(full.batches) == 18


@pytest.mark.integration
def test_short_lightning_epochs_continue_with_the_next_rows(data, tmp_path):
    full, pieces = Toy(), Toy()
    trainer(tmp_path / "a", 20).fit(full, data())
    trainer(tmp_path / "b", 20, limit_train_batches=3).fit(pieces, data(num_workers=2))
    assert pieces.batches == full.batches
    for step in (6, 7):  # at and after an epoch's end
        resumed = Toy()
        saved = tmp_path / "b" / f"step={step}.ckpt"
        trainer(tmp_path / "c", 20, limit_train_batches=3).fit(resumed, data(), ckpt_path=saved)
        assert resumed.batches == full.batches[step:]


@pytest.mark.integration
def test_a_second_fit_of_the_same_module_begins_again(data, tmp_path):
    module, one, two = data(), Toy(), Toy()
    trainer(tmp_path / "a", 4).fit(one, module)
    assert module.state_dict()["rows_consumed"] == 16
    trainer(tmp_path / "b", 4).fit(two, module)
    assert one.batches == two.batches


def test_a_loaded_state_resumes_at_its_row_and_warns_of_other_data(data, made):
    module = data()
    module.load_state_dict({"rows_consumed": 20})
    assert firsts(module, 3) == firsts(data(), 8)[5:]
    state = data().state_dict()
    with pytest.warns(UserWarning, match="the row order differs"):
        data(source=made(150)).load_state_dict(state)


@pytest.mark.integration
def test_fast_dev_run_and_no_validation_work(data):
    toy, quick = Toy(), {**QUIET, "fast_dev_run": 1, "enable_checkpointing": False}
    L.Trainer(**quick).fit(toy, data())
    assert len(toy.batches) == 1 and len(toy.validated) == 1
    L.Trainer(**quick).fit(Toy(), data(val_fraction=0.0))


def test_a_scorer_trains_on_rows_of_no_other_split(data):
    full, scorer = data(scorer_holdout=0.3), data(scorer_holdout=0.3, split="scorer_holdout")
    ours = {tuple(row) for row in full.rows[range(len(full.rows))].ids.tolist()}
    theirs = {tuple(row) for row in scorer.rows[range(len(scorer.rows))].ids.tolist()}
    assert theirs and not ours & theirs and full.rows_folder == scorer.rows_folder
    assert len(full.validation_rows) == len(scorer.validation_rows)


def test_two_modules_with_the_default_tokenizer_do_not_disturb_each_other(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"alpha {i} beta gamma delta {i * i}" for i in range(400)))
    default = SentencePiece(310)
    one = DataModule(files=str(tmp_path / "a.txt"), tokenizer=default, cache=str(tmp_path / "c"), seq_length=8)
    one.prepare_data()
    assert default.processor is None and one.vocab_size == 310
    assert one.tokenizer.decode(one.tokenizer.encode(["alpha 1"])) == ["alpha 1"]


def test_the_statistics_are_logged_once_and_described(data, monkeypatch):
    messages = []
    monkeypatch.setattr("textflow.data.module.rank_zero_info", messages.append)
    summary = data().describe()
    assert len(messages) == 1 and messages[0].startswith("Made: 200 documents, ")
    assert summary["documents"] == 200 and summary["rows"] > 0 and summary["vocab_size"] == 258 and json.dumps(summary)


def test_a_recipe_names_parts_by_short_names_and_reads_back(tmp_path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DataModule, "data")
    files = ["TextFiles", "paths=a.txt", "column=c", "separator=line"]
    files = [f"--data.source={files[0]}", *(f"--data.source.{option}" for option in files[1:])]
    assert parser.instantiate(parser.parse_args(files)).data.source == TextFiles("a.txt", "c", "line")
    options = ["--data.source=News", "--data.tokenizer=SentencePiece", "--data.tokenizer.vocab_size=2048"]
    saved = parser.dump(parser.parse_args(options))
    module = parser.instantiate(parser.parse_string(saved)).data
    assert module.vocab_size == 2048 and type(module.source).__name__ == "News"
    assert parser.instantiate(parser.parse_args([])).data.vocab_size == 4096


def test_too_few_rows_and_impossible_sizes_are_an_error(data):
    with pytest.raises(ValueError, match=r"rows of 16 tokens, fewer than a batch of 5000 .* --data.batch_size"):
        data(batch_size=5000).train_dataloader()
    refused(r"val_fraction=1e-06 takes 0 of 200 documents .* raise --data.val_fraction", data, val_fraction=1e-6)
    for options in ({"seq_length": 1}, {"batch_size": 0}):
        refused("at least 2 and 1 are needed", DataModule, **options)


def test_an_empty_or_damaged_file_is_an_error_that_names_it(tmp_path, letters):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"TextFiles gave no documents: 1 empty \(first: .*a.txt\)"):
        DataModule(files=str(tmp_path / "a.txt"), tokenizer=letters, cache=str(tmp_path / "c")).prepare_data()
    with pytest.raises(ValueError, match=r"TextFiles gave no documents to train: 1 empty \(first: .*a.txt\)"):
        DataModule(files=str(tmp_path / "a.txt"), cache=str(tmp_path / "c")).prepare_data()
    (tmp_path / "a.txt").write_bytes(b"fine\n" * 400 + b"na\xefve\n")
    with pytest.raises(ValueError, match=r"^[^ ]*a\.txt:401: not UTF-8.*[^\n]$"):
        DataModule(files=str(tmp_path / "a.txt"), cache=str(tmp_path / "c")).prepare_data()


def test_the_cache_follows_the_environment_and_must_be_writable(tmp_path, made, letters, monkeypatch):
    monkeypatch.setenv("TEXTFLOW_CACHE", str(tmp_path))
    assert DataModule().cache == tmp_path
    monkeypatch.delenv("TEXTFLOW_CACHE")
    assert DataModule().cache.parts[-2:] == (".cache", "textflow")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write the cache .* set --data.cache or TEXTFLOW_CACHE"):
        DataModule(source=made(), tokenizer=letters, cache=str(tmp_path / "file" / "cache")).prepare_data()
