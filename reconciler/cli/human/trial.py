"""The pilots of a trial side by side: losses on the compared sets, their mean as a dot on one scale, and the choice."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.drawing import dot
from reconciler.cli.human.fitting import Fitting
from reconciler.model.quantities import approximate_tokens, format_tokens
from reconciler.model.status import PilotStatus, TrialStatus

MARK = {
    "passed": Text("✓", "green"),
    "failed": Text("✗", "red"),
    "running": Text("▸", "cyan"),
    "untried": Text("·", "dim"),
}
CHOSEN = Text("★", "bold green")
"""Beside the mark of the variant that gets the stage's budget."""
SCALE_CHARS = 24


def comparison(trial: TrialStatus) -> Iterator[RenderableType]:
    """A heading, the table, what the gates said of each pilot, and how the choice was made."""
    budget = f"{len(trial.pilots)} pilots of {format_tokens(trial.tokens)} tokens"
    yield Text.assemble(("trial of ", "dim"), trial.strategy, (f"  {budget}, compared at their ends", "dim"))
    yield Padding(Fitting((_table(trial), _table(trial, picture=False))), (0, 0, 0, 2), expand=False)
    for pilot in trial.pilots:
        if pilot.message:
            told = Text.assemble(MARK[pilot.outcome], " ", pilot.variant, (f": {pilot.message}", "dim"))
            yield Padding(told, (0, 0, 0, 2), expand=False)
    if trial.chosen:  # what an open trial waits for is the stage's own message
        yield Padding(Text.assemble((trial.chosen, "bold"), ": ", trial.message), (0, 0, 0, 2), expand=False)


def _table(trial: TrialStatus, *, picture: bool = True) -> Table:
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    means = [pilot.mean for pilot in trial.pilots if pilot.mean is not None and math.isfinite(pilot.mean)]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    view.add_column("", no_wrap=True)
    view.add_column("VARIANT", no_wrap=True)
    for name in ("TOKENS", *trial.compare, "MEAN"):
        view.add_column(name, justify="right", no_wrap=True)
    picture = picture and bool(means)
    if picture:
        # From the lowest mean to the highest, so that what differs is seen; a loss of zero is on no such scale.
        view.add_column(f"{low:.4f}{f'{high:.4f}'.rjust(SCALE_CHARS - len(f'{low:.4f}'))}", no_wrap=True)
    for pilot in trial.pilots:
        scale = [dot(pilot.mean, low, high, SCALE_CHARS)] if picture else []
        view.add_row(*_row(pilot, trial), *scale)
    return view


def _row(pilot: PilotStatus, trial: TrialStatus) -> list[Text]:
    chosen = pilot.variant == trial.chosen
    losses = [pilot.losses.get(name) for name in trial.compare]
    return [
        Text.assemble(MARK[pilot.outcome], CHOSEN if chosen else " "),
        Text(pilot.variant, "bold" if chosen else ""),
        Text(approximate_tokens(pilot.tokens)),
        *(Text("" if loss is None else f"{loss:.4f}") for loss in losses),
        Text("" if pilot.mean is None else f"{pilot.mean:.4f}", "bold" if chosen else ""),
    ]
