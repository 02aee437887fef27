"""Figures of `textflow diagnose`, drawn from its rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .style import figure

Rows = list[dict[str, Any]]


def draw_dabi(rows: Rows, path: Path) -> bool:
    """Flips along the residual and in random directions, against the length of the disturbance."""
    sweep = sorted((row for row in rows if row["K"] == 8), key=lambda row: row["scale"])
    f = [row["scale"] for row in sweep]
    size = f"n = {sweep[0]['n']} tokens, K = 8, t = {sweep[0]['t']:.2f}"
    with figure(path, f"DABI [ours] is the ratio of the two lines. {size}; 8 draws at f = 1, 4 elsewhere.", 2) as axes:
        for axis, (along, random, unit) in zip(
            axes,
            (("flips", "random_flips", "share of tokens flipped"), ("nats", "random_nats", "nats a token")),
            strict=True,
        ):
            axis.plot(f, [row[along] for row in sweep], "o-", label="along the residual")
            axis.plot(f, [row[random] for row in sweep], "s--", label="in random directions")
            axis.set(xlabel="length of the disturbance f (residuals)", ylabel=unit)
        axes[0].legend(loc="upper left")
    return True


def draw_tube(rows: Rows, path: Path) -> bool:
    """Observed and predicted flips against the blur."""
    s = [row["blur"] for row in rows]
    with figure(
        path, f"Last time before the text of K steps; boundaries of the codec's readout. n = {rows[0]['n']}."
    ) as axis:
        for key, mark, name in (
            ("observed", "o-", "observed"),
            ("predicted", "s--", "tube law, s f(0+) / √(2π)"),
            ("surrogate", "^:", "the channel's noise alone [ours]"),
        ):
            axis.plot(s, [row[key] for row in rows], mark, label=name)
        for row in rows:
            axis.annotate(
                f"K={row['K']}", (row["blur"], row["observed"]), (3, -9), textcoords="offset points", fontsize=7
            )
        axis.set(xlabel="blur s (standard deviations of the latents)", ylabel="share of tokens flipped")
        axis.set_ylim(bottom=0)
        axis.legend()
    return True


def draw_rollin(rows: Rows, path: Path) -> bool:
    """Terminal and cumulative flips against time, side by side."""
    with figure(
        path, f"One step from noised real text, and the ODE's own states. n = {rows[0]['n']} tokens.", 2
    ) as axes:
        for steps in sorted({row["K"] for row in rows}):
            inner = [row for row in rows if row["K"] == steps and "flips" in row]
            axes[0].plot([row["t"] for row in inner], [row["flips"] for row in inner], "o-", label=f"K = {steps}")
            axes[1].plot([row["t"] for row in inner], [row["cumulative"] for row in inner], "o-", label=f"K = {steps}")
        finest = [row for row in rows if row["K"] == max(r["K"] for r in rows) and row.get("bayes_error") is not None]
        axes[0].plot(
            [r["t"] for r in finest],
            [r["bayes_error"] for r in finest],
            "k:",
            label="Bayes error: 1 - mean max p(token | z)",
        )
        axes[0].set(
            title="one step (roll-in)", xlabel="t (0 noise, 1 text)", ylabel="share of tokens flipped", ylim=(0, None)
        )
        axes[1].set(title="the sampler's states (cumulative)", xlabel="t (0 noise, 1 text)", ylim=(0, None))
        axes[0].legend()
    return True


def draw_stiffness(rows: Rows, path: Path) -> bool:
    """Stiffness of each step."""
    with figure(
        path, f"Spectral norm of a step's Jacobian [ours], mean of {rows[0]['rows']} samples, from below."
    ) as axis:
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
