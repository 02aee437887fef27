"""Text metrics: perplexity, entropy, repetition, memorisation, and the scorer that provides likelihoods."""

from textflow.metrics.token_weights import TOKEN_WEIGHTINGS as TOKEN_WEIGHTINGS, TokenWeighting as TokenWeighting
from textflow.metrics.token_weights import elf_weights as elf_weights, mdlm_weights as mdlm_weights
from textflow.metrics.token_weights import plain_weights as plain_weights
from textflow.metrics.divergence import mauve as mauve
from textflow.metrics.diversity import distinct_n as distinct_n, sequence_repetition as sequence_repetition
from textflow.metrics.entropy import Entropy as Entropy, mean_entropy as mean_entropy
from textflow.metrics.entropy import unigram_entropy as unigram_entropy
from textflow.metrics.intervals import Interval as Interval, bootstrap as bootstrap, jackknife as jackknife
from textflow.metrics.intervals import mean_over_seeds as mean_over_seeds, ratio as ratio, wilson as wilson
from textflow.metrics.memorization import NgramOverlap as NgramOverlap
from textflow.metrics.summary import summarize as summarize
from textflow.metrics.perplexity import corpus_perplexity as corpus_perplexity, token_nll as token_nll
from textflow.metrics.perplexity import sample_perplexity as sample_perplexity
from textflow.metrics.recovery import num_recovered as num_recovered, token_recovery as token_recovery
from textflow.metrics.scorer_output import ScorerOutput as ScorerOutput, TextScorer as TextScorer
from textflow.metrics.scorer import EOS_TEXT as EOS_TEXT, Scorer as Scorer
