"""What the report says: one campaign at one look, as plain values for the page. Pure.

The same functions as behind `status`, `why`, `ledger` and `plan`; nothing is decided or measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.model.faults import FAULTS
from reconciler.model.observed import Observed, Unread
from reconciler.model.plan import CampaignForecast, Plan, StageForecast
from reconciler.model.problems import Problem
from reconciler.model.quantities import approximate_tokens
from reconciler.model.reasons import WAYS_ON
from reconciler.model.spans import UNKNOWN, hours, numbers
from reconciler.model.status import Phase, StageStatus
from reconciler.page.curves import POINTS_MAX, Curves, curves
from reconciler.page.flows import Flows, flows
from reconciler.page.links import Link, Places
from reconciler.page.timeline import Drawn, clock, drawn
from reconciler.planner import ledger as books
from reconciler.planner.desired import Desired
from reconciler.planner.ledger import Answer
from reconciler.planner.lists import Trouble
from reconciler.planner.look import Look, whole
from reconciler.planner.why import Why, chain

QUIET: Final = "quiet"
BUSY: Final = "busy"
WARN: Final = "warn"
STOP: Final = "stop"


@dataclass(frozen=True, slots=True)
class Headline:
    """The state in a line, and the next step."""

    tone: str
    """`quiet`: all done; `busy`: it goes on by itself; `warn`: something was not read; `stop`: a person decides."""
    state: str
    because: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number at a glance."""

    name: str
    value: str
    about: str
    share: float | None = None
    """Of a whole, 0 to 1; None where it is none."""


@dataclass(frozen=True, slots=True)
class StagePart:
    """One stage."""

    status: StageStatus
    why: Why
    place: Link
    rungs: Mapping[str, Link]
    """Strategy → its line."""
    forecast: StageForecast | None
    share: float | None
    """Of its tokens that are trained; None where the look could not tell."""
    open: bool
    """Whether it is what a person looks for first."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a whole look shows beside that."""

    timeline: Drawn | None
    """None before the first job."""
    curves: Curves
    ledger: Answer


@dataclass(frozen=True, slots=True)
class Page:
    """The whole of it."""

    campaign: str
    model: str
    cluster: str
    place: Link
    commit: Link
    dirty: bool
    looked_at: str
    """When, by the cluster's clock."""
    source: str
    """What was looked at: `the cluster` or `the record`."""
    headline: Headline
    tiles: tuple[Tile, ...]
    stages: tuple[StagePart, ...]
    datasets: Mapping[str, Link]
    """Symbol → its manifest's line."""
    read: Read | None
    """None where the look was not whole."""
    flows: Flows
    outlook: CampaignForecast | None
    forecasts: tuple[StageForecast, ...]
    findings: tuple[tuple[Problem, Link], ...]
    refusals: tuple[str, ...]
    places: Places

    @property
    def commits(self) -> dict[str, Link]:
        """Every commit that an apply was made of, as it is shown."""
        jobs = (job for stage in self.stages for rung in stage.why.rungs for job in rung.jobs)
        return {job.commit: self.places.of_commit(job.commit) for job in jobs}


def content_of(
    desired: Desired, observed: Observed, plan: Plan, places: Places, source: str, points_max: int = POINTS_MAX
) -> Page:
    """One campaign at one look."""
    look = whole(desired, observed)
    read = None if isinstance(look, Trouble) else _read(desired, look, plan, points_max)
    return Page(
        campaign=desired.campaign,
        model=desired.spec.model,
        cluster=desired.spec.cluster,
        place=places.of_line(desired.catalog.where(desired.catalog.campaign(desired.campaign))),
        commit=places.of_commit(desired.revision),
        dirty=desired.dirty,
        looked_at=clock(observed.now_s),
        source=source,
        headline=_headline(plan, observed),
        tiles=tuple(_tiles(plan)) if read is not None else (),
        stages=tuple(_stages(desired, look, plan, places)),
        datasets={
            symbol: places.of_line(desired.catalog.where(dataset))
            for symbol, dataset in desired.catalog.datasets(desired.campaign).items()
        },
        read=read,
        flows=flows(plan),
        outlook=plan.outlook,
        forecasts=plan.forecasts,
        findings=tuple((finding, places.of_line(finding.where)) for finding in plan.findings),
        refusals=tuple(map(str, plan.refusals)),
        places=places,
    )


