"""The chain of a stage as a person reads it: the answer first, then what it rests on, then what would change it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from reconciler.cli.human.plan import PHASE_STYLE, RUNG_MARK
from reconciler.model.verdict import GateResult, Level
from reconciler.planner.why import JobWhy, RungWhy, Why

LEVEL_STYLE = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def render(chain: Why) -> RenderableType:
    """All of it."""
    dirty = " with uncommitted changes" if chain.dirty else ""
    at = f"commit {chain.commit[:9]}{dirty}" if chain.commit else "before the first commit"
    style = PHASE_STYLE[chain.phase]
    parts: list[RenderableType] = [
        Text.assemble((chain.stage, "bold"), " is ", (chain.phase, style), f": {chain.reason}"),
        _under(Text(chain.message)),
        _under(Text(chain.meaning, "dim")),
        *(_under(Text(line, "yellow")) for line in chain.drift),
        Text(),
        Text("What is wanted", "bold"),
        _under(Text(f"{at}, campaign {chain.campaign}", "dim")),
        *(_under(Text(line)) for line in chain.manifest),
        *(_under(Text(f"rule {line}", "yellow")) for line in chain.rules),
    ]
    if chain.rungs:
        parts += [Text(), Text("What came of it", "bold")]
    for rung in chain.rungs:
        parts += _rung(rung)
    if chain.untried:
        parts.append(_under(Text(f"· not reached: {', '.join(chain.untried)}", "dim")))
    parts += [Text(), Text("What would change it", "bold"), _under(Text(chain.way_on))]
    parts += [_under(Text(f"next, {line}")) for line in chain.following]
    return Group(*parts)


def _under(text: Text, columns: int = 2) -> Padding:
    return Padding(text, (0, 0, 0, columns), expand=False)


def _rung(rung: RungWhy) -> Iterator[RenderableType]:
    head = Text.assemble(RUNG_MARK[rung.outcome], " ", (rung.strategy, "bold"), f" {rung.outcome}")
    yield _under(head.append(f": {rung.because}" if rung.because else ""))
    for line in (*rung.pilots, *rung.recipe):
        yield _under(Text(line), 4)
    if rung.jobs_before:
        yield _under(Text(f"{rung.jobs_before} earlier jobs", "dim"), 4)
    for job in rung.jobs:
        yield _under(_job(job), 4)
    for gate in rung.gates:
        text, *numbers = gate_lines(gate)
        yield _under(text, 4)
        yield from (_under(line, 6) for line in numbers)
    if rung.path:
        yield _under(Text(rung.path, "dim"), 4)


def _job(job: JobWhy) -> Text:
    text = Text(f"{job.what}: {job.job} {job.state}".replace("  ", " "))
    text.append(f"; {job.logged}" if job.logged else "")
    origin = [part for part in (job.by, f"commit {job.commit[:9]}" if job.commit else "") if part]
    return text.append(f"  [{', '.join(origin)}]" if origin else "", "dim")


def gate_lines(gate: GateResult) -> Iterator[Text]:
    """What a gate said, and its numbers where it did not just pass."""
    yield Text.assemble(f"gate {gate.gate} ", (gate.level.upper(), LEVEL_STYLE[gate.level]), f": {gate.message}")
    if gate.numbers and gate.level is not Level.PASS:
        yield Text("  ".join(f"{name} {value:.6g}" for name, value in gate.numbers.items()), "dim")
