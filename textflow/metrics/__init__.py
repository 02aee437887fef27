"""Measures of texts: perplexity, entropy, repetition, and the scorer that gives the likelihoods."""

from .diversity import clean_share as clean_share
from .diversity import distinct as distinct
from .diversity import mean_repetition as mean_repetition
from .diversity import ngram_diversity as ngram_diversity
from .diversity import sequence_repetition as sequence_repetition
from .entropy import Entropy as Entropy
from .entropy import mean_entropy as mean_entropy
from .entropy import unigram_entropy as unigram_entropy
from .perplexity import CorpusPerplexity as CorpusPerplexity
from .perplexity import corpus_perplexity as corpus_perplexity
from .perplexity import elf_weights as elf_weights
from .perplexity import mdlm_weights as mdlm_weights
from .perplexity import sample_perplexity as sample_perplexity
from .perplexity import token_nll as token_nll
from .scorer import Scored as Scored
from .scorer import Scorer as Scorer
