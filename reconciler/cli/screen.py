"""Where views are shown: a terminal as wide as it is; anything else so wide that tables and sentences stay whole."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from reconciler.model.problems import harmless

WIDTH_ELSEWHERE = 160


class Screen(Console):
    """A console that shows any text: every piece passes here, whatever it stands in; colours are added after it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def screen() -> Console:
    """Standard output. Colour only on a terminal, and not with NO_COLOR; no guessing of what to highlight."""
    console = Screen(highlight=False)
    return console if console.is_terminal else Screen(highlight=False, width=WIDTH_ELSEWHERE)
