"""Tokenizers keep every character, save and load, and say what they lack."""

import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.helpers.user_errors import refused
from textflow.data import Bible, HFTokenizer, SentencePiece, Tokenizer

TEXTS = ["In the beginning God created the heaven and the earth.", "two  spaces,\n\na line, a tab\t.", " é漢🙂 ", "x"]


def chapters(n=40):
    return lambda: (document.text for _, document in zip(range(n), Bible().documents(), strict=False))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    tokenizer = SentencePiece(500)
    tokenizer.prepare(chapters(), tmp_path_factory.mktemp("pieces"))
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    """Makes the folder of a tiny byte-level tokenizer with the special tokens given."""

    def make(**special):
        inner = Inner(models.BPE())
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        names = sorted({"<|endoftext|>", *special.values()})
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=names)
        inner.train_from_iterator(chapters(5)(), trainer)
        PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(tmp_path / "hf")
        return str(tmp_path / "hf")

    return make


def test_sentencepiece_keeps_every_character_with_a_vocabulary_known_before(pieces):
    assert pieces.decode(pieces.encode(TEXTS)) == TEXTS
    assert SentencePiece(500).vocab_size == pieces.vocab_size == 500
    assert (SentencePiece(500).eos, SentencePiece(500).pad) == (pieces.eos, pieces.pad) == (1, 0)
    assert max(i for ids in pieces.encode(TEXTS) for i in ids) < 500
    one, two = pieces.encode(["the earth", "the heaven"])
    assert pieces.decode([[*one, pieces.eos, *two, pieces.pad], [*two, pieces.pad], []]) == [
        "the earth",
        "the heaven",
        "",
    ]


def test_training_happens_once_and_is_deterministic(pieces, tmp_path):
    def never():
        raise AssertionError("read again")

    second = SentencePiece(500)
    second.prepare(chapters(), tmp_path)
    again = SentencePiece(500)
    again.prepare(never, tmp_path)
    assert second.encode(TEXTS) == pieces.encode(TEXTS) == again.encode(TEXTS)


def test_sentencepiece_saves_and_loads(pieces, tmp_path):
    pieces.save(tmp_path / "saved")
    loaded = Tokenizer.load(tmp_path / "saved")
    assert isinstance(loaded, SentencePiece) and loaded.vocab_size == 500
    assert loaded.encode(TEXTS) == pieces.encode(TEXTS)
    loaded.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").encode(TEXTS) == pieces.encode(TEXTS)


def test_a_number_of_pieces_that_does_not_fit_the_text_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"20000 pieces are too many .* (\d+) are possible") as error:
        SentencePiece(20000).prepare(chapters(3), tmp_path)
    largest = int(str(error.value).rsplit(" ", 1)[1])
    tokenizer = SentencePiece(largest)
    tokenizer.prepare(chapters(3), tmp_path)
    assert tokenizer.encode(["God"])
    text = "".join(chr(0x4E00 + i) for i in range(400)) * 3
    with pytest.raises(ValueError, match="310 pieces are too few for this text, [0-9]+ are needed"):
        SentencePiece(310).prepare(lambda: iter([text]), tmp_path / "few")
    with pytest.raises(ValueError, match="at least 262"):
        SentencePiece(100)
    with pytest.raises(ValueError, match="not trained yet"):
        SentencePiece().encode(["a"])


@pytest.mark.parametrize("text", ["x", "hello world", "".join(chr(0x4E00 + i) for i in range(90)) * 2])
def test_the_advice_for_the_tokenizer_of_a_tiny_corpus_ends(tmp_path, text):
    with pytest.raises(ValueError, match="--data.tokenizer.vocab_size [0-9]+$") as error:
        SentencePiece(400 if len(text) < 99 else 310).prepare(lambda: iter([text]), tmp_path)
    tokenizer = SentencePiece(int(str(error.value).rsplit(" ", 1)[1]))
    tokenizer.prepare(lambda: iter([text]), tmp_path)
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


def test_a_model_file_must_be_there_be_one_and_have_eos_and_pad(tmp_path):
    import sentencepiece

    refused("no SentencePiece model at", SentencePiece, model_file=str(tmp_path / "none.model"))
    (tmp_path / "bad.model").write_text("hello")
    refused("is not a SentencePiece model", SentencePiece, model_file=str(tmp_path / "bad.model"))
    with (tmp_path / "plain.model").open("wb") as file:  # SentencePiece's own defaults: no pad
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=chapters(3)(), model_writer=file, vocab_size=200, minloglevel=2
        )
    refused("has no pad piece", SentencePiece, model_file=str(tmp_path / "plain.model"))


def test_hugging_face_encodes_saves_and_loads(folder, tmp_path):
    tokenizer = HFTokenizer(folder(eos_token="</s>", pad_token="<pad>"))
    assert tokenizer.decode(tokenizer.encode(TEXTS)) == TEXTS
    assert tokenizer.vocab_size == len(tokenizer.inner) and tokenizer.eos != tokenizer.pad
    tokenizer.save(tmp_path / "saved")
    loaded = Tokenizer.load(tmp_path / "saved")
    assert (loaded.eos, loaded.pad, loaded.vocab_size) == (tokenizer.eos, tokenizer.pad, tokenizer.vocab_size)
    assert loaded.encode(TEXTS) == tokenizer.encode(TEXTS) and loaded.key() == tokenizer.key()


def test_truncation_in_a_tokenizers_file_cuts_no_document_and_leaves_the_key(folder):
    name = folder(eos_token="</s>", pad_token="<pad>")
    inner = Inner.from_file(f"{name}/tokenizer.json")
    inner.enable_truncation(2)
    inner.save(f"{name}/tokenizer.json")
    tokenizer = HFTokenizer(name)
    before = tokenizer.key()
    assert tokenizer.decode(tokenizer.encode(TEXTS)) == TEXTS and tokenizer.key() == before == HFTokenizer(name).key()


def test_a_tokenizer_without_pad_or_eos_names_the_remedy(folder):
    name = folder(eos_token="<|endoftext|>")
    refused(r"no PAD token; name the one to use: --data.tokenizer.pad_token '<\|endoftext\|>'", HFTokenizer, name)
    tokenizer = HFTokenizer(name, pad_token="<|endoftext|>")
    assert tokenizer.pad == tokenizer.eos
    assert tokenizer.decode([[*tokenizer.encode(["x y"])[0], tokenizer.eos, tokenizer.pad]]) == ["x y"]
    name = folder(pad_token="<pad>")
    refused("no EOS token", HFTokenizer, name)
    refused("no token '</nope>' to use as eos", HFTokenizer, name, eos_token="</nope>")


def test_loading_needs_a_known_class_and_a_tokenizer_that_is_there(tmp_path, monkeypatch):
    refused("textflow_tokenizer.json is missing", Tokenizer.load, tmp_path)
    (tmp_path / "textflow_tokenizer.json").write_text('{"class": "os.system", "options": {}}')
    refused("names the tokenizer 'os.system', known are", Tokenizer.load, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("cannot load the tokenizer", HFTokenizer, str(tmp_path / "nothing"))
