"""The comment of a pull request: what the change means, what it costs, what is against it; then what would be done.

One comment is edited in place: its first line says which it is, and what it said before is folded at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from reconciler.cli.drawing import bar, sparkline, weight
from reconciler.cli.human.plan import RUNG_MARK, summary
from reconciler.cli.markdown import Block, code, fenced, fitted, folded, prose, table
from reconciler.cli.problems import place
from reconciler.model.plan import Plan, Span
from reconciler.model.problems import Problem, clip
from reconciler.model.quantities import approximate_tokens, counted
from reconciler.model.spans import UNKNOWN, hours, numbers, sizes
from reconciler.model.status import Phase
from reconciler.planner.difference import RungDifference, Side, StageDifference

DETAILS: Final = "<!-- reconcile:details -->"
"""Before it stands what is kept of a comment when a later one takes its place."""
EARLIER: Final = "<!-- reconcile:earlier -->"
"""After it stand earlier versions, the newest first."""
FOLD: Final = re.compile(r"(?m)^<details><summary>Earlier version ([0-9]{1,6})</summary>$")
LINES_TOLD: Final = 30
"""Of one list."""


@dataclass(frozen=True, slots=True)
class Told:
    """All that a comment is made of."""

    campaign: str
    commit: str
    base: str
    """The commit that the change is compared with; empty if it is compared with none."""
    uncompared: str
    """Why it is compared with none."""
    found: Sequence[StageDifference]
    scripts_differ: Mapping[str, Sequence[str]]
    """Stage → unified differences of its scripts."""
    plan: Plan | None
    """None where nothing is on record yet."""
    before: Plan | None
    """What the base would have done, by the same look."""
    looked_at: str
    """`the record` or `the cluster`."""
    scripts: Mapping[str, str]
    """Path → text, of what the plan would submit."""
    findings: Sequence[Problem]
    findings_before: Sequence[Problem]


def comment(told: Told, earlier: str = "") -> str:
    """Markdown within the limit of a comment; `earlier` is the text of the comment that it takes the place of."""
    against = f" {told.base[:9]}" if told.base else ""
    way_on = f"All of it: {code(f'reconcile diff{against}')} and {code(f'reconcile plan {told.campaign} --scripts')}."
    blocks = [
        Block(marker(told.campaign) + "\n" + _title(told), "title", short=True),
        *_meaning(told),
        *_cost(told),
        *_rules(told),
        *_approval(told),
        Block(DETAILS, "", short=True),
        *_stages(told),
        *_next(told),
        *_scripts(told),
        Block(EARLIER, "", short=True),
        *(Block(version, "earlier version") for version in _versions(told.campaign, earlier)),
    ]
    return fitted(blocks, way_on)


def marker(campaign: str) -> str:
    """The first line, by which a comment is found again."""
    return f"<!-- reconcile:plan {campaign} -->"


def _title(told: Told) -> str:
    changed = [stage.stage for stage in told.found]
    what = ", ".join(code(name) for name in changed[:4]) + (f" and {len(changed) - 4} more" if changed[4:] else "")
    change = f"{what} {'changes' if len(changed) == 1 else 'change'}" if changed else "nothing that is wanted changes"
    if told.uncompared:
        change = "the whole of it"
    against = f" against {code(told.base[:9])}" if told.base else ""
    lines = [f"### {code(told.campaign)}: {change}", f"Commit {code(told.commit[:9])}{against}, by {told.looked_at}."]
    if told.plan is not None:
        lines.append(f"**{prose(summary(told.plan).plain)}** Digest {code(told.plan.digest)}")
    return "\n\n".join(lines)


# --- what it means ---------------------------------------------------------------------------------------------------


def _meaning(told: Told) -> Iterator[Block]:
    if told.uncompared:
        yield Block(f"Not compared: {prose(told.uncompared)}.", "comparison")
        yield from _legs_forecast(told.plan)
    for stage in told.found:
        yield Block(f"**{code(stage.stage)}**{_whole(stage)}\n\n{_stage(stage)}".rstrip(), "stage's changes")


def _is_new(stage: StageDifference) -> bool:
    return any(not change.path and change.after == "new" for change in stage.changes)


def _whole(stage: StageDifference) -> str:
    gone = any(not change.path and change.after == "removed" for change in stage.changes)
    return " is new" if _is_new(stage) else " is removed" if gone else ""


def _stage(stage: StageDifference) -> str:
    lines = [line for rung in stage.rungs for line in _rung(rung)]
    for change in stage.changes:
        if change.path and ".mixture." not in change.path:  # those are drawn
            lines += [f"! {change.path}: {clip(change.before, 80)} → {clip(change.after, 80)}"]
    return fenced(lines, "diff") if lines else ""


def _rung(rung: RungDifference) -> Iterator[str]:
    one, other = rung.before, rung.after
    sign = "+" if one is None else "-" if other is None else " "
    yield f"{sign} strategy {rung.strategy}"
    legs = max(len(side.legs) if side is not None else 0 for side in (one, other))
    for number in range(legs):
        yield from _both(_weights(one, number), _weights(other, number), f"leg {number}" if legs > 1 else "")
        yield from _both(_tokens(one, number), _tokens(other, number))
        yield from _both(_rate(one, number), _rate(other, number))
    for sign, side in (("-", one), ("+", other)):
        if side is not None and side.unresolved:
            yield f"{sign} {side.unresolved}"


def _both(before: Sequence[str], after: Sequence[str], title: str = "") -> Iterator[str]:
    if title:
        yield f"  {title}"
    if list(before) == list(after):
        yield from (f"    {line}" for line in before)
        return
    yield from (f"-   {line}" for line in before)
    yield from (f"+   {line}" for line in after)


def _weights(side: Side | None, number: int) -> list[str]:
    """The mixture as bars, a term a line."""
    if side is None or number >= len(side.legs):
        return []
    leg = side.legs[number]
    return _bars("weights", leg.weights) + (
        [] if set(leg.weights) == set(leg.shares) else _bars("drawn", {k: weight(v) for k, v in leg.shares.items()})
    )


def _bars(title: str, weights: Mapping[str, str]) -> list[str]:
    wide = max((len(name) for name in weights), default=0)
    lines = []
    for index, (name, text) in enumerate(weights.items()):
        lines.append(f"{title if index == 0 else '':<8} {bar(_share(text))} {name:<{min(wide, 24)}} {text}")
    return lines


def _share(text: str) -> float:
    try:
        return float(Fraction(text.rstrip("…")))
    except (ValueError, ZeroDivisionError):
        return 0.0


def _tokens(side: Side | None, number: int) -> list[str]:
    if side is None or number >= len(side.legs):
        return []
    leg = side.legs[number]
    return [f"tokens   {approximate_tokens(leg.tokens)} in {leg.iterations:,} iterations"]


def _rate(side: Side | None, number: int) -> list[str]:
    if side is None or number >= len(side.legs):
        return []
    leg = side.legs[number]
    return [f"LR       {sparkline([rate for _, rate in leg.lr_curve], 40, floor=0)} {leg.lr}"]


def _legs_forecast(plan: Plan | None) -> Iterator[Block]:
    """Without a base: what each stage will train, as the plan has it."""
    for forecast in plan.forecasts if plan is not None else ():
        lines = [f"strategy {forecast.strategy}"]
        for leg in forecast.legs:
            lines += _bars("weights", leg.terms)
            lines.append(f"tokens   {approximate_tokens(leg.tokens)} in {leg.iterations:,} iterations")
            lines.append(f"LR       {sparkline([rate for _, rate in leg.lr_curve], 40, floor=0)} {leg.lr}")
        yield Block(f"**{code(forecast.stage)}**\n\n{fenced(lines, 'text')}", "stage's outlook")


# --- what it costs ---------------------------------------------------------------------------------------------------


def _cost(told: Told) -> Iterator[Block]:
    rows = [[code(stage.stage), *_priced(stage)] for stage in told.found if stage.before != stage.after]
    if rows:
        head = ["node-hours, from nothing and if nothing fails", "before", "after", "difference"]
        yield Block(table(head, rows[:LINES_TOLD]), "table of costs")
    now = told.plan.outlook if told.plan is not None else None
    if now is None:
        return
    was = told.before.outlook if told.before is not None else None
    text = f"Spent: {now.spent:.3g} of {now.bound:.6g} node-hours."
    if now.node_hours.high > 0:
        come = f"Still to come if nothing fails: **{numbers(now.node_hours)} node-hours**"
        if was is not None and was.node_hours != now.node_hours:
            come += f" ({_more(was.node_hours, now.node_hours)}; without this change {numbers(was.node_hours)})"
        text = f"{come}, {hours(now.hours)}, {sizes(now.storage_bytes)} of checkpoints. {text}"
    if now.unknown:
        text += f" What is to come is not known of {', '.join(code(name) for name in now.unknown[:LINES_TOLD])}."
    yield Block(text, "outlook")


def _priced(stage: StageDifference) -> list[str]:
    if _is_new(stage):
        return ["", numbers(stage.after), numbers(stage.after)]
    return [numbers(stage.before), numbers(stage.after), _more(stage.before, stage.after)]


def _more(before: Span | None, after: Span | None) -> str:
    if before is None or after is None:
        return UNKNOWN
    low, high = after.low - before.low, after.high - before.high
    return f"{low:+.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:+.3g} to {high:+.3g}"


# --- what is against it ----------------------------------------------------------------------------------------------


def _rules(told: Told) -> Iterator[Block]:
    if not told.findings and not told.findings_before:
        return
    known = {(problem.code, problem.detail, problem.waived) for problem in told.findings_before}
    lines = []
    for problem in told.findings:
        new = bool(told.base) and (problem.code, problem.detail, problem.waived) not in known
        state = "waived" if problem.waived is not None else problem.severity.value
        facts = f": {problem.found}" if problem.found else ""
        line = f"- {'**new** ' if new else ''}{code(problem.code)} {state}: {prose(problem.summary)}: "
        line += f"{prose(problem.detail + facts)} {code(place(problem.where))}"
        lines.append(line + (f"<br>waived: {prose(problem.waived)}" if problem.waived is not None else ""))
    now = {(problem.code, problem.detail, problem.waived) for problem in told.findings}
    gone = len([key for key in known if key not in now])
    if gone and told.base:
        lines.append(f"- {counted(gone, 'finding')} of {code(told.base[:9])} no longer apply")
    yield Block("\n".join(["**Against the cookbook**", "", *_some(lines)]), "list of rules")


def _approval(told: Told) -> Iterator[Block]:
    """What a person has to do, or has to know, before this can be carried out."""
    plan = told.plan
    if plan is None:
        text = "Nothing of this campaign is on record here yet, so there is no plan to review: plan it on the cluster."
        yield Block(f"**What is missing**\n\n- {text}", "what is missing")
        return
    lines = [f"- refused, {code(each.code)}: {prose(each.message)}" for each in plan.refusals]
    lines += [
        f"- {code(status.stage)} is held, {code(status.reason)}: {prose(status.message)}"
        for status in plan.stages
        if status.phase is Phase.HELD
    ]
    if plan.outlook is not None and (plan.outlook.over or plan.outlook.may_be_over):
        sure = "exceeds" if plan.outlook.over else "may exceed"
        lines.append(f"- what is to come {sure} the node-hours that are left")
    lines += [f"- before it is applied: {prose(each.what)}" for each in plan.approval.missing]
    lines += [f"- {code(s.stage)}, {code(d.reason)}: {prose(d.message, 600)}" for s in plan.stages for d in s.drift]
    if plan.dirty:
        lines.append("- these manifests are not committed")
    drifted = told.before.changes if told.before is not None else ()
    if drifted:
        named = ", ".join(dict.fromkeys(code(change.stage) for change in drifted[:LINES_TOLD]))
        lines.append(f"- merged before and not applied yet: {counted(len(drifted), 'field')} of {named}")
    if not lines and plan.actions:
        lines.append("- nothing but a review: exactly the plan above is applied, or nothing, with what has changed")
    if lines:
        yield Block("\n".join(["**What is missing**", "", *_some(lines)]), "list of what is missing")


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"- … {len(lines) - LINES_TOLD} more"] if len(lines) > LINES_TOLD else []
    return [*lines[:LINES_TOLD], *more]


# --- what would be done ----------------------------------------------------------------------------------------------


def _stages(told: Told) -> Iterator[Block]:
    if told.plan is None:
        return
    rows = []
    for status in told.plan.stages:
        rungs = " ".join(f"{RUNG_MARK[rung.outcome].plain} {code(rung.strategy)}" for rung in status.rungs[:12])
        rows.append([code(status.stage), str(status.phase), rungs, prose(status.message, 300)])
    yield Block(folded("Where the stages are", table(["stage", "phase", "strategies", "why"], rows)), "table of stages")


def _next(told: Told) -> Iterator[Block]:
    if told.plan is None or not told.plan.actions:
        return
    lines = []
    for action in told.plan.actions:
        job = action.job
        asks = f", {counted(job.nodes, 'node')} in {code(job.queue)}" if job is not None else ""
        lines.append(f"- {code(action.key.stage)}: {prose(action.summary)} ({code(action.reason)}){asks}")
    yield Block("\n".join(["**Next**", "", *_some(lines)]), "list of actions")


def _scripts(told: Told) -> Iterator[Block]:
    for text in (text for texts in told.scripts_differ.values() for text in texts if text):
        lines = text.splitlines()
        which = lines[0].removeprefix("--- before: ")
        yield Block(folded(f"Script of {prose(which)}, before and after", fenced(lines, "diff")), "script difference")
    for path, text in told.scripts.items():
        lines = text.splitlines()
        yield Block(folded(f"<code>{prose(path)}</code>, {len(lines)} lines", fenced(lines, "bash")), "script")


# --- earlier versions ------------------------------------------------------------------------------------------------


def _versions(campaign: str, earlier: str) -> Iterator[str]:
    """The comment that was there, less its details, and those that were folded in it already."""
    head, found, rest = earlier.replace("\r\n", "\n").partition(f"\n{DETAILS}\n")
    if not found or not head.startswith(marker(campaign)):
        return
    folds = FOLD.split(rest.rpartition(f"\n{EARLIER}\n")[2])
    number = int(folds[1]) + 1 if folds[1:] else 1
    yield _fold(number, head.removeprefix(marker(campaign)).strip())
    for past, body in zip(folds[1::2], folds[2::2], strict=True):
        yield _fold(int(past), body.strip().removesuffix("</details>").strip())


def _fold(number: int, body: str) -> str:
    return folded(f"Earlier version {number}", body)
