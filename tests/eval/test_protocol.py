import hashlib

import pytest
import yaml

from tests.helpers.tiny_scorer import save_judge
from textflow.eval.protocol import (
    PROTOCOL_FOLDER,
    Protocol,
    is_disjoint,
    load_protocol,
    protocol_names,
    require_text_model,
    run_facts,
    run_recipe,
    validation_batch,
    validation_text,
)
from textflow.metrics import TOKEN_WEIGHTINGS, Scorer


@pytest.fixture
def data(tmp_path):
    lines = [f"the word {i} was with God and the word was {i * i}" for i in range(200)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    tokenizer = {"class_path": "SentencePiece", "init_args": {"vocab_size": 310}}
    return {
        "files": str(tmp_path / "text.txt"),
        "tokenizer": tokenizer,
        "seq_length": 16,
        "batch_size": 4,
        "val_fraction": 0.2,
        "scorer_holdout": 0.2,
        "num_proc": 1,
        "cache": str(tmp_path / "cache"),
    }


def test_there_is_a_protocol_for_every_counting_and_it_counts_so():
    assert protocol_names() == sorted(TOKEN_WEIGHTINGS) == ["elf", "langflow", "ld4lg", "local", "mdlm"]
    assert all(load_protocol(name).token_weighting == name == load_protocol(name).name for name in protocol_names())


def test_the_protocols_are_those_of_their_papers():
    said = {name: load_protocol(name) for name in protocol_names()}
    assert {one.scorer for name, one in said.items() if name != "local"} == {"gpt2-large"}
    assert {name for name, one in said.items() if one.entropy_ids == "generator"} == {"mdlm", "langflow"}
    assert {name for name, one in said.items() if one.dtype == "float16"} == {"langflow"}
    assert said["elf"].n == 1000 and said["langflow"].n == 1024
    assert all(one.truncation == 1024 and one.mauve_samples == 5000 for name, one in said.items() if name != "local")


def test_a_protocol_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{scorer: gpt2, token_weighting: elf, entropy_ids: scorer, n: 5}")
    assert load_protocol(str(path)) == Protocol("mine", "gpt2", "elf", "scorer", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{scorer: gpt2}", "first four needed"),
        ("{scorer: gpt2, token_weighting: elf, entropy_ids: scorer, n: 5, colour: red}", "colour"),
        ("{scorer: gpt2, token_weighting: gpt, entropy_ids: scorer, n: 5}", "known are local, elf"),
        ("{scorer: gpt2, token_weighting: elf, entropy_ids: mine, n: 5}", "mine"),
        ("{scorer: gpt2, token_weighting: elf, entropy_ids: scorer, n: 0}", "at least 1"),
        ("{scorer: [", "is not a protocol"),
        ("- 3", "is not a protocol"),
    ],
)
def test_a_file_that_is_no_protocol_says_what_is_wrong(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        load_protocol(str(tmp_path / "mine.yaml"))


def test_an_unknown_protocol_names_the_known():
    with pytest.raises(ValueError, match="known are elf, langflow, ld4lg, local, mdlm"):
        load_protocol("gpt")


def test_what_differs_from_the_protocol_is_said(tmp_path):
    judge = Scorer(
        save_judge(tmp_path), max_length=1024, allow_shorter_context=True, dtype="bfloat16", token_weighting="elf"
    )
    said = load_protocol("elf").deviations(judge, "here", 12)
    assert said[:2] == ["scorer here for gpt2-large", "dtype bfloat16 for float32"]
    assert said[2:] == ["truncation 8 for 1024", "n 12 for 1000"]
    own = Protocol("mine", "here", "elf", "scorer", 12, "bfloat16", 8)
    assert own.deviations(judge, "here", 12) == own.deviations(judge, "here", 13) == []
    pinned = Protocol("mine", "here", "elf", "scorer", 12, "bfloat16", 8, revision="abc")
    assert pinned.deviations(judge, "here", 12) == ["revision None for abc"]


def test_the_packaged_recipe_of_the_scorer_is_that_of_the_recipes():
    root = PROTOCOL_FOLDER.parents[1]
    assert (PROTOCOL_FOLDER.parent / "scorer.yaml").read_text() == (root / "recipes" / "scorer.yaml").read_text()


def test_real_text_is_rows_of_the_recipes_validation_part_without_padding(data):
    found = validation_text(data, 6)
    assert len(found.token_ids) == 6 and all(0 < len(row) <= 16 for row in found.token_ids)
    assert validation_text(data, 3).token_ids == found.token_ids[:3]
    assert "was with God and" in " ".join(found.data_module.tokenizer.decode(found.token_ids))


def test_a_recipe_without_validation_is_refused(data):
    with pytest.raises(ValueError, match=r"data\.val_fraction above 0"):
        validation_text(data | {"val_fraction": 0.0}, 3)
    with pytest.raises(ValueError, match=r"data\.val_fraction above 0"):
        validation_batch(data | {"val_fraction": 0.0}, 3)


def test_a_judge_is_apart_only_with_the_same_split_and_its_own_part():
    data = {"source": "Bible", "val_fraction": 0.02, "scorer_holdout": 0.2, "split": "train"}
    judge = {"data": data | {"split": "scorer_holdout"}}
    assert is_disjoint({"data": data}, judge) is True
    assert is_disjoint({"data": data | {"scorer_holdout": 0.0}}, judge) is False
    assert is_disjoint({"data": data}, {"data": data}) is False
    assert is_disjoint({"data": data}, {}) is None


def test_facts_hash_the_weights_and_carry_the_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": {"seq_length": 32}}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    said = run_facts(tmp_path)
    assert said["checkpoint_hash"] == hashlib.sha256(b"weights").hexdigest()[:16]
    assert said["seq_length"] == 32 and said["recipe"] == {"data": {"seq_length": 32}}


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe\.yaml"):
        run_facts(tmp_path)
    (tmp_path / "recipe.yaml").write_text("data: {seq_length: 32}")
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        run_facts(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "is damaged: it holds nothing") for text in ("", "[]", "null", "{}")),
        ("a: b: c", "is not YAML"),
        ("- 3", "holds list"),
        ("data: 3", "it holds data: 3"),
        ("data:", "it holds data: None"),
    ],
)
def test_a_recipe_that_is_damaged_is_named(tmp_path, text, said):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"recipe\.yaml .*{said}"):
        run_recipe(tmp_path)


def test_a_recipe_without_data_is_named(tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 3")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"recipe\.yaml is damaged: it has no data"):
        run_facts(tmp_path)


def test_a_codec_is_no_generator(tmp_path):
    for model in ("Autoencoder", {"class_path": "textflow.models.autoencoder.Autoencoder"}):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
        with pytest.raises(ValueError, match="writes no texts; name a Generator, DiscreteDiffusion or CausalLM"):
            require_text_model(tmp_path)
    for model in (3, None, {}, "DiscreteDiffusion", {"class_path": "textflow.Generator"}):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
        require_text_model(tmp_path)
