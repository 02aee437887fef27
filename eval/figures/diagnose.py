"""Figures of `textflow diagnose`, drawn from its rows."""

from collections.abc import Callable
from pathlib import Path

from .style import Record, figure

Rows = list[Record]


def draw_dabi(rows: Rows, path: Path) -> bool:
    """Flips along the residual and in random directions, against the length of the perturbation."""
    sweep = sorted((row for row in rows if row["K"] == 8), key=lambda row: row["scale"])
    f = [row["scale"] for row in sweep]
    size = f"n = {sweep[0]['n']} tokens, K = 8, t = {sweep[0]['t']:.2f}"
    with figure(path, f"DABI [ours] is the ratio of the two lines. {size}; 8 draws at f = 1, 4 elsewhere.", 2) as axes:
        for axis, key, unit in zip(axes, ("flips", "nats"), ("share of tokens flipped", "nats per token"), strict=True):
            axis.plot(f, [row[key] for row in sweep], "o-", label="along the residual")
            axis.plot(f, [row[f"random_{key}"] for row in sweep], "s--", label="in random directions")
            axis.set(xlabel="length of the perturbation f (residuals)", ylabel=unit)
        axes[0].legend(loc="upper left")
    return True


def draw_tube(rows: Rows, path: Path) -> bool:
    """Observed and predicted flips against the blur."""
    s = [row["blur"] for row in rows]
    caption = f"Last time before the text of K steps; boundaries of the codec's readout. n = {rows[0]['n']}."
    with figure(path, caption) as axis:
        axis.plot(s, [row["observed"] for row in rows], "o-", label="observed")
        axis.plot(s, [row["predicted"] for row in rows], "s--", label="tube law, s f(0+) / √(2π)")
        axis.plot(s, [row["surrogate"] for row in rows], "^:", label="the channel's noise alone [ours]")
        for row in rows:
            point = (row["blur"], row["observed"])
            axis.annotate(f"K={row['K']}", point, (3, -9), textcoords="offset points", fontsize=7)
        axis.set(xlabel="blur s (standard deviations of the latents)", ylabel="share of tokens flipped")
        axis.set_ylim(bottom=0)
        axis.legend()
    return True


def draw_rollin(rows: Rows, path: Path) -> bool:
    """Terminal and cumulative flips against time, side by side."""
    caption = f"One step from noised real text, and the ODE's own states. n = {rows[0]['n']} tokens."
    depths = sorted({row["K"] for row in rows})
    with figure(path, caption, 2) as (one_step, own_states):
        for steps in depths:
            inner = [row for row in rows if row["K"] == steps and "flips" in row]
            t = [row["t"] for row in inner]
            one_step.plot(t, [row["flips"] for row in inner], "o-", label=f"K = {steps}")
            own_states.plot(t, [row["cumulative"] for row in inner], "o-", label=f"K = {steps}")
        finest = [row for row in rows if row["K"] == depths[-1] and row.get("bayes_error") is not None]
        bayes_error = [row["bayes_error"] for row in finest]
        one_step.plot([row["t"] for row in finest], bayes_error, "k:", label="Bayes error: 1 - mean max p(token | z)")
        for axis, title in ((one_step, "one step (roll-in)"), (own_states, "the sampler's states (cumulative)")):
            axis.set(title=title, xlabel="t (0 noise, 1 text)", ylim=(0, None))
        one_step.set_ylabel("share of tokens flipped")
        one_step.legend()
    return True


def draw_stiffness(rows: Rows, path: Path) -> bool:
    """Stiffness of each step."""
    caption = f"Spectral norm of a step's Jacobian [ours], a lower bound; mean of {rows[0]['rows']} samples."
    with figure(path, caption) as axis:
        for row in rows:
            steps = row["step_norm"]
            axis.plot([(i + 0.5) / len(steps) for i in range(len(steps))], steps, "o-", label=f"K = {row['K']}")
        axis.set(xlabel="share of the steps done", ylabel="stiffness of the step", yscale="log")
        axis.legend()
    return True


FIGURES: dict[str, Callable[[Rows, Path], bool]] = {
    "dabi": draw_dabi,
    "tube": draw_tube,
    "rollin": draw_rollin,
    "stiffness": draw_stiffness,
}
