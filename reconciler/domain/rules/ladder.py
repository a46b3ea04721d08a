"""CPT040 to CPT043: the order of what is tried."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from reconciler.domain.rules.rule import Finding, rule
from reconciler.domain.rules.view import CampaignView, RungView
from reconciler.model.problems import Severity
from reconciler.model.strategy import UsedStrategy

_DATA, _DECAY, _REWARM = "data centric", "decay", "rewarm"
_ORDER: Final = (_DATA, _DECAY, _REWARM)


@rule(
    "CPT040",
    "one-rung",
    Severity.WARNING,
    "One strategy only under a strong shift",
    why="""Under a strong shift the first mixture often fails a gate. With no second rung the stage holds there, at
        whatever hour that is, until a person writes one.""",
    todo="Add a fallback: for example 0.33 D0, 0.33 new data, 0.34 buffer.",
    sources=("cookbook, table: Fallbacks",),
    good="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:    # <-
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
        """,
)
def _cpt040(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        if stage.strong and len(stage.rungs) == 1 and stage.rungs[0].spec.trial is None:
            detail = f"stage {stage.name} has {stage.rungs[0].spec.name} alone"
            yield Finding(stage.manifest, ("spec", "strategies"), detail, key=True)


@rule(
    "CPT041",
    "equal-rungs",
    Severity.WARNING,
    "Two rungs are the same attempt",
    why="""An attempt is named by what affects training, not by the rung's name. The second of two equal rungs is the
        first one's attempt: if that failed, this one has failed with it and is never run.""",
    todo="Change or remove one of them.",
    sources=("cookbook, table: Fallbacks",),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: replay-10
              legs:
                - mixture: {stage-2: 0.1, D2: 0.9}
                  lr: {shape: constant}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
            - name: mix-a-again    # <-
              legs:
                - mixture: {D0: 0.33, D2: 0.33, D1: 0.34}
                  lr: {shape: constant}
        """,
)
def _cpt041(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        first: dict[str, RungView] = {}
        for rung in stage.rungs:
            legs = [(sorted(leg.shares.items()), leg.spec.lr, leg.tokens) for leg in rung.legs]
            trained = repr((rung.source, rung.spec.batch, rung.spec.trial, legs))
            same = first.setdefault(trained, rung)
            if same is not rung:
                there = (stage.manifest, (*same.path, "name"), "the first of the two")
                detail = f"{same.spec.name} and {rung.spec.name} of stage {stage.name}"
                yield Finding(stage.manifest, (*rung.path, "name"), detail, related=(there,))


def _sort(rung: RungView) -> str:
    return _REWARM if rung.rewarms else _DECAY if rung.falls else _DATA


@rule(
    "CPT042",
    "ladder-order",
    Severity.WARNING,
    "A rung that moves the learning rate comes before one that only changes the data",
    why="""The infinite schedule's worth is that the rate stays where it is between stages; a decay (Strategy 4) spends
        the plateau for all that follows, a rewarm (Strategy 5) unsettles what was learnt. They are for when every
        mixture has failed: "if all else fails", "last resort".""",
    todo="Order the ladder: mixtures, then a decay, then a rewarm.",
    sources=("cookbook, AuroraGPT V1: primarily data-centric", "cookbook, Strategy 4 and 5"),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: replay-10
              legs:
                - mixture: {stage-2: 0.1, D2: 0.9}
                  lr: {shape: constant}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: rewarm    # <-
              source: {path: /cooled, checkpoint: {iteration: 4000}, format: universal, rate: 0, trainedOn: [d0, d1]}
              legs:
                - mixture: {D0: 0.5, D2: 0.33, buffer: 0.17}
                  lr: {shape: constant, warmup: 1%, rewarm: true}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
)
def _cpt042(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        ladder = [rung for rung in stage.rungs if not isinstance(rung.spec.if_, UsedStrategy)]
        for rung, after in pairwise(ladder):
            here, below = _sort(rung), _sort(after)
            if _ORDER.index(here) > _ORDER.index(below):
                there = (stage.manifest, (*after.path, "name"), f"{after.spec.name} ({below}) should come first")
                detail = f"{rung.spec.name} ({here}) of stage {stage.name}"
                yield Finding(stage.manifest, (*rung.path, "name"), detail, related=(there,))


@rule(
    "CPT043",
    "ladder-out-of-bounds",
    Severity.NOTE,
    "The ladder is longer than the attempts that are allowed",
    why="""`bounds.attemptsPerStage` ends the ladder: rungs below it are never tried. A bound is there to make a person
        look, so this may be meant.""",
    todo="Raise `attemptsPerStage`, or waive this with why a person should look there.",
    sources=("cookbook, Recommended CPT strategies by stage",),
    good="""
        kind: Campaign
        metadata: {name: cookbook}
        spec: {bounds: {attemptsPerStage: 2}}
        """,
    bad="""
        kind: Campaign
        metadata: {name: cookbook}
        spec:
          bounds: {attemptsPerStage: 1}    # <- stages 3 and 4 have two
        """,
)
def _cpt043(view: CampaignView) -> Iterator[Finding]:
    bound = view.manifest.spec.bounds.attempts_per_stage
    # A rung with a condition may be skipped, and then counts for nothing.
    long = [(stage.name, sum(rung.spec.if_ is None for rung in stage.rungs)) for stage in view.stages]
    over = [f"{name} has {rungs}" for name, rungs in long if rungs > bound]
    if over:
        path = ("spec", "bounds", "attemptsPerStage")
        yield Finding(view.manifest, path, f"{bound} allowed; {', '.join(over)} without a condition")


RULES: Final = (_cpt040, _cpt041, _cpt042, _cpt043)
