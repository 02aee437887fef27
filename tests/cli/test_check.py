"""`textflow check`: validates a recipe and writes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers import trainers as learners
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main
from textflow.cli.checks import check_round_trip
from textflow.data import DataModule, Document, SentencePiece, Source, TextFiles
from textflow.data.preview import FirstDocuments, build_preview

ROOT = Path(__file__).parents[2]
STRATIFIED = ["--model.objective.row_assignment", "stratified"]  # as many self-conditioned rows in every small batch
Result = tuple[int, dict[str, str], dict[str, str]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    teacher = write_recipe(tmp_path)

    def run(*argv: str) -> Result:
        stratified = [] if {"--model", "--model.objective"} & {*argv} else STRATIFIED
        code = main(["check", str(teacher), *stratified, *argv])
        out, err = capsys.readouterr()
        passed = {line[5:15].strip(): line[15:] for line in out.splitlines()}
        lines = [line for line in err.splitlines() if ": " in line] if code else []
        return code, passed, dict(line.removeprefix("textflow check: ").split(": ", 1) for line in lines)

    return run


ALL = {"recipe", "text", "tokenizer", "shapes", "codec", "step", "memory", "tokens"}


@pytest.mark.integration
def test_a_good_recipe_passes_every_step_and_leaves_nothing(check: Callable[..., Result], tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, good, bad = check("--trainer.devices", "8", "--trainer.accumulate_grad_batches", "2")
    assert (code, set(good), bad) == (0, ALL, {})
    assert "all 60 documents" in good["text"] and "60 of 60 documents decode exactly" in good["tokenizer"]
    assert "not trained yet" in good["codec"] and "uniform in this check" in good["codec"]
    assert good["tokens"].startswith("1,024 per step") and "12,288 in 12 steps" in good["tokens"]  # 4 x 16 x 2 x 8
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.integration
def test_an_error_names_its_step_and_the_other_steps_run(check: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, step, message in (
        (("--data.files", str(tmp_path / "none.txt")), "text", "none.txt"),
        (("--model.net.heads", "3"), "shapes", "heads"),
        (("--codec", "null"), "codec", "is not trained"),
        (("--data.batch_size", "5000"), "text", "fewer than a batch of 5000"),
        (("--data.batch_size", "400", "--trainer.devices", "8"), "text", "fewer than a batch of 3200 over all devices"),
        (("--data.tokenizer.vocab_size", "30000"), "text", "pieces are too many for this text"),
    ):
        code, good, bad = check(*arguments)
        assert code == 2 and list(bad) == [step] and message in bad[step], (arguments, bad)
        assert {"recipe", "tokens"} <= set(good) and "step" not in good


@pytest.mark.integration
def test_a_target_with_tangents_is_trained_except_under_zero3(check: Callable[..., Result]) -> None:
    arguments = ["--model.objective", "MeanFlowObjective", "--model.net.two_time", "true"]
    code, good, bad = check(*arguments)
    assert (code, set(good), bad) == (0, ALL, {}) and "activations" in good["memory"]
    code, _, bad = check(*arguments, "--trainer.strategy", "Zero", "--trainer.strategy.stage", "3")
    assert code == 2 and list(bad) == ["shapes"] and "MeanFlow under ZeRO-3" in bad["shapes"]


@pytest.mark.integration
def test_an_invalid_recipe_or_a_missing_codec_stops_every_step(check: Callable[..., Result]) -> None:
    code, good, bad = check("--model.net.widht", "3")
    assert code == 2 and not good and "did you mean 'width'" in bad["recipe"]
    code, good, bad = check("--codec", "nowhere")
    assert code == 2 and not good and "nowhere" in bad["recipe"]


@pytest.mark.integration
def test_an_autoencoder_and_a_random_embedding_table_pass(check: Callable[..., Result]) -> None:
    code, good, bad = check("--codec", "null", "--model.codec", "EmbeddingTable", "--model.codec.dim", "8")
    assert (code, set(good), bad) == (0, ALL, {}) and "untrained" not in good["codec"]
    arguments = ["--codec", "null", "--model", "Autoencoder", "--model.codec", "TransformerCodec"]
    code, good, bad = check(*arguments)
    assert (code, set(good), bad) == (0, ALL, {}) and good["codec"] == "is the net itself"


@pytest.mark.integration
@pytest.mark.slow
def test_the_t5_encoder_is_loaded(check: Callable[..., Result], tmp_path: Path) -> None:
    config = T5Config(vocab_size=320, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    arguments = ["--codec", "null", "--model.codec", "T5Codec", "--model.codec.dim", "8"]
    arguments += ["--model.objective.time_schedule", "LogitNormal", "--model.codec.name"]
    code, good, bad = check(*arguments, str(tmp_path / "t5"))
    assert (code, set(good), bad) == (0, ALL, {}) and "codec" in good["memory"]
    code, good, bad = check(*arguments, str(tmp_path / "elsewhere"))
    assert code == 2 and list(bad) == ["codec"] and "--model.codec.name" in bad["codec"]


def save_tokenizer(folder: Path, text: str) -> None:
    """Save a Hugging Face tokenizer of a text, which folds spaces and line ends as T5's does."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        [text], learners.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


