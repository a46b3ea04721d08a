"""The record as a person reads it: attempt after attempt, each with its commit, its jobs and its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.model.problems import clip
from reconciler.model.quantities import approximate_tokens, counted
from reconciler.planner.timeline import Event, Story, Timeline

MARK = {
    "passed": Text("✓", "green"),
    "failed": Text("✗", "red"),
    "pilot": Text("▪", "dim"),
    "not judged": Text("▸", "cyan"),
}
EVENTS_TOLD = 12
"""The first and the last jobs of an attempt; a stage of weeks has a hundred."""

VOUCHED_TOLD = 4


def render(of: Timeline) -> RenderableType:
    """One campaign in one workspace."""
    parts: list[RenderableType] = [
        Text.assemble(("Campaign ", "dim"), (of.campaign, "bold"), (f" on {of.name}", "dim"))
    ]
    for story in of.stories:
        parts += [Text(), *_story(story)]
    if not of.stories:
        parts.append(Text("Nothing is on record yet.", "dim"))
    if of.unreadable:
        parts += [
            Text(),
            Text(f"{counted(of.unreadable, 'file')} on record cannot be read and are left out.", "yellow"),
        ]
    return Group(*parts, Text())


def _story(story: Story) -> Iterator[RenderableType]:
    yield Text.assemble(
        MARK[story.outcome],
        " ",
        (story.stage, "bold"),
        f"  {story.strategy}  ",
        (story.attempt, "cyan"),
        f"  {story.outcome}",
    )
    yield _under(origin(story))
    for line in story.recipe:
        yield _under(Text(line))
    yield _under(jobs(story.events))
    tokens = f"{approximate_tokens(story.tokens)} tokens trained" if story.tokens else "no tokens trained"
    yield _under(Text(f"{tokens}" + (f"; {story.verdict}" if story.verdict else "")))


def origin(of: Story) -> Text:
    """By which commit and whom, and what approval it had."""
    if not of.commit:
        return Text("planned before the first commit", "dim")
    text = Text(f"planned at {of.commit[:9]}", "dim")
    text.append(" with uncommitted changes" if of.dirty else "")
    author, subject = clip(of.author, 80), clip(of.subject, 100)
    text.append(f" by {author}: {subject}" if of.author else ", a commit that this clone does not have")
    for each in of.vouched[:VOUCHED_TOLD]:
        text.append(f"\napproved: {clip(each, 300)}")
    return text


def jobs(events: tuple[Event, ...]) -> Table:
    """A row a job; of many the first and the last."""
    table = Table.grid(padding=(0, 2))
    for style in ("dim", "", "", "", "dim"):
        table.add_column(style=style)
    half = EVENTS_TOLD // 2
    left = len(events) - EVENTS_TOLD
    for number, event in enumerate(events):
        if left > 0 and number == half:
            table.add_row("", f"… {left} more …")
        if left <= 0 or number < half or number >= len(events) - half:
            by = event.by.rsplit(":", 1)[0]
            table.add_row(moment(event.at_s), event.what, clip(event.job, 40), clip(event.came, 300), clip(by, 60))
    return table


def moment(at_s: float) -> str:
    """By this machine's clock and zone, as people write it."""
    try:
        return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "at an odd time"


def _under(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, 2), expand=False)
