"""A proposal as text: the subject of its commit, and the evidence below it, which is the pull request's body too."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cli.drawing import sparkline
from reconciler.cli.human.status import loss_curve
from reconciler.model.observed import Observed
from reconciler.model.problems import clip
from reconciler.model.verdict import Level
from reconciler.planner.proposal import Proposal

CHARS_MAX = 50_000
"""A forge takes some 65,000 in a pull request; the verdicts come from the cluster."""
LINE_CHARS_MAX = 300
NUMBERS_TOLD = 24
"""Of one gate."""
MARK = {Level.PASS: "✓", Level.WARN: "!", Level.FAIL: "✗"}


def title(proposal: Proposal) -> str:
    """What the commit does, in a line."""
    return f"{proposal.stage}: {proposal.strategy} is next, since {proposal.failures[-1].strategy} failed"


def body(proposal: Proposal, observed: Observed) -> str:
    """Which gates failed, their numbers, what was compared, and the losses; evidence is set in by four columns, so that
    no forge takes a word of it for anything but text."""
    text = "\n".join(_lines(proposal, observed)).encode("utf-8", "replace").decode()
    return text if len(text) <= CHARS_MAX else f"{text[:CHARS_MAX]}\n\n(cut: the verdicts have the rest)"


def _lines(proposal: Proposal, observed: Observed) -> Iterator[str]:
    condition = " Its `if` goes, which asks for a failure above it." if proposal.unconditionally else ""
    yield f"Moves {proposal.strategy} to the top of the ladder of {proposal.stage} in {proposal.campaign}.{condition}"
    yield "Once this is merged and applied, it is trained from the stage's source; what has failed is not tried again."
    for failure in proposal.failures:
        yield ""
        yield f"    ✗ {failure.strategy}  {failure.attempt}"
        for gate in failure.gates:
            yield f"      {MARK[gate.level]} {clip(gate.gate)}: {clip(gate.message, LINE_CHARS_MAX)}"
            numbers = sorted(gate.numbers.items()) if gate.level is Level.FAIL else []
            for name, number in numbers[:NUMBERS_TOLD]:
                yield f"          {clip(name)} = {number:.6g}"
            if len(numbers) > NUMBERS_TOLD:
                yield f"          … and {len(numbers) - NUMBERS_TOLD} more"
        if not failure.gates:
            yield f"      {clip(failure.message, LINE_CHARS_MAX)}"
    yield from _losses(proposal)
    curve = loss_curve(observed, proposal.status)
    known = [value for value in curve if value is not None]
    if known:
        yield ""
        drawn = sparkline(curve, 48)
        yield f"    training loss of {proposal.status.strategy}  {known[0]:.3f} {drawn} {known[-1]:.3f}"
    yield ""
    yield f"Applied was {proposal.commit}."
    yield "If it is closed without a merge, it is not proposed again for these verdicts."


def _losses(proposal: Proposal) -> Iterator[str]:
    before, after = proposal.status.losses_before, proposal.status.losses
    if not after:
        return
    yield ""
    yield f"    losses of {proposal.status.strategy}, before → after"
    for name, loss in after.items():
        was = before.get(name)
        told = f"{was:.3f} → {loss:.3f}  {loss - was:+.3f}" if was is not None else f"{loss:.3f}"
        yield f"      {clip(name)}  {told}"
