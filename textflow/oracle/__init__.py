"""Worlds whose posterior is exact: a Codec and a Denoiser each."""

from textflow.oracle.base import Atoms as Atoms
from textflow.oracle.base import Exact as Exact
from textflow.oracle.base import Timed as Timed
from textflow.oracle.chain import Chain as Chain
from textflow.oracle.decoders import Reading as Reading
from textflow.oracle.decoders import autoregressive as autoregressive
from textflow.oracle.decoders import masked as masked
from textflow.oracle.imperfect import Imperfect as Imperfect
from textflow.oracle.excess_kl import Score as Score
from textflow.oracle.excess_kl import Yardstick as Yardstick
from textflow.oracle.worlds import WORLDS as WORLDS
from textflow.oracle.worlds import World as World
