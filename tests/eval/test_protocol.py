import hashlib

import pytest
import yaml

from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.user_errors import refused
from textflow.eval import protocol
from textflow.eval.protocol import Protocol, load_protocol, protocol_names
from textflow.metrics import TOKEN_WEIGHTINGS, Scorer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("text")
    lines = [f"the word {i} was with God and the word was {i * i}" for i in range(200)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    tokenizer = {"class_path": "SentencePiece", "init_args": {"vocab_size": 310}}
    sizes = {"seq_length": 16, "batch_size": 4, "val_fraction": 0.2, "scorer_holdout": 0.2, "num_proc": 1}
    return {"files": str(tmp_path / "text.txt"), "tokenizer": tokenizer, "cache": str(tmp_path / "cache")} | sizes


def test_the_protocols_equal_those_of_their_papers():
    protocols = {name: load_protocol(name) for name in protocol_names()}
    assert list(protocols) == ["elf", "langflow", "ld4lg", "local", "mdlm", "smollm", "stories"]
    assert {one.token_weighting for one in protocols.values()} == set(TOKEN_WEIGHTINGS)
    own = [(one.scorer, one.token_weighting, one.n) for one in map(protocols.pop, ("smollm", "stories"))]
    assert own == [("checkpoints/smollm2", "whole", 256), ("grammar", "whole", 1024)]
    assert all(one.token_weighting == name == one.name for name, one in protocols.items())
    assert {name for name, one in protocols.items() if one.entropy_ids == "generator"} == {"mdlm", "langflow"}
    assert {name for name, one in protocols.items() if one.dtype == "float16"} == {"langflow"}
    assert protocols["elf"].n == 1000 and protocols["langflow"].n == 1024
    papers = {(p.scorer, p.truncation, p.mauve_samples) for name, p in protocols.items() if name != "local"}
    assert papers == {("gpt2-large", 1024, 5000)}


def test_a_protocol_can_be_a_users_file_and_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{scorer: gpt2, token_weighting: elf, entropy_ids: scorer, n: 5}")
    assert load_protocol(str(path)) == Protocol("mine", "gpt2", "elf", "scorer", 5)
    with pytest.raises(ValueError, match="known are elf, langflow, ld4lg, local, mdlm, smollm, stories"):
        load_protocol("gpt")


def test_a_damaged_protocol_file_is_refused_with_the_reason(tmp_path):
    for text, message in (
        ("{scorer: gpt2}", "first four needed"),
        ("{scorer: gpt2, token_weighting: elf, entropy_ids: scorer, n: 5, colour: red}", "colour"),
        ("{scorer: gpt2, token_weighting: gpt, entropy_ids: scorer, n: 5}", "known are local, elf"),
        ("{scorer: gpt2, token_weighting: elf, entropy_ids: mine, n: 5}", "mine"),
        ("{scorer: gpt2, token_weighting: elf, entropy_ids: scorer, n: 0}", "at least 1"),
        ("{scorer: [", "is not a protocol"),
        ("- 3", "is not a protocol"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_protocol(str(tmp_path / "mine.yaml"))


def test_deviations_from_the_protocol_are_listed(tmp_path):
    options = {"max_length": 1024, "allow_shorter_context": True, "dtype": "bfloat16", "token_weighting": "elf"}
    scorer = Scorer(save_scorer(tmp_path), **options)
    assert load_protocol("elf").deviations(scorer, "here", 12) == [
        *("scorer here for gpt2-large", "dtype bfloat16 for float32", "truncation 8 for 1024", "n 12 for 1000")
    ]
    own = Protocol("mine", "here", "elf", "scorer", 12, "bfloat16", 8)
    assert own.deviations(scorer, "here", 12) == own.deviations(scorer, "here", 13) == []
    pinned = Protocol("mine", "here", "elf", "scorer", 12, "bfloat16", 8, revision="abc")
    assert pinned.deviations(scorer, "here", 12) == ["revision None for abc"]


def test_the_packaged_scorer_recipe_equals_that_of_the_recipes():
    root = protocol.PROTOCOL_FOLDER.parents[1]
    assert (protocol.PROTOCOL_FOLDER.parent / "scorer.yaml").read_text() == (
        root / "recipes" / "scorer.yaml"
    ).read_text()


def test_real_text_is_validation_rows_without_padding_and_a_recipe_needs_some(data):
    text = protocol.validation_text(data, 6)
    assert len(text.token_ids) == 6 and all(0 < len(row) <= 16 for row in text.token_ids)
    assert protocol.validation_text(data, 3).token_ids == text.token_ids[:3]
    assert "was with God and" in " ".join(text.data_module.tokenizer.decode(text.token_ids))
    for read in (protocol.validation_text, protocol.validation_batch):
        refused(r"data\.val_fraction above 0", read, data | {"val_fraction": 0.0}, 3)


def test_a_scorer_is_disjoint_only_with_the_same_split_and_its_own_documents():
    data = {"source": "Bible", "val_fraction": 0.02, "scorer_holdout": 0.2, "split": "train"}
    scorer = {"data": data | {"split": "scorer_holdout"}}
    assert protocol.is_disjoint({"data": data}, scorer) is True
    assert protocol.is_disjoint({"data": data | {"scorer_holdout": 0.0}}, scorer) is False
    assert protocol.is_disjoint({"data": data}, {"data": data}) is False
    assert protocol.is_disjoint({"data": data}, {}) is None


def test_facts_hash_the_weights_and_carry_the_recipe_of_a_fitted_run(tmp_path):
    refused(r"no recipe\.yaml", protocol.run_facts, tmp_path)
    (tmp_path / "recipe.yaml").write_text("seed: 3")
    refused(r"no model\.safetensors", protocol.run_facts, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    refused(r"recipe\.yaml is damaged: it has no data", protocol.run_facts, tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": {"seq_length": 32}}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    facts = protocol.run_facts(tmp_path)
    assert facts["checkpoint_hash"] == hashlib.sha256(b"weights").hexdigest()[:16]
    assert facts["seq_length"] == 32 and facts["recipe"] == {"data": {"seq_length": 32}}


def test_a_damaged_recipe_is_refused_with_the_reason(tmp_path):
    for text, message in (
        *((text, "is damaged: it holds nothing") for text in ("", "[]", "null", "{}")),
        ("a: b: c", "is not YAML"),
        ("- 3", "holds list"),
        ("data: 3", "it holds data: 3"),
        ("data:", "it holds data: None"),
    ):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(ValueError, match=rf"recipe\.yaml .*{message}"):
            protocol.run_recipe(tmp_path)


def test_a_codec_is_not_a_generator(tmp_path):
    for model in ("Autoencoder", {"class_path": "textflow.models.autoencoder.Autoencoder"}):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
        with pytest.raises(ValueError, match="writes no texts; name a Generator, DiscreteDiffusion or CausalLM"):
            protocol.require_text_model(tmp_path)
    for model in (3, None, {}, "DiscreteDiffusion", {"class_path": "textflow.Generator"}):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
        protocol.require_text_model(tmp_path)
