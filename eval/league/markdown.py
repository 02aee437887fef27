"""Titles and captions of a league's tables, and all of them as a Markdown page."""

from collections.abc import Sequence

from ..record import Record
from ..systems import DIAGNOSTIC_STEPS
from .claims import few_and_many
from .plan import CODEC_SHARE, SEARCH
from .tables import make_tables, timed_steps

CAPTIONS = {
    "valid": "Valid texts, %, with Wilson's 95% interval: texts of the language, with all of their agreements.",
    "bigrams": "Pairs of neighbouring words that the language has, % of those in the samples with the edges of texts, "
    "with Wilson's 95% interval: graded where no text is valid.",
    "bound": "Agreements that hold, % of those in texts that some order of the grammar fits / share of such texts, %.",
    "excess": "Mean of -ln p over the valid texts minus the entropy of the language, nats per text, with a 95% "
    "interval; 0 where all texts of the grammar are as likely.",
    "variety": "Unigram entropy within a text, nats / 4-grams that a text repeats, % / texts that differ, % / valid "
    "texts that the training text has, % (held-out text shows how many are so by chance).",
    "evaluations": "Network evaluations per text at K sampling steps, + passes of a readout with a network of its own.",
    "map": "DABI of flips with its 95% interval (how much more the denoiser's error flips tokens than random noise "
    "of its length; a dash where neither flips any), CCI (share of token pairs of which one was chosen after "
    "the network had received the other), and stiffness of the steepest step / of the whole map (largest "
    "stretch of a small change, a lower bound from 2 texts), at K = {steps}; wall seconds per text at K = "
    "{timed}.",
    "samples": "First text of each cell at K = {timed}.",
    "claims": "Claims of arXiv 2606.30705 by valid texts, % (of a system with hardly any, by pairs of words), of "
    "samplers at K = {few}, DABI and CCI at K = {steps}: holds or no where 95% intervals do not overlap, open "
    "where they do, a dash without numbers. CCI has no verdict, since it follows from the sampler.",
    "fits": "Learning rates of the search with its criterion, the chosen one last; the criterion after the final fit, "
    "which does not compare systems; optimizer steps and processor minutes of that fit, and of the codec before it.",
}
TITLES = {
    "valid": "Valid texts",
    "bigrams": "Pairs of words",
    "bound": "Constraints held",
    "excess": "Excess negative log-likelihood",
    "variety": "Variety",
    "evaluations": "Network evaluations",
    "map": "Diagnostics and cost",
    "samples": "Samples",
    "claims": "What of the paper holds",
    "fits": "Fits",
}


def captions_of(steps: Sequence[int]) -> dict[str, str]:
    """Caption of each table."""
    numbers = {"steps": DIAGNOSTIC_STEPS, "timed": timed_steps(steps), "few": few_and_many(steps)[0]}
    return {name: text.format(**numbers) for name, text in CAPTIONS.items()}


def summary(records: Sequence[Record]) -> str:
    """Text, size and rules of the league in a few sentences."""
    first = records[0]
    protocol, truth = first["protocol"], first["truth"]
    return (
        f"Text: {protocol['grammar']} of a small English whose distribution is known, entropy {truth['entropy']:.2f} "
        f"nats and {truth['words']:.1f} words per text. n = {protocol['n']} texts per cell, seed {protocol['seed']}. "
        f"Each system had {first['fit']['minutes']:g} processor minutes of one thread for its optimizer steps "
        f"({CODEC_SHARE:.0%} for a codec that is fitted first), after {SEARCH}. "
        "One training seed: differences between systems may be chance. The "
        "quickstart was developed on stories like these, the other recipes on King James text."
    )


def render_markdown(records: Sequence[Record], steps: Sequence[int]) -> str:
    """All tables as a Markdown page."""
    parts, captions = ["# League of systems", summary(records)], captions_of(steps)
    for name, table in make_tables(records, steps).items():
        parts += [f"## {TITLES[name]}", captions[name], table.markdown()]
        parts += [f"- {line}" for line in refusal_lines(records)] if name == "map" else []
    return "\n\n".join(parts) + "\n"


def refusal_lines(records: Sequence[Record]) -> list[str]:
    """Why a diagnostic does not apply to a system, a line each."""
    return [f"{record['name']}: no {name}: {why}." for record in records for name, why in record["refusals"].items()]
