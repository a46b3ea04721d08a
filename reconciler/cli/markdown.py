"""Text as Markdown that a forge renders, where much of the text is a stranger's.

Whatever is put through `prose`, `code` or `fenced` is shown as it is: it begins no markup and no HTML, makes no link,
and calls nobody by an `@`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.model.problems import clip, harmless

LENGTH_MAX: Final = 65_536
"""Of a comment on GitHub, in characters."""
JOINED: Final = "&#8203;"
"""A space of no width: it keeps what a forge would take for a name, a number or an address from being one."""
PLAIN: Final = frozenset(" ,;.%/+-()'\"→←·✓✗…–−×≥≤")
"""What begins nothing in Markdown, besides letters and digits, where it stands within a line."""
CALLS: Final = re.compile(r"&#64;|&#35;|&#58;|(?<=gh)-(?=\d)|(?<=www)(?=\.)", re.IGNORECASE)
"""`@name`, `#1`, `https://`, `:smile:`, `GH-1`, `www.`: what a forge makes something of, encoded or not."""
BEGINS: Final = re.compile(r"[-+]|(?<=\d)[.)](?= )")
"""A list, where a line begins with it."""
LINES_MAX: Final = 120
"""Of one fenced text."""


def prose(text: str, width_max: int = 600) -> str:
    """A stranger's words within a sentence, in one line."""
    shown = clip(harmless(text).replace("\n", " "), width_max)
    plain = re.sub(r":(?= |$)", "\0", shown.strip())
    encoded = "".join(c if c.isalnum() or c in PLAIN or c == "\0" else f"&#{ord(c)};" for c in plain)
    encoded = CALLS.sub(lambda found: found[0] + JOINED, encoded.replace("\0", ":"))
    begins = re.match(r"\d*", encoded)
    at = begins.end() if begins else 0
    starts = BEGINS.match(encoded, at)
    return f"{encoded[:at]}&#{ord(encoded[at])};{encoded[at + 1 :]}" if starts else encoded


def code(text: str, width_max: int = 200) -> str:
    """A stranger's name or value, as it is written; in a table too."""
    shown = clip(harmless(text).replace("\n", " "), width_max).replace("|", "¦").strip()
    if not shown:
        return ""
    fence = _longer_than_any("`", shown, 1)
    padding = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def fenced(lines: Iterable[str], language: str) -> str:
    """Lines as they are, coloured as that language; of many, the first."""
    every = [harmless(line).replace("\n", " ") for line in lines]
    shown = [clip(line, 200) for line in every[:LINES_MAX]]
    if len(every) > LINES_MAX:
        shown.append(f"… {len(every) - LINES_MAX} more lines")
    fence = _longer_than_any("`", "\n".join(shown), 3)
    return "\n".join([f"{fence}{language}", *shown, fence])


def folded(summary: str, body: str) -> str:
    """A part that opens when it is clicked on; both are Markdown already."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _longer_than_any(mark: str, text: str, least: int) -> str:
    longest = max((len(run) for run in re.findall(f"{mark}+", text)), default=0)
    return mark * max(least, longest + 1)


# --- within the limit ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a comment that is shown whole or not at all."""

    text: str
    name: str
    """What is said to be missing where there is no room for it."""
    short: bool = False
    """It always has room."""


def fitted(blocks: Sequence[Block], way_on: str, limit: int = LENGTH_MAX) -> str:
    """Blocks in their order, as many as there is room for, and a line that names the rest."""
    room = limit - length(way_on) - 300 - sum(length(block.text) + 2 for block in blocks if block.short)
    kept: list[str] = []
    left: list[str] = []
    for block in blocks:
        cost = 0 if block.short else length(block.text) + 2
        if block.short or cost <= room:
            kept.append(block.text)
            room -= cost
        else:
            left.append(block.name)
    if left:
        kinds = ", ".join(f"{left.count(name)} × {name}" for name in dict.fromkeys(left))
        kept.append(f"**Cut:** a comment holds {limit:,} characters; left out: {clip(kinds, 150)}. {way_on}")
    return "\n\n".join(kept) + "\n"


def length(text: str) -> int:
    """Characters as the strictest forge counts them: those beyond the first plane as two."""
    return len(text.encode("utf-16-le", "replace")) // 2
