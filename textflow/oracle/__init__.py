"""Oracle tasks with an exact posterior: a prior over texts, a Codec and a Denoiser each."""

from textflow.oracle.base import GaussianAtoms as GaussianAtoms
from textflow.oracle.base import ExactPosterior as ExactPosterior
from textflow.oracle.base import PerPositionDenoiser as PerPositionDenoiser
from textflow.oracle.chain import Chain as Chain
from textflow.oracle.decoders import DecodingTrace as DecodingTrace
from textflow.oracle.decoders import decode_autoregressive as decode_autoregressive
from textflow.oracle.decoders import decode_masked as decode_masked
from textflow.oracle.imperfect import PerturbedPosterior as PerturbedPosterior
from textflow.oracle.excess_kl import OracleScore as OracleScore
from textflow.oracle.excess_kl import ExcessKLScorer as ExcessKLScorer
from textflow.oracle.tasks import ORACLE_TASKS as ORACLE_TASKS
from textflow.oracle.tasks import OracleTask as OracleTask