def _read(desired: Desired, look: Look, plan: Plan, points_max: int) -> Read:
    kept = books.books(desired, look.attempts, look.lists.digests)
    labels = dict.fromkeys(label for part in kept.drawn for label in part.mixture)
    sizes = {label: look.lists.size(desired, label) for label in labels}
    return Read(
        timeline=drawn(plan, look, kept),
        curves=curves(desired, plan, look, kept, points_max),
        ledger=Answer(desired.campaign, kept, sizes, books.newest(kept, plan), None),
    )


# --- at a glance -----------------------------------------------------------------------------------------------------


def _headline(plan: Plan, observed: Observed) -> Headline:
    behind = next((status for status in plan.stages if status.phase is not Phase.DONE), None)
    if plan.refusals:
        return Headline(
            STOP, "Nothing is applied", str(plan.refusals[0]), "Change what is refused: it is listed below."
        )
    if behind is None:
        amiss = [(status.stage, condition) for status in plan.stages for condition in status.drift]
        if amiss:
            stage, found = amiss[0]
            told = FAULTS[found.reason].todo
            return Headline(WARN, "All stages are done", f"{stage}: {found}", told)
        return Headline(QUIET, "All stages are done", "", "Nothing is left to do.")
    blocked = [status for status in plan.stages if status.phase is Phase.HELD]
    first = blocked[0] if blocked else behind
    way_on = WAYS_ON[first.reason].format(campaign=plan.campaign, stage=first.stage, blocker=first.stage)
    following = next((action for action in plan.actions if action.key.stage == first.stage), None)
    state = f"{first.stage} is {first.phase.lower()}"
    if first.strategy and first.phase is Phase.TRAINING:
        state = f"{first.stage} {'trains' if first.job else 'is to be trained'} with {first.strategy}"
    unread = (observed.jobs, observed.attempts, observed.receipts)
    tone = STOP if blocked else WARN if any(isinstance(part, Unread) for part in unread) else BUSY
    told = f"{following.summary}. {way_on}" if following is not None else way_on
    return Headline(tone, state, f"{first.reason}: {first.message}", told)


def _tiles(plan: Plan) -> Iterator[Tile]:
    done = sum(status.phase is Phase.DONE for status in plan.stages)
    yield Tile("Stages done", f"{done} of {len(plan.stages)}", "", done / max(1, len(plan.stages)))
    trained, wanted = (sum(s.tokens_done for s in plan.stages), sum(s.tokens_budget for s in plan.stages))
    share = trained / wanted if wanted else 0.0
    about = f"of {approximate_tokens(wanted)} tokens, {share:.0%}"
    yield Tile("Trained", approximate_tokens(trained), about, min(1.0, share))
    running = next((status for status in plan.stages if status.job), None)
    newest = running or next((status for status in reversed(plan.stages) if status.loss is not None), None)
    if newest is not None and newest.loss is not None:
        rate = f", LR {newest.learning_rate:.3g}" if newest.learning_rate is not None else ""
        yield Tile("Training loss", f"{newest.loss:.3f}", f"{newest.stage}{rate}")
    total = plan.outlook
    if total is not None:
        spent = total.spent / total.bound if total.bound else 0.0
        yield Tile("Node-hours", f"{total.spent:.3g}", f"of {total.bound:,.6g} allowed", min(1.0, spent))
        if done < len(plan.stages):
            known = any(forecast.node_hours is not None for forecast in plan.forecasts)
            about = f"about {numbers(total.node_hours)} node-hours" if known else "no speed is known yet"
            yield Tile("To come", hours(total.hours) if known else UNKNOWN, about)


# --- stages ----------------------------------------------------------------------------------------------------------


def _stages(desired: Desired, look: Look | Trouble, plan: Plan, places: Places) -> Iterator[StagePart]:
    forecasts = {forecast.stage: forecast for forecast in plan.forecasts}
    current = next((status.stage for status in plan.stages if status.phase is not Phase.DONE), None)
    for status in plan.stages:
        stage = desired.catalog.stage(desired.campaign, status.stage)
        of_tokens = status.tokens_done / status.tokens_budget if status.tokens_budget else 0.0
        share = status.iteration / status.iterations if status.iterations else of_tokens
        yield StagePart(
            status=status,
            why=chain(desired, look, plan, stage),
            rungs={
                strategy.name: places.of_line(desired.catalog.where(stage, "spec", "strategies", number))
                for number, strategy in enumerate(stage.spec.strategies)
            },
            place=places.of_line(desired.catalog.where(stage)),
            forecast=forecasts.get(status.stage),
            share=None if isinstance(look, Trouble) else min(1.0, max(0.0, share)),
            open=status.stage == current or status.phase is Phase.HELD,
        )
