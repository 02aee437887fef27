"""A run is loaded as it was trained; overlays change how it samples and nothing else."""

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import textflow
from textflow import run_folder
from textflow.config import recipe
from textflow.config.model import load_model
from textflow.noise import Noise
from textflow.samplers import Euler, Heun
from textflow.training.weights import write_weights

pytestmark = pytest.mark.integration

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


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of an untrained model."""
    folder = tmp_path_factory.mktemp("fitted")
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "and", "the", "word"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder / "tokenizer")
    (folder / "recipe.yaml").write_text(RECIPE.replace("TOKENIZER", str(folder / "tokenizer")))
    text = recipe.dump(recipe.load_recipe([str(folder / "recipe.yaml")]))
    tokenizer = textflow.data.HFTokenizer(str(folder / "tokenizer"))
    model = load_model(text, tokenizer.vocab_size)
    run_folder.write_run(folder / "run", text, tokenizer, model, "words")
    write_weights(folder / "run" / "model.safetensors", model.weights(), {})
    return folder / "run"


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the run, free to change."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def overlay(folder: Path, text: str) -> str:
    file = folder / "overlay.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.integration
def test_an_overlay_changes_how_a_run_samples_and_no_weight(fitted: Path, tmp_path: Path) -> None:
    plain, text = textflow.load(fitted), "model: {init_args: {sampler: Heun, self_cond_guidance: 2.0}}"
    other = textflow.load(fitted, overlays=[overlay(tmp_path, text)])
    assert isinstance(plain.sampler, Euler) and isinstance(other.sampler, Heun) and other.self_cond_guidance == 2.0
    mine, theirs = plain.weights(), other.weights()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {init_args: {ema_decay: 0.5}}", "changes model.ema_decay, which is trained already.*sampler, escape"),
        ("model: {init_args: {net: {init_args: {width: 32}}}}", "changes model.net.width, which is trained already"),
        ("seed: 3", "changes seed, which is trained already.*sampler, escape"),
        ("model: {init_args: {samplr: Heun}}", "sampler"),
    ],
)
def test_an_overlay_that_changes_trained_or_unknown_keys_is_refused(
    fitted: Path, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        textflow.load(fitted, overlays=[overlay(tmp_path, text)])


@pytest.mark.parametrize("length", [-5, 0])
def test_a_length_below_one_is_named(run: Path, length: int) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("seq_length: 8", f"seq_length: {length}"))
    with pytest.raises(
        ValueError, match=rf"data\.seq_length is {length} in .*recipe\.yaml; a text needs at least 1 token"
    ):
        textflow.load(run)


def test_an_overlay_of_the_hardware_changes_nothing_that_is_trained(run: Path, repository_root: None) -> None:
    one, two = (textflow.load(run, overlays=names) for names in ([], ["recipes/hardware/cpu.yaml"]))
    assert repr(one.sampler) == repr(two.sampler)


def test_a_saved_recipe_without_a_model_is_named_by_its_file(run: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text[: text.index("model:")] + "model: 3\n")
    with pytest.raises(ValueError, match=rf"^{run / 'recipe.yaml'}: .*got 3"):
        textflow.load(run)


def test_a_saved_recipe_that_is_not_utf8_is_named_by_its_file(run: Path) -> None:
    (run / "recipe.yaml").write_bytes((run / "recipe.yaml").read_bytes() + b"# caf\xe9\n")
    with pytest.raises(ValueError, match=rf"^{run / 'recipe.yaml'} is not YAML: it is not UTF-8 .*at byte \d+"):
        textflow.load(run)


@pytest.mark.parametrize("length", [-5, 10**15])
def test_noise_of_a_length_that_cannot_be_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=f"no noise of {length} x 8 a sample"):
        Noise([0]).normal(length, 8)
