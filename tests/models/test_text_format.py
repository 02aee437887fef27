"""TextFormat: what a model knows of its text."""

import pytest

from tests.helpers.tiny_generator import untrained
from tests.helpers.word_tokenizer import Words
from textflow.models.text_format import TextFormat


def test_a_model_without_a_tokenizer_says_how_to_get_one_and_none_can_be_set_alone() -> None:
    model = untrained()
    with pytest.raises(ValueError, match=r"no tokenizer: load it with textflow\.load"):
        model.generate()
    with pytest.raises(AttributeError):
        model.tokenizer = Words([])
    model.text_format = TextFormat(words := Words([]))
    assert model.tokenizer is words
