"""Where a campaign strays from the cookbook, as a plan shows it: two lines each, waived or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from reconciler.cli.problems import COLOURS, place
from reconciler.model.problems import Problem


def findings(found: Sequence[Problem]) -> Iterator[RenderableType]:
    """A heading, the findings, and how to learn more; nothing where there are none."""
    if not found:
        return
    yield Text("Against the cookbook", "bold")
    for problem in found:
        yield Padding(_finding(problem), (0, 0, 0, 2), expand=False)
    yield Text(f"  Why, and what to do: reconcile explain {found[0].code}", "dim")
    yield Text()


def _finding(problem: Problem) -> Text:
    waived = problem.waived is not None
    style = "dim" if waived else COLOURS[problem.severity]
    facts = f": {problem.found}" if problem.found else ""
    text = Text.assemble(
        (problem.code, style), f" {problem.severity.value}  {problem.summary}: {problem.detail}{facts}"
    )
    text.append(f"\n    {place(problem.where)}", "dim")
    if waived:
        text.append(f"\n    waived: {problem.waived}")
    return text
