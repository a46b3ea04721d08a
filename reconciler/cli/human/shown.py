"""One attempt as a person reads it: what it is made of, what ran, what came of it, and whether it can be made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.drawing import sparkline, weight
from reconciler.cli.human.history import MARK, jobs, origin
from reconciler.cli.human.why import gate_lines
from reconciler.cli.reproducing import Again
from reconciler.model.problems import clip
from reconciler.model.quantities import approximate_tokens, counted, format_bytes
from reconciler.planner.shown import Made, Shown

DIGITS = 12
MADE_TOLD = 12


def render(found: Shown, made: Sequence[Again]) -> RenderableType:
    """All of it."""
    story = found.story
    head = Text.assemble(
        MARK[story.outcome], " ", (story.stage, "bold"), f"  {story.strategy}  ", (story.attempt, "cyan")
    )
    head.append(f"  {story.outcome}; campaign {found.campaign} on {found.name}")
    parts: list[RenderableType] = [head, _under(origin(story))]
    parts += _titled("Data and rate", [_legs(found)])
    parts += _titled("Source", [_lineage(found)])
    parts += _titled("Code", [_code(found)])
    parts += _titled("What ran", [jobs(story.events)])
    parts += _titled("Checkpoints", list(_checkpoints(found.made)))
    if found.gates:
        parts += _titled("Verdict", [line for gate in found.gates for line in gate_lines(gate)])
    parts += _titled("Made again", list(_again(found, made)))
    return Group(*parts, Text())


def _titled(title: str, lines: Sequence[RenderableType]) -> list[RenderableType]:
    return [Text(), Text(title, "bold"), *(_under(line) for line in lines)]


def _legs(found: Shown) -> Table:
    grid = _grid()
    for index, leg in enumerate(found.legs):
        prefix = f"leg {index} " if len(found.legs) > 1 else ""
        terms = " + ".join(f"{text} {term}" for term, text in leg.weights.items())
        shares = {source: weight(share) for source, share in leg.shares.items()}
        drawn = " + ".join(f"{text} {source}" for source, text in shares.items())
        grid.add_row(f"{prefix}weights", terms if shares == dict(leg.weights) else f"{terms}  =  {drawn}")
        lists = ", ".join(f"{source} {digest[:DIGITS]}" for source, digest in leg.lists.items())
        grid.add_row(f"{prefix}lists", f"content {lists}")
        grid.add_row(f"{prefix}tokens", f"{approximate_tokens(leg.tokens)} in {leg.iterations} iterations")
        drawn_rate = sparkline([rate for _, rate in leg.lr_curve], 48, floor=0)
        grid.add_row(f"{prefix}LR", f"{leg.lr}  {drawn_rate}")
    grid.add_row("model", f"{found.model}, {counted(found.data_parallel, 'data-parallel rank')}")
    grid.add_row("recipe", found.digest)
    return grid


def _lineage(found: Shown) -> Table:
    grid = _grid()
    for part in found.lineage:
        tokens = approximate_tokens(part.tokens)
        grid.add_row(part.stage, f"{part.attempt}/leg-{part.leg}, {part.iterations} iterations, {tokens} tokens")
    grid.add_row("from", found.begins)
    return grid


def _code(found: Shown) -> RenderableType:
    if not found.code:
        return Text("not on record: it was made again from the cluster, which does not tell", "dim")
    grid = _grid()
    for code in found.code:
        grid.add_row("reconcile", f"{code.program or 'a checkout'}, templates {code.templates}")
        grid.add_row("launcher", code.checkout)
    return grid


def _checkpoints(made: Sequence[Made]) -> Iterator[Text]:
    if not made:
        yield Text("none is on record", "dim")
    if len(made) > MADE_TOLD:
        yield Text(f"{counted(len(made) - MADE_TOLD, 'earlier one')}", "dim")
    for each in made[-MADE_TOLD:]:
        losses = "  ".join(f"{name.rsplit('.', 1)[0]} {loss:.4f}" for name, loss in each.losses.items())
        yield Text(f"leg-{each.leg}/global_step{each.iteration}, {format_bytes(each.size_bytes)}  {losses}".rstrip())


def _again(found: Shown, made: Sequence[Again]) -> Iterator[RenderableType]:
    if not made:
        yield Text("what its jobs were made from is not on record, so this cannot be tried", "yellow")
    for each in made:
        at = each.commit[:9] or "no commit"
        if each.manifests:
            yield Text(each.manifests, "yellow")
        if each.recipe:
            yield Text.assemble(("✗ ", "red"), f"the manifests at {at}: {clip(each.recipe, 400)}")
            continue
        yield Text.assemble(
            ("✓ ", "green"), f"the manifests at {at} come to the recipe {found.digest[:DIGITS]}…, digest for digest"
        )
        same = [script for script in each.scripts if script.same]
        if same:
            yield Text.assemble(("✓ ", "green"), f"and to {counted(len(same), 'script')}, byte for byte:")
        for script in same:
            yield Text(f"    {script.job}  {script.digest[:DIGITS]}  {script.told}", "dim")
        for script in each.scripts:
            if not script.same:
                yield Text.assemble(("✗ ", "red"), f"{script.job}  {script.digest[:DIGITS]}  {clip(script.told, 300)}")


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    return grid


def _under(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, 2), expand=False)
