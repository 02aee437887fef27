"""Protocol stories: the exact law of a grammar as scorer, from texts to records."""

import json
import math
from pathlib import Path

import pytest
import yaml

from tests.helpers.report_page import page_section
from tests.helpers.story_grammars import STORY, UNEVEN
from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.user_errors import Fails, refused
from textflow.cli.app import main
from textflow.data.stories import GRAMMARS, TALES
from textflow.diagnostics import StoryAgreement
from textflow.eval.grammar_scorer import GrammarScorer, find_grammar
from textflow.eval.measure import reference_records
from textflow.eval.protocol import load_protocol
from textflow.eval.record import STORY_KEYS, protocol_hash
from textflow.eval.table import table_columns
from textflow.oracle.stories import entropy, log_prob

BROKEN = STORY.replace("took the old", "took the new")


@pytest.fixture(scope="module")
def scorer() -> GrammarScorer:
    return GrammarScorer("tales", load_protocol("stories"))


def test_a_text_has_its_exact_likelihood_and_one_outside_the_language_is_counted(scorer: GrammarScorer) -> None:
    scored = scorer.score([STORY, BROKEN, " ", "No story."])
    assert scored.nll.tolist() == [-log_prob(TALES, STORY), 0, 0] and scored.tokens.tolist()[1:] == [0, 0]
    assert (scored.empty, scored.nonfinite, scored.unscored, scored.truncated) == (1, 2, 0, 0)
    assert scored.characters is not None and scored.characters.tolist() == [len(STORY), 0, 0]
    assert scored.ids[0].count(scored.ids[0][-1]) == 3, "a full stop is a word"
    assert scorer.score(["", "No."]).perplexity is None


def test_the_shares_are_those_of_the_metric_of_training_and_lie_in_their_intervals(scorer: GrammarScorer) -> None:
    texts, metric = [STORY, STORY, BROKEN, "No story.", ""], StoryAgreement("tales")
    metric.update(texts)
    measured, expected = scorer.text_metrics(texts), metric.compute()
    assert math.isnan(expected.pop("jobs")), "no job is meant again in a tale"
    assert {f"stories/{name}" for name in expected} | {"stories/excess_nll", "stories/bigrams"} == set(measured)
    assert set(measured) == set(STORY_KEYS) - {"stories/jobs"}
    for name, share in expected.items():
        value, low, high = measured[f"stories/{name}"]
        assert value == pytest.approx(share, abs=1e-7) and low is not None and high is not None
        assert 0 <= low < high <= 1 and low - 1e-9 <= value <= high + 1e-9
    assert set(scorer.text_metrics(["No."])) == {"stories/valid", "stories/in_grammar", "stories/bigrams"}


def test_the_excess_of_texts_of_the_language_is_zero_within_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRAMMARS, "uneven", UNEVEN)
    scorer, texts = GrammarScorer("uneven", load_protocol("stories")), [UNEVEN.sample(f"5/{i}") for i in range(300)]
    excess = scorer.text_metrics(texts)["stories/excess_nll"]
    assert excess.low is not None and excess.high is not None and excess.low < 0 < excess.high
    rare = next(text for text in texts if "saw" in text)
    alone = scorer.text_metrics([rare, "no text"])["stories/excess_nll"].value
    assert alone == pytest.approx(-log_prob(UNEVEN, rare) - entropy(UNEVEN)) and alone > 0.1


def test_records_of_stories_have_their_own_table_and_another_grammar_another_protocol(scorer: GrammarScorer) -> None:
    real, shuffled = reference_records([STORY, STORY], scorer)
    assert real["stories/valid"] == 1 and shuffled["stories/valid"] == 0 and real["n"] == 2
    assert list(table_columns([real]))[:3] == ["stories/valid", "stories/in_grammar", "stories/bigrams"]
    assert "perplexity" not in table_columns([real]) and "perplexity" in table_columns([real, {"perplexity": 3.0}])
    other, _ = reference_records([STORY], GrammarScorer("sentences", load_protocol("stories")))
    assert (
        real["scorer_hash"] != other["scorer_hash"]
        and load_protocol("stories").deviations(scorer, "grammar", 1024) == []
    )
    assert protocol_hash(real) == protocol_hash(real | {"stories/valid": 0.5})


def test_a_run_on_other_text_and_a_file_without_a_grammar_are_refused(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text(STORY)
    refused("no grammar is given; .*--scorer sentences or stories or tales", find_grammar, texts, None)
    refused("'gpt2' is not a grammar", find_grammar, texts, "gpt2")
    assert find_grammar(texts, "stories") == "stories"
    for data, given, message in (
        ({"source": "Bible"}, None, "was trained on Bible"),
        ({"source": "Stories"}, None, "data.pack false"),
        ({"source": "Stories", "pack": False}, "sentences", "on the grammar stories, not sentences"),
    ):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": data}))
        refused(message, find_grammar, tmp_path, given)
    assert find_grammar(tmp_path, None) == "stories"


@pytest.mark.integration
def test_a_run_on_stories_is_scored_and_its_curves_are_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Fails
) -> None:
    recipe = yaml.safe_load(write_recipe(tmp_path).read_text())
    source = {"class_path": "Stories", "init_args": {"grammar": "sentences", "num_documents": 400}}
    recipe["data"] |= {"source": source, "tokenizer": "WordLevel", "pack": False, "seq_length": 20}
    del recipe["data"]["files"]
    parts = recipe["model"]["init_args"]
    parts["codec"] = {"class_path": "EmbeddingTable", "init_args": {"dim": 8}}
    parts["objective"]["init_args"]["time_schedule"], recipe["codec"] = "LogitNormal", None
    curves = {"grammar": "sentences", "every_n_steps": 6, "num_samples": 4, "steps": [1, 2]}
    recipe["trainer"]["callbacks"] = [{"class_path": "StoryCurves", "init_args": curves}]
    (tmp_path / "stories.yaml").write_text("# tiny stories\n" + yaml.safe_dump(recipe))
    run = tmp_path / "run"
    assert main(["fit", str(tmp_path / "stories.yaml")]) == 0
    capsys.readouterr()
    command = ["eval", str(run), "--protocol", "stories", "--steps", "1,2", "-n", "8", "--device", "cpu"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("valid", "bound", "pronouns", "seq-rep-4", "† all rows: n 8 for 1024"))
    records = {(r["text"], r.get("steps")): r for r in map(read, (run / "eval").glob("*.json"))}
    assert set(records) == {("real", None), ("shuffled", None), ("generated", 1), ("generated", 2)}
    real = records["real", None]
    assert real["stories/valid"] == real["stories/bound"] == 1 and abs(real["stories/excess_nll"]) < 1
    assert records["generated", 2]["nfe"] >= 2 and math.isfinite(records["generated", 2]["stories/valid"])
    assert main(["report", str(run), "--out", str(tmp_path / "page.html"), "--samples", "0"]) == 0
    section = page_section((tmp_path / "page.html").read_text(), "stories")
    for title in ("Valid texts by steps (sentences)", "Valid texts over training"):
        assert f"<h3>{title}</h3>" in section
    assert "hold no number" not in (tmp_path / "page.html").read_text()
    fails([*command, "--dtype", "float16"], "leave --mauve and --dtype out")


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8"))
