import hashlib
import json

import pytest
import yaml
from torch import nn

import textflow.checkpoint
from tests.judge import save_judge
from textflow.cli.eval import eval as verb
from textflow.cli.eval import numbers
from textflow.eval.protocol import apart, facts, validation_texts


@pytest.fixture
def data(tmp_path):
    lines = [f"the word {i} was with God and the word was {i * i}" for i in range(200)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    tokenizer = {"class_path": "SentencePiece", "init_args": {"vocab": 310}}
    return {
        "files": str(tmp_path / "text.txt"),
        "tokenizer": tokenizer,
        "length": 16,
        "batch_size": 4,
        "validation": 0.2,
        "held_apart": 0.2,
        "processes": 1,
        "cache": str(tmp_path / "cache"),
    }


def test_validation_texts_are_rows_of_the_recipes_validation_part(data):
    texts = validation_texts(data, 6)
    assert len(texts) == 6 and all(texts) and all(len(text) < 100 for text in texts)
    assert validation_texts(data, 3) == texts[:3]


def test_a_recipe_without_validation_is_refused(data):
    with pytest.raises(ValueError, match=r"data\.validation above 0"):
        validation_texts(data | {"validation": 0.0}, 3)


def test_a_judge_is_apart_only_with_the_same_split_and_its_own_part():
    data = {"source": "Bible", "validation": 0.02, "held_apart": 0.2, "part": "train"}
    judge = {"data": data | {"part": "held_apart"}}
    assert apart({"data": data}, judge) is True
    assert apart({"data": data | {"held_apart": 0.0}}, judge) is False
    assert apart({"data": data}, {"data": data}) is False
    assert apart({"data": data}, {}) is None


def test_facts_hash_the_weights_and_carry_the_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": {"length": 32}}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    said = facts(tmp_path)
    assert said["checkpoint_hash"] == hashlib.sha256(b"weights").hexdigest()[:16]
    assert said["length"] == 32 and said["recipe"] == {"data": {"length": 32}}


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe\.yaml"):
        facts(tmp_path)
    (tmp_path / "recipe.yaml").write_text("data: {length: 32}")
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        facts(tmp_path)


def test_steps_are_whole_numbers_above_zero():
    assert numbers("1, 2,32") == [1, 2, 32]
    for wrong in ("", "1,,2", "0", "1.5", "a"):
        with pytest.raises(ValueError, match="above 0"):
            numbers(wrong)


class Parrot(nn.Module):
    """Says the same words whatever it is asked."""

    def __init__(self):
        super().__init__()
        self.net = nn.Identity()

    def generate(self, n, steps, seed, sampler, batch_size):
        return ["the earth was void"] * n


def test_the_verb_prints_the_table_and_writes_a_record_for_each_row(data, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(yaml.safe_dump({"data": data}))
    (run / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(textflow.checkpoint, "load", lambda folder, device, overlays: Parrot())
    monkeypatch.setenv("COLUMNS", "200")
    save_judge(tmp_path / "scorer")  # beside the run: the default judge
    verb(run, steps="1,2", n=3, device="cpu")
    said = capsys.readouterr().out
    records = [json.loads(path.read_text()) for path in (run / "eval").glob("*.json")]
    assert sorted((r["text"], r.get("steps", 0)) for r in records) == [
        ("generated", 1), ("generated", 2), ("real", 0), ("shuffled", 0)
    ]  # fmt: skip
    hashes = {record["checkpoint_hash"] for record in records}
    assert hashes == {hashlib.sha256(b"weights").hexdigest()[:16]} and all(record["n"] == 3 for record in records)
    for word in ("perplexity", "entropy", "seq-rep-4", "generated 2", "shuffled", records[0]["scorer_hash"]):
        assert word in said
