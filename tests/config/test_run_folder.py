"""A run is loaded as it was trained; overlays change how it samples and nothing else."""

from pathlib import Path

import pytest
import torch

import textflow
from textflow import run_folder
from textflow.config import recipe
from textflow.noise import Noise
from textflow.samplers import Euler, Heun
from textflow.training.weights import write_weights

RECIPE = """\
data: {tokenizer: {class_path: HFTokenizer, init_args: {name: TOKENIZER}}, seq_length: 8}
model:
  class_path: Generator
  init_args:
    codec: {class_path: EmbeddingTable, init_args: {dim: 6}}
    net: {class_path: ELF, init_args: {width: 16, depth: 1, heads: 2, bottleneck: 4}}
    objective: ELFObjective
    sampler: Euler
trainer: {max_steps: 1}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "and", "the", "word"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    whole = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    whole.save_pretrained(tmp_path / "words")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("TOKENIZER", str(tmp_path / "words")))
    folder = tmp_path / "run"
    config = recipe.load_recipe([str(tmp_path / "recipe.yaml")])
    data = textflow.data.HFTokenizer(str(tmp_path / "words"))
    model, _ = recipe.load_model(recipe.dump(config), data.vocab_size)
    data.prepare(lambda: iter(()), tmp_path / "cache")
    run_folder.write_run(folder, recipe.dump(config), data, model, "words")
    write_weights(folder / "model.safetensors", model.weights(), {})
    return folder


def overlay(folder: Path, text: str) -> str:
    file = folder / "overlay.yaml"
    file.write_text(text)
    return str(file)


def test_an_overlay_changes_how_a_run_samples_and_no_weight(run: Path, tmp_path: Path) -> None:
    plain = textflow.load(run)
    other = textflow.load(
        run, overlays=[overlay(tmp_path, "model: {init_args: {sampler: Heun, self_cond_guidance: 2.0}}")]
    )
    assert isinstance(plain.sampler, Euler) and isinstance(other.sampler, Heun) and other.self_cond_guidance == 2.0
    mine, theirs = plain.weights(), other.weights()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: {init_args: {ema_decay: 0.5}}", "model.ema_decay"),
        ("model: {init_args: {net: {init_args: {width: 32}}}}", "model.net.width"),
        ("seed: 3", "seed"),
    ],
)
def test_an_overlay_that_changes_what_is_trained_is_refused(run: Path, tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"changes {named}, which is trained already.*sampler, escape"):
        textflow.load(run, overlays=[overlay(tmp_path, text)])


def test_an_unknown_key_of_an_overlay_names_the_nearest(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sampler"):
        textflow.load(run, overlays=[overlay(tmp_path, "model: {init_args: {samplr: Heun}}")])


@pytest.mark.parametrize("length", [-5, 0])
def test_a_length_below_one_is_named(run: Path, length: int) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("seq_length: 8", f"seq_length: {length}"))
    with pytest.raises(
        ValueError, match=rf"data\.seq_length is {length} in .*recipe\.yaml; a text needs at least 1 token"
    ):
        textflow.load(run)


def test_a_saved_recipe_without_a_model_is_named_by_its_file(run: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text[: text.index("model:")] + "model: 3\n")
    with pytest.raises(ValueError, match=rf"^{run / 'recipe.yaml'}: .*got 3"):
        textflow.load(run)


@pytest.mark.parametrize("length", [-5, 10**15])
def test_noise_of_a_length_that_cannot_be_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=f"no noise of {length} x 8 a sample"):
        Noise([0]).normal(length, 8)
