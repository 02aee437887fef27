"""Text in: sources, tokenizers, packed rows, order, the data module."""

from textflow.data.base import Document as Document, Source as Source, Tokenizer as Tokenizer
from textflow.data.sources.bible import Bible as Bible
from textflow.data.sources.files import Files as Files
from textflow.data.sources.hub import Hub as Hub, Saved as Saved
from textflow.data.sources.mixture import Mixture as Mixture
from textflow.data.sources.news import News as News
from textflow.data.tokenizers.hosted import Hosted as Hosted
from textflow.data.tokenizers.huggingface import HuggingFace as HuggingFace
from textflow.data.tokenizers.sentencepiece import SentencePiece as SentencePiece
from textflow.data.stats import Report as Report
from textflow.data.build import Split as Split
from textflow.data.sources.pairs import Paired as Paired, PairFiles as PairFiles, Pairs as Pairs
from textflow.data.sources.verses import Verses as Verses
from textflow.data.module import DataModule as DataModule
from textflow.data.preview import Head as Head
