"""Text in: sources, tokenizers, packed rows, order, the data module."""

from .base import Document as Document, Source as Source, Tokenizer as Tokenizer
from .bible import Bible as Bible
from .files import Files as Files
from .hub import Hub as Hub, Saved as Saved
from .mixture import Mixture as Mixture
from .news import News as News
from .hosted import Hosted as Hosted
from .huggingface import HuggingFace as HuggingFace
from .sentencepiece import SentencePiece as SentencePiece
from .report import Report as Report
from .packing import Split as Split
from .pairs import Paired as Paired, PairFiles as PairFiles, Pairs as Pairs
from .verses import Verses as Verses
from .module import DataModule as DataModule
from .head import Head as Head
