"""What a checkpoint says of itself: types and lengths in config.json, parts of a Lightning checkpoint, vocabularies."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor

from tests.helpers.official_folders import published_config, recorded_weights, save_folder
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.convert.checkpoint_config import read_config
from textflow.convert.lightning_checkpoint import find_weights
from textflow.convert.published_text import BERT_TOKENS

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes


@pytest.mark.parametrize(
    ("system", "config", "message"),
    [
        ("duo", "[]", "holds a list, not an object"),
        ("langflow", "{oops", "is not JSON"),
        ("flm", {"model": "small"}, "has model 'small'; it needs an object"),
        ("flm", {"model": {"length": None}}, "has model.length None; it needs a whole number of at least 2"),
        ("flm", {"model": {"logit_softcap": "30"}}, "has model.logit_softcap '30'; it needs a number"),
        ("langflow", {"model_length": 0}, "has model_length 0; it needs a whole number of at least 1"),
        ("mdlm", {"time_conditioning": "yes"}, "has time_conditioning 'yes'; it needs true or false"),
        ("mdlm", {"n_heads": True}, "has n_heads True; it needs a whole number"),
        ("duo", {"dropout": 1}, "has dropout 1; it needs a fraction below 1"),
        ("duo", {"model_length": 1.5}, "has model_length 1.5; it needs a whole number of at least 2"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_file(
    system: str, config: Any, message: str, tmp_path: Path, fails: Fails
) -> None:
    source = save_folder(tmp_path / "hub", recorded_weights(system), config)
    fails(["convert", system, str(source), str(tmp_path / "run")], str(source / "config.json"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": [1]}, "state_dict is of type list; it needs a dictionary"),
        ({"ema": [1]}, "ema is of type list; it needs a dictionary"),
        ({"ema": {"shadow_params": [1, 2]}}, "shadow_params[0] is of type int; it needs a tensor"),
        ({"ema": {"shadow_params": 3}}, "shadow_params is of type int; it needs a list of tensors"),
        ({"ema_list": [1]}, "ema_list is of type list; it needs a dictionary"),
        ({"ema_list": {"slow": {}}}, "ema_list has the keys ['slow']; it needs decays"),
    ],
)
def test_a_part_of_a_lightning_checkpoint_of_another_type_is_named(
    content: dict[str, Any], message: str, tmp_path: Path, fails: Fails
) -> None:
    state = {f"backbone.{name}": tensor for name, tensor in recorded_weights("flm").items()}
    torch.save({"state_dict": state} | content, tmp_path / "a.ckpt")
    fails(["convert", "flm", str(tmp_path / "a.ckpt"), str(tmp_path / "run")], "a.ckpt: " + message)


def test_blocks_that_are_not_numbered_without_gaps_are_refused_before_a_net_is_made(
    tmp_path: Path, fails: Fails
) -> None:
    weights = recorded_weights("flm") | {"blocks.1000000000.norm1.weight": torch.zeros(1)}
    source = save_folder(tmp_path / "hub", weights, {})
    fails(["convert", "flm", str(source), str(tmp_path / "run")], "there is a block 1000000000, but no block ")


def with_rows(weights: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """The same network with another number of token states."""
    ends = ("vocab_embed.embedding", "output_layer.linear.weight", "output_layer.linear.bias")
    return {n: torch.zeros(rows, *t.shape[1:]) if n.endswith(ends) else t for n, t in weights.items()}


def recipe_of(system: str, config: Any, folder: Path, rows: int | None = None, *options: str) -> dict[str, Any]:
    """The recipe of a run that an export with this configuration becomes."""
    weights = recorded_weights(system)
    save_folder(folder / "hub", with_rows(weights, rows) if rows else weights, config)
    assert main(["convert", system, str(folder / "hub"), str(folder / "run"), *options]) == 0
    return yaml.safe_load((folder / "run" / "recipe.yaml").read_text())


@pytest.mark.parametrize("system", ["mdlm", "duo", "flm", "langflow"])
def test_the_length_is_that_of_the_option_else_of_the_configuration_else_of_the_published_text(
    system: str, tmp_path: Path
) -> None:
    config = published_config(system)
    own = config["model"]["length"] if "model" in config else config["model_length"]
    for name, expected, given, options in (
        ("own", own, config, ()),
        ("option", 4, config, ("--seq-length", "4")),
        ("published", 1024, {}, ()),
    ):
        found = recipe_of(system, given, tmp_path / name, None, *options)
        assert found["data"]["seq_length"] == expected, name


@pytest.mark.parametrize("system", ["duo", "flm", "langflow"])
def test_tokens_of_bert_are_lm1b_s(system: str, tmp_path: Path) -> None:
    found = recipe_of(system, {}, tmp_path, BERT_TOKENS)
    data = found["data"]
    assert data["seq_length"] == 128 and data["source"]["init_args"]["name"] == "billion-word-benchmark/lm1b"
    tokenizer = {"name": "bert-base-uncased", "vocab_size": BERT_TOKENS, "eos_token": "[SEP]", "pad_token": "[PAD]"}
    assert data["tokenizer"]["init_args"] == tokenizer
    if system == "duo":
        objective = found["model"]["init_args"]["objective"]["init_args"]
        assert (objective["gamma_min"], objective["gamma_max"]) == (-3.5, -1.75)


def test_the_configuration_of_a_hub_repository_is_fetched_beside_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, cache, asked = save_folder(tmp_path / "hub", {}, "{}"), tmp_path / "cache", list[str]()
    cache.mkdir()

    def download(source: str, name: str) -> str:
        asked.append(name)
        if not (hub / name).is_file():
            raise EntryNotFoundError(name)
        return str(shutil.copy(hub / name, cache / name))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert read_config(find_weights("someone/langflow")).file == cache / "config.json"
    assert (cache / "config.json").is_file() and asked == ["model.safetensors", "config.json"]
    (hub / "config.json").unlink()
    assert find_weights("someone/langflow") == cache / "model.safetensors"


def test_the_mask_of_an_mdlm_is_behind_its_tokens(tmp_path: Path, fails: Fails) -> None:
    source = save_folder(tmp_path / "hub", with_rows(recorded_weights("mdlm"), BERT_TOKENS), {})
    fails(["convert", "mdlm", str(source), str(tmp_path / "run")], "whose mask is its token [MASK]")
    found = recipe_of("mdlm", {}, tmp_path / "behind", BERT_TOKENS + 1)
    assert found["data"]["tokenizer"]["init_args"]["name"] == "bert-base-uncased"
