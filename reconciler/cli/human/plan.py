"""A plan as a person reads it: what is, what will happen and why, what it costs, what is in the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.drawing import sparkline, weight
from reconciler.cli.human import upkeep
from reconciler.cli.human.findings import findings
from reconciler.cli.human.outlook import outlook
from reconciler.cli.human.trial import comparison
from reconciler.cluster.batch import Outcome
from reconciler.model.authority import Approval
from reconciler.model.message import Message
from reconciler.model.plan import Action, ActionKey, Change, LegForecast, Plan, StageForecast
from reconciler.model.quantities import approximate_tokens, counted, format_tokens
from reconciler.model.status import Phase, StageStatus

PHASE_STYLE = {
    Phase.DONE: "green",
    Phase.TRAINING: "cyan",
    Phase.PREPARING: "cyan",
    Phase.EVALUATING: "cyan",
    Phase.WAITING: "dim",
    Phase.HELD: "yellow",
}
RUNG_MARK = {
    "passed": Text("✓", "green"),
    "failed": Text("✗", "red"),
    "running": Text("▸", "cyan"),
    "untried": Text("·", "dim"),
    "skipped": Text("-", "dim"),
}


def render(plan: Plan) -> RenderableType:
    """The whole plan."""
    forecasts = {forecast.stage: forecast for forecast in plan.forecasts}
    parts: list[RenderableType] = [header(plan), Text()]
    for status in plan.stages:
        parts += [*_stage(status, forecasts.get(status.stage)), Text()]
    parts += outlook(plan)
    parts += _changes(plan.changes)
    parts += _next(plan.actions)
    parts += findings(plan.findings)
    parts += refusals(plan.refusals)
    parts += approval(plan.approval)
    parts += upkeep.retained(plan.retained, plan.actions)
    parts.append(summary(plan))
    return Group(*parts)


def header(plan: Plan) -> Text:
    """Campaign and revision in one line."""
    dirty = " with uncommitted changes" if plan.dirty else ""
    at = f" at commit {plan.revision[:9]}" if plan.revision else " before the first commit"
    return Text.assemble(("Campaign ", "dim"), (plan.campaign, "bold"), (f"{at}{dirty}", "dim"))


def summary(plan: Plan) -> Text:
    """The last line: how much there is to do."""
    if plan.refusals:
        return Text("This plan cannot be applied.", "bold red")
    if plan.done and not plan.actions:
        return Text("Nothing to do: all stages are done.", "bold green")
    jobs = sum(action.job is not None for action in plan.actions)
    files = sum(len(action.files) + (action.job is not None) for action in plan.actions)
    begun = {action.key.stage for action in plan.actions if action.upkeep is None}
    counts = {
        "done": sum(status.phase is Phase.DONE for status in plan.stages),
        "with a job": sum(bool(status.job) for status in plan.stages),
        "to go on now": sum(status.stage in begun and not status.job for status in plan.stages),
        "waiting": sum(status.phase is Phase.WAITING and status.stage not in begun for status in plan.stages),
        "held": sum(status.phase is Phase.HELD for status in plan.stages),
    }
    stages = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    todo = f"{counted(jobs, 'job')} to submit, {counted(files, 'file')} to write{upkeep.todo(plan.actions)}"
    missing = " An approval is missing." if plan.approval.missing else ""
    return Text(f"Plan: {todo}. Stages: {stages}.{missing}", "bold")


def _stage(status: StageStatus, forecast: StageForecast | None) -> Iterator[RenderableType]:
    style = PHASE_STYLE[status.phase]
    tokens = f"{approximate_tokens(status.tokens_done)} of {format_tokens(status.tokens_budget)} tokens"
    yield Text.assemble((status.stage, "bold"), "  ", (status.phase, style), "  ", (tokens, "dim"))
    why = status.message if status.phase is Phase.DONE else f"{status.reason}: {status.message}"
    yield Padding(Text(why, style if status.phase is Phase.HELD else ""), (0, 0, 0, 2), expand=False)
    for found in status.drift:
        yield Padding(Text(str(found), "yellow"), (0, 0, 0, 2), expand=False)
    for rung in status.rungs:
        if rung.outcome in ("failed", "skipped"):
            line = Text.assemble(RUNG_MARK[rung.outcome], " ", rung.strategy, (f"  {rung.message}", "dim"))
            yield Padding(line, (0, 0, 0, 2), expand=False)
    if status.trial is not None and status.phase is not Phase.DONE:
        yield from (Padding(part, (0, 0, 0, 2), expand=False) for part in comparison(status.trial))
    if forecast is not None and status.phase is not Phase.DONE:
        yield Padding(_forecast(forecast), (0, 0, 0, 2), expand=False)


def _forecast(forecast: StageForecast) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    if forecast.trial is not None:
        pilots, tokens = forecast.trial.variants, format_tokens(forecast.trial.tokens)
        grid.add_row("trial", f"{counted(len(pilots), 'pilot')}, {tokens} tokens together: {', '.join(pilots)}")
        grid.add_row("then", f"one of them with the stage's budget, such as {forecast.strategy}")
    else:
        grid.add_row("strategy", forecast.strategy)
    for index, leg in enumerate(forecast.legs):
        prefix = f"leg {index} " if len(forecast.legs) > 1 else ""
        for name, value in _leg(leg):
            grid.add_row(prefix + name, value)
    return grid


def _leg(leg: LegForecast) -> Iterator[tuple[str, str]]:
    terms = " + ".join(f"{text} {term}" for term, text in leg.terms.items())
    shares = {symbol: weight(share) for symbol, share in leg.mixture.items()}
    drawn = " + ".join(f"{text} {symbol}" for symbol, text in shares.items())
    yield "weights", terms if shares == dict(leg.terms) else f"{terms}  =  {drawn}"
    epochs = ", ".join(f"{symbol} {count:.2g}" for symbol, count in leg.epochs.items())
    yield "tokens", f"{format_tokens(leg.tokens)} in {leg.iterations} iterations; epochs {epochs}"
    drawn_rate = sparkline([rate for _, rate in leg.lr_curve], 24, floor=0)
    yield "LR", f"{leg.lr}  {drawn_rate}" + (f"  {leg.boundary}" if leg.boundary else "")


def _changes(changes: Sequence[Change]) -> Iterator[RenderableType]:
    if not changes:
        return
    yield Text("Changed since the last apply", "bold")
    for change in changes:
        if not change.path:
            sign, style = ("+", "green") if change.after == "new" else ("-", "red")
            yield Text(f"  {sign} {change.stage}", style)
            continue
        when = "" if change.started else "  (not started)"
        arrow = f"{change.stage}: {change.path}  {change.before} → {change.after}"
        yield Padding(Text.assemble(("~ ", "yellow"), arrow, (when, "dim")), (0, 0, 0, 2), expand=False)
    yield Text()


def _next(actions: Sequence[Action]) -> Iterator[RenderableType]:
    if not actions:
        return
    yield Text("Next", "bold")
    for action in actions:
        if action.upkeep is not None:
            yield from upkeep.due(action)
            continue
        what = Text.assemble(("  + ", "green"), (f"{action.key.stage}: ", "bold"), action.summary)
        yield what.append(f"  [{action.reason}]", "dim")
        if action.job is not None:
            job = action.job
            asks = f"{job.nodes} node{'s' if job.nodes > 1 else ''} in {job.queue}, script {job.script}"
            yield Text(f"      {asks}", "dim")
    yield Text()


def refusals(told: Sequence[Message]) -> Iterator[RenderableType]:
    if not told:
        return
    yield Text("Refused", "bold red")
    for refused in told:
        text, begins = Text(str(refused)), len(refused.message.partition("\n")[0]) + 1
        text.stylize("dim", begins, begins + len(f"[{refused.code}]"))
        yield Padding(text, (0, 0, 0, 2), expand=False)
    yield Text()


def approval(of: Approval) -> Iterator[RenderableType]:
    """What the campaign's `authority` asks of the commit: what is missing and how to get it, and what is there."""
    if not of.missing and not of.given:
        return
    yield Text("Approval", "bold red" if of.missing else "bold")
    for each in of.missing:
        yield Padding(Text.assemble(("✗ ", "red"), each.what), (0, 0, 0, 2), expand=False)
        yield Padding(Text(each.fix, "dim"), (0, 0, 0, 6), expand=False)
    for given in of.given:
        yield Padding(Text.assemble(("✓ ", "green"), given), (0, 0, 0, 2), expand=False)
    yield Text()


def outcome(done: Outcome) -> Text:
    """What came of one action, in one line."""
    key = ActionKey.parse(done.key)
    stage = key.stage if key else done.key
    mark, style = {"done": ("+", "green"), "adopted": ("+", "green"), "repeated": ("=", "dim")}.get(
        done.kind, ("!", "yellow")
    )
    job = f" as job {done.job_id}" if done.job_id else ""
    word = "" if done.kind == "done" else f" ({done.kind})"
    what = key.kind if key else ""
    told = f": {done.message}" if done.message else ""
    return Text.assemble((f"{mark} ", style), (stage, "bold"), f": {what}{job}{word}{told}")
