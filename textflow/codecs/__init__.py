"""Codecs: text <-> latents."""

from textflow.codecs.base import Codec as Codec
from textflow.codecs.base import LatentSpace as LatentSpace
from textflow.codecs.base import encode_batch as encode_batch
from textflow.codecs.base import latent_batch as latent_batch
from textflow.codecs.resampler import Resampler as Resampler
from textflow.codecs.transformer import TransformerCodec as TransformerCodec
from textflow.codecs.hosted import BertCodec as BertCodec
from textflow.codecs.hosted import T5Codec as T5Codec
from textflow.codecs.cosmos import CosmosCodec as CosmosCodec
from textflow.codecs.cosmos import FeatureResampler as FeatureResampler
from textflow.codecs.vae import TextVAE as TextVAE
from textflow.codecs.embedding import EmbeddingTable as EmbeddingTable
from textflow.codecs.embedding import OneHot as OneHot
from textflow.codecs.embedding import ProjectedOneHot as ProjectedOneHot
