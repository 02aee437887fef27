"""Codecs: text <-> latents."""

from textflow.codecs.base import Codec as Codec
from textflow.codecs.base import LatentSpace as LatentSpace
from textflow.codecs.base import encode_batch as encode_batch
from textflow.codecs.resampler import Resampler as Resampler
from textflow.codecs.transformer import TransformerCodec as TransformerCodec
from textflow.codecs.t5 import T5Codec as T5Codec
from textflow.codecs.vae import TextVAE as TextVAE
from textflow.codecs.embedding import EmbeddingTable as EmbeddingTable
from textflow.codecs.embedding import OneHot as OneHot
from textflow.codecs.embedding import ProjectedOneHot as ProjectedOneHot
