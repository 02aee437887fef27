"""Codecs: text <-> latents."""

from textflow.codecs.base import Codec as Codec
from textflow.codecs.transformer import Learned as Learned
from textflow.codecs.t5 import T5 as T5
from textflow.codecs.embedding import Table as Table
