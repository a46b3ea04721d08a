"""What a person sees of long work: a bar that is drawn over on a terminal, plain lines in a job's log."""

from __future__ import annotations

import sys
import time

BAR_CELLS = 30
LINE_BYTES = 16 << 20


class Progress:
    """On a terminal a bar, drawn at most ten times a second; else one line per tenth of the work, but none for less
    than LINE_BYTES."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, max(total, 1), 0
        self.terminal = sys.stdout.isatty()
        self.began = self.drawn = time.monotonic()
        self.due = self._next()

    def _next(self) -> int:
        return min(self.total, self.done + max(self.total // 10, LINE_BYTES))

    def add(self, count: int) -> None:
        self.done = min(self.total, self.done + count)
        now = time.monotonic()
        if self.terminal:
            if now - self.drawn >= 0.1 or self.done == self.total:
                self._draw(now)
        elif self.done >= self.due:
            say(f"{self.what}: {self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB")
            self.due = self._next()

    def _draw(self, now: float) -> None:
        self.drawn, cells = now, BAR_CELLS * self.done // self.total
        rate = self.done / max(now - self.began, 1e-3)
        left = f", {(self.total - self.done) / rate:.0f} s left" if 0 < self.done < self.total else ""
        bar = "█" * cells + "░" * (BAR_CELLS - cells)
        end = "\n" if self.done == self.total else ""
        sys.stdout.write(f"\r\x1b[K{self.what} {bar} {self.done / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s{left}{end}")
        sys.stdout.flush()


def say(line: str) -> None:
    print(shown(line), flush=True)


def shown(text: str) -> str:
    """One line that a terminal does not obey: names of files are whoever's who made them."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