@pytest.mark.integration
def test_elf_b_runs_where_text_tokenizer_and_encoder_are_local(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    write_recipe(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text(text.read_text().replace(" ", "  ", 1))
    save_tokenizer(tmp_path / "tokenizer", text.read_text())
    config = T5Config(vocab_size=320, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    arguments = ["--data.files", str(text), "--data.tokenizer.name", str(tmp_path / "tokenizer")]
    arguments += ["--model.codec.name", str(tmp_path / "t5"), "--model.codec.dim", "16", "--data.seq_length", "16"]
    arguments += ["--data.batch_size", "4", "--model.net.width", "48", "--model.net.depth", "2"]
    arguments += ["--data.val_fraction", "0.2", "--data.num_workers", "0", "--run.folder", str(tmp_path / "run")]
    assert main(["check", "recipes/elf_b.yaml", *arguments]) == 0
    message = capsys.readouterr().out
    assert (
        "HFTokenizer of" in message
        and "59 of 60 documents decode exactly" in message
        and "T5Codec gives latents" in message
    )
    assert main(["fit", "recipes/elf_b.yaml", *arguments, "--trainer.max_steps", "2", "--run.wandb", "false"]) == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_the_first_difference_of_a_normalizing_tokenizer_is_shown() -> None:
    assert check_round_trip(["a b", "c"], ["a b", "c"]) == "2 of 2 documents decode exactly"
    message = check_round_trip(["same", "one\ntwo"], ["same", "one two"])
    assert message.startswith("1 of 2 documents") and r"'one\ntwo' -> 'one two'" in message
    with pytest.raises(ValueError, match="decodes all . documents to nothing"):
        check_round_trip(["text"], [" "])


class Counted(Source):
    """Many documents, counting those that are read."""

    def __init__(self, many: int) -> None:
        self.many, self.read = many, 0

    def documents(self):  # noqa: ANN201
        for i in range(self.many):
            self.read += 1
            yield Document(f"document {i} " * 20, f"made:{i}")

    def key(self) -> str:
        return f"counted {self.many}"


def test_first_documents_read_no_more_than_they_return() -> None:
    source = Counted(10**6)
    origins = [document.origin for document in FirstDocuments(source, 3).documents()]
    assert origins == ["made:0", "made:1", "made:2"] and source.read == 3
    assert len(list(FirstDocuments(Counted(10**6), 10**6, max_characters=1000).documents())) == 1000 // 220 + 1
    assert len(list(FirstDocuments(Counted(2), 9).documents())) == 2
    others = {FirstDocuments(source, 4).key(), FirstDocuments(Counted(5), 3).key()}
    assert FirstDocuments(source, 3).key() not in others
    with pytest.raises(ValueError, match="at least 1"):
        FirstDocuments(source, 0)


@pytest.mark.integration
def test_only_the_beginning_of_a_large_source_is_read(tmp_path: Path) -> None:
    source = Counted(10**6)
    data = DataModule(source, SentencePiece(320), seq_length=16, batch_size=4, cache=str(tmp_path), val_fraction=0.001)
    assert build_preview(data) is False and source.read < 20_000
    assert len(data.rows) and data.vocab_size == 320


def test_more_text_is_read_until_the_vocabulary_can_be_trained(tmp_path: Path) -> None:
    arguments = [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}ing" for i in range(3000)]
    (tmp_path / "text.txt").write_text("\n".join(" ".join(arguments[i : i + 3]) for i in range(0, 3000, 3)))
    source = TextFiles(str(tmp_path / "text.txt"), separator="line")
    data = DataModule(source, SentencePiece(600), 16, 4, cache=str(tmp_path / "cache"))
    build_preview(data)
    assert data.source.num_documents > 64 and data.vocab_size == 600
