"""A table in the fullest form that the terminal has room for: a number that is cut off says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

UNBOUNDED = 10_000


@dataclass(frozen=True, slots=True)
class Fitting:
    """The same table with ever less in it; the first that fits is shown, or else the last."""

    forms: tuple[Table, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._chosen(console, options)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._chosen(console, options))

    def _chosen(self, console: Console, options: ConsoleOptions) -> Table:
        free = options.update(max_width=UNBOUNDED)
        fits = (form for form in self.forms if Measurement.get(console, free, form).maximum <= options.max_width)
        return next(fits, self.forms[-1])
