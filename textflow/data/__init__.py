"""Training data: document sources, tokenizers, packed rows, batch samplers and the data module."""

from typing import TYPE_CHECKING

from textflow.runtime.lazy import lazy_names
from textflow.data.base import Document as Document, Source as Source, Tokenizer as Tokenizer
from textflow.data.sources.bible import Bible as Bible
from textflow.data.sources.files import TextFiles as TextFiles
from textflow.data.sources.handbook import Handbook as Handbook
from textflow.data.sources.hub import HubDataset as HubDataset, SavedDataset as SavedDataset
from textflow.data.sources.mixture import Mixture as Mixture
from textflow.data.sources.news import News as News
from textflow.data.sources.stories import Stories as Stories
from textflow.data.tokenizers.hosted import LazyHFTokenizer as LazyHFTokenizer
from textflow.data.tokenizers.huggingface import HFTokenizer as HFTokenizer
from textflow.data.tokenizers.sentencepiece import SentencePiece as SentencePiece
from textflow.data.tokenizers.word_level import WordLevel as WordLevel
from textflow.data.stats import DataStats as DataStats
from textflow.data.splits import SplitRules as SplitRules
from textflow.data.sources.pairs import PairSource as PairSource, JsonlPairs as JsonlPairs, HubPairs as HubPairs
from textflow.data.sources.verses import Verses as Verses

_HOMES = {  # what needs Lightning, imported when it is first used
    "DataModule": "textflow.data.module",
    "FirstDocuments": "textflow.data.preview",
}
if TYPE_CHECKING:
    from textflow.data.module import DataModule as DataModule
    from textflow.data.preview import FirstDocuments as FirstDocuments
else:
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
