"""Where views are shown: a terminal as wide as it is; anything else so wide that tables and sentences stay whole."""

from __future__ import annotations

from rich.console import Console

WIDTH_ELSEWHERE = 160


def screen() -> Console:
    """Standard output. Colour only on a terminal, and not with NO_COLOR; no guessing of what to highlight."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_ELSEWHERE)
