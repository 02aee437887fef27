import hashlib

import pytest
import yaml

from tests.helpers.tiny_scorer import save_judge
from textflow.eval.protocol import FOLDER, Protocol, apart, facts, held_out, names, protocol, real, recipe, refuse_codec
from textflow.metrics import COUNTINGS, Scorer


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


def test_there_is_a_protocol_for_every_counting_and_it_counts_so():
    assert names() == sorted(COUNTINGS) == ["elf", "langflow", "ld4lg", "local", "mdlm"]
    assert all(protocol(name).counting == name == protocol(name).name for name in names())


def test_the_protocols_are_those_of_their_papers():
    said = {name: protocol(name) for name in names()}
    assert {one.scorer for name, one in said.items() if name != "local"} == {"gpt2-large"}
    assert {name for name, one in said.items() if one.entropy == "generator"} == {"mdlm", "langflow"}
    assert {name for name, one in said.items() if one.dtype == "float16"} == {"langflow"}
    assert said["elf"].n == 1000 and said["langflow"].n == 1024
    assert all(one.truncation == 1024 and one.mauve == 5000 for name, one in said.items() if name != "local")


def test_a_protocol_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{scorer: gpt2, counting: elf, entropy: scorer, n: 5}")
    assert protocol(str(path)) == Protocol("mine", "gpt2", "elf", "scorer", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{scorer: gpt2}", "first four needed"),
        ("{scorer: gpt2, counting: elf, entropy: scorer, n: 5, colour: red}", "colour"),
        ("{scorer: gpt2, counting: gpt, entropy: scorer, n: 5}", "known are local, elf"),
        ("{scorer: gpt2, counting: elf, entropy: mine, n: 5}", "mine"),
        ("{scorer: gpt2, counting: elf, entropy: scorer, n: 0}", "at least 1"),
        ("{scorer: [", "is no protocol"),
        ("- 3", "is no protocol"),
    ],
)
def test_a_file_that_is_no_protocol_says_what_is_wrong(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        protocol(str(tmp_path / "mine.yaml"))


def test_an_unknown_protocol_names_the_known():
    with pytest.raises(ValueError, match="known are elf, langflow, ld4lg, local, mdlm"):
        protocol("gpt")


def test_what_differs_from_the_protocol_is_said(tmp_path):
    judge = Scorer(save_judge(tmp_path), length=1024, shorter=True, dtype="bfloat16", counting="elf")
    said = protocol("elf").deviations(judge, "here", 12)
    assert said[:2] == ["scorer here for gpt2-large", "dtype bfloat16 for float32"]
    assert said[2:] == ["truncation 8 for 1024", "n 12 for 1000"]
    own = Protocol("mine", "here", "elf", "scorer", 12, "bfloat16", 8)
    assert own.deviations(judge, "here", 12) == own.deviations(judge, "here", 13) == []
    pinned = Protocol("mine", "here", "elf", "scorer", 12, "bfloat16", 8, revision="abc")
    assert pinned.deviations(judge, "here", 12) == ["revision None for abc"]


def test_the_packaged_recipe_of_the_scorer_is_that_of_the_recipes():
    root = FOLDER.parents[1]
    assert (FOLDER.parent / "scorer.yaml").read_text() == (root / "recipes" / "scorer.yaml").read_text()


def test_real_text_is_rows_of_the_recipes_validation_part_without_padding(data):
    found = real(data, 6)
    assert len(found.ids) == 6 and all(0 < len(row) <= 16 for row in found.ids)
    assert real(data, 3).ids == found.ids[:3]
    assert "was with God and" in " ".join(found.data.tokenizer.decode(found.ids))


def test_a_recipe_without_validation_is_refused(data):
    with pytest.raises(ValueError, match=r"data\.validation above 0"):
        real(data | {"validation": 0.0}, 3)
    with pytest.raises(ValueError, match=r"data\.validation above 0"):
        held_out(data | {"validation": 0.0}, 3)


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
        recipe(tmp_path)


def test_a_recipe_without_data_is_named(tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 3")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"recipe\.yaml is damaged: it has no data"):
        facts(tmp_path)


def test_a_codec_is_no_generator(tmp_path):
    for model in ("Autoencoder", {"class_path": "textflow.models.autoencoder.Autoencoder"}):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
        with pytest.raises(ValueError, match="writes no texts; name a Generator, Masked or CausalLM"):
            refuse_codec(tmp_path)
    for model in (3, None, {}, "Masked", {"class_path": "textflow.Generator"}):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
        refuse_codec(tmp_path)
