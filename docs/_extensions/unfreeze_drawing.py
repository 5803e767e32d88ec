"""The directive ``unfreeze-drawing``: which stage learns in which epoch, as an SVG.

The cells come from the functions that decide this in training, so that the drawing
cannot differ from the code. Colours are the theme's, and so follow its dark mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sktransfer._training.schedule import begin_with_probe, plan_unfreezing

# Of the default backbone.
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4", "head")

# In units of the drawing, which is about as wide as a phone's screen in pixels.
WIDTH, LABELS, ROW, GAP, HEADER = 360, 62, 34, 4, 26


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Draw a cell of one kind: learning, waiting or frozen."""
    return (
        f'<rect class="stage-{kind}" x="{x:g}" y="{y:g}" width="{width:g}" '
        f'height="{height:g}" rx="4"/>'
    )


def text(x: float, y: float, words: str, kind: str = "note") -> str:
    """Write words centred at a point."""
    return f'<text class="stage-{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def describe(plan: Sequence[int]) -> str:
    """Say in words what is drawn, epoch by epoch, for those who cannot see it."""
    later = (
        f"epoch {epoch}: {', '.join(STAGES[-1 - depth :])} learn"
        for epoch, depth in enumerate(plan[1:], start=2)
    )
    prefix = ", ".join(STAGES[: -1 - max(plan)])
    epochs = "; ".join(["epoch 1: head is solved", *later])
    return f"{epochs}. Always frozen: {prefix}."


def draw(plan: Sequence[int]) -> str:
    """Draw a plan as SVG: one row per stage, one column per epoch."""
    column = (WIDTH - LABELS) / len(plan)
    n_frozen = len(STAGES[: -1 - max(plan)])
    height = HEADER + ROW * len(STAGES)
    parts = [
        text(LABELS + column * (epoch + 0.5), 17, f"epoch {epoch + 1}")
        for epoch in range(len(plan))
    ]
    for row, stage in enumerate(STAGES):
        y = HEADER + row * ROW
        parts.append(text(LABELS / 2 - 2, y + ROW / 2 + 3, stage, "name"))
        if row < n_frozen:
            continue
        for epoch, depth in enumerate(plan):
            kind = "learns" if stage in STAGES[-1 - depth :] else "waits"
            x = LABELS + column * epoch
            parts.append(rect(x, y, column - GAP, ROW - GAP, kind))
            # The first epoch is the linear probe.
            word = "frozen" if kind == "waits" else "learns" if epoch else "solved"
            middle = x + (column - GAP) / 2
            parts.append(text(middle, y + ROW / 2 + 3, word, f"{kind}-word"))
    if n_frozen:
        wide, tall = WIDTH - LABELS - GAP, ROW * n_frozen - GAP
        parts.append(rect(LABELS, HEADER, wide, tall, "frozen"))
        at = LABELS + wide / 2
        middle = HEADER + tall / 2
        parts.append(text(at, middle - 6, "frozen prefix", "name"))
        parts.append(text(at, middle + 13, "computed once, then kept"))
    label = escape(describe(plan), quote=True)
    return (
        f'<svg class="stages" role="img" aria-label="{label}" '
        f'viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>Which stage learns in which epoch</title>{''.join(parts)}</svg>"
    )


class UnfreezeDrawing(SphinxDirective):
    """``.. unfreeze-drawing:: gradual`` with ``:depth:`` and ``:epochs:``."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 - the form that docutils asks for
        "depth": directives.nonnegative_int,
        "epochs": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Draw; the drawing's label says the same in words."""
        plan = begin_with_probe(
            plan_unfreezing(
                self.arguments[0], self.options["depth"], self.options["epochs"]
            )
        )
        return [nodes.raw("", draw(plan), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known to Sphinx."""
    app.add_directive("unfreeze-drawing", UnfreezeDrawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
