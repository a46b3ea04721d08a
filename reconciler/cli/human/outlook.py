"""What a campaign will still cost, as one table: every stage and the total, each number with its range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.human.fitting import Fitting
from reconciler.model.plan import CampaignForecast, Plan, StageForecast
from reconciler.model.quantities import counted
from reconciler.model.spans import UNKNOWN, hours, numbers, sizes

TOTAL = "total"
COLUMNS = ("stage", "iterations", "jobs", "node-hours", "time", "saves", "checkpoints")


def outlook(plan: Plan) -> Iterator[RenderableType]:
    """The table, what it rests on, and how it stands to what may be spent; nothing for a campaign that is done."""
    total = plan.outlook
    done = {status.stage for status in plan.stages if status.phase == "Done"}
    left = [forecast for forecast in plan.forecasts if forecast.stage not in done]
    if total is None or not left:
        return
    yield Text("To come, if nothing fails", "bold")
    forms = tuple(_table(left, total, without) for without in ((), ("saves",), ("saves", "iterations")))
    yield Padding(Fitting(forms), (0, 0, 0, 2), expand=False)
    for name, told in _rests_on(left).items():
        yield _under(f"{name}: {told}", "dim")
    resolved = {forecast.stage for forecast in left}
    for way_on, unknown in (
        ("the first job measures the speed; the cluster's throughput declares it before", resolved),
        ("it cannot be said yet what they will train", set(total.unknown) - resolved),
    ):
        which = ", ".join(name for name in total.unknown if name in unknown)
        if which:
            yield _under(f"Unknown and not in the total: {which} ({way_on})", "dim")
    yield _under(*_allowed(total))
    yield Text()


def _under(text: str, style: str) -> Padding:
    return Padding(Text(text, style), (0, 0, 0, 2), expand=False)


def _table(left: Sequence[StageForecast], total: CampaignForecast, without: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    names = [name for name in COLUMNS if name not in without]
    for name in names:
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    for row in _rows(left, total):
        table.add_row(*(row.get(name, "") for name in names), style="bold" if row["stage"] == TOTAL else "")
    return table


def _rows(left: Sequence[StageForecast], total: CampaignForecast) -> Iterator[dict[str, str]]:
    for forecast in left:
        yield {
            "stage": forecast.stage,
            "iterations": f"{forecast.iterations:,}",
            "jobs": numbers(forecast.jobs),
            "node-hours": numbers(forecast.node_hours),
            "time": hours(forecast.hours),
            "saves": f"{forecast.saves:,}",
            "checkpoints": sizes(forecast.storage_bytes),
        }
        if forecast.trial is not None:
            yield {
                "stage": f"  {counted(len(forecast.trial.variants), 'pilot')}",
                "jobs": numbers(forecast.trial.jobs),
                "node-hours": numbers(forecast.trial.node_hours),
            }
    known = any(forecast.node_hours is not None for forecast in left)
    yield {
        "stage": TOTAL,
        "node-hours": numbers(total.node_hours) if known else UNKNOWN,
        "time": hours(total.hours) if known else UNKNOWN,
        "checkpoints": sizes(total.storage_bytes),
    }


def _rests_on(left: Sequence[StageForecast]) -> dict[str, str]:
    """What is the same for all stages once, the rest by stage."""
    told: dict[str, str] = {}
    for name, word in (("speed", "speed"), ("waits", "queue waits"), ("checkpoints", "checkpoints")):
        by_stage = {forecast.stage: forecast.rests_on[name] for forecast in left if name in forecast.rests_on}
        if len(set(by_stage.values())) == 1:
            told[word] = next(iter(by_stage.values()))
        else:
            told |= {f"{word} of {stage}": text for stage, text in by_stage.items()}
    return told


def _allowed(total: CampaignForecast) -> tuple[str, str]:
    """How spending stands to the bound, and in which style that is said."""
    spent = f"{total.spent:.3g} of {total.bound:.6g} node-hours are spent"
    if total.over:
        return f"{spent}; even the least that is to come exceeds what is left", "bold red"
    if total.may_be_over:
        return f"{spent}; what is to come may exceed what is left", "yellow"
    return spent, "dim"
