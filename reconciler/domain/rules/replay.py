"""CPT030 to CPT032: how much earlier data is replayed, and when more."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from reconciler.domain.rules.rule import Finding, percent, rule
from reconciler.domain.rules.view import CampaignView, LegView, StageView
from reconciler.model.problems import Severity

REPLAY_LEAST: Final = Fraction(5, 100)
REPLAY_START: Final = Fraction(10, 100)
REPLAY_MUCH: Final = Fraction(25, 100)

_START: Final = (
    "cookbook, Strategy 2, Mixing weights: α0 = 0.05–0.10 to start with; 25–30 % only if forgetting is observed"
)
_PAPER: Final = "arXiv 2403.08763: 5 % under a weak shift, 25 % under a strong one"


def replayed(stage: StageView, leg: LegView) -> Fraction:
    """Share of all earlier data, whatever terms it comes by."""
    return 1 - leg.share((stage.symbol,))


@rule(
    "CPT030",
    "little-replay",
    Severity.WARNING,
    "Less than 5 % replay",
    why="""5 % is the least that was found to be safe under a weak shift. 1 % already stops most of the forgetting in
        finetuning (arXiv 2502.06042), but under a strong shift it ends half a nat above 25 %: 2.83 against 2.33 on the
        old data.""",
    todo="Replay 5 % or more, or nothing (Strategy 1) if the shift is weak.",
    sources=(_START, _PAPER, "arXiv 2502.06042: 1 %"),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: replay-5
              legs:
                - mixture: {D0: 0.05, D1: 0.95}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: replay-1
              legs:
                - mixture: {D0: 0.01, D1: 0.99}    # <-
                  lr: {shape: constant}
        """,
)
def _cpt030(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        for leg in rung.legs:
            if 0 < replayed(stage, leg) < REPLAY_LEAST:
                detail = f"strategy {rung.spec.name} of stage {stage.name}"
                found = f"{percent(replayed(stage, leg))} of earlier data"
                yield Finding(stage.manifest, (*leg.path, "mixture"), detail, found, "5 % or more", key=True)


@rule(
    "CPT031",
    "replay-starts-high",
    Severity.NOTE,
    "The first replay under a weak shift is above 10 %",
    why="""Every token of replay is one of new data less. Under a weak shift 5 % is often enough; the cookbook starts
        there and goes up when it has to.""",
    todo="Begin with a rung of 5 to 10 %.",
    sources=(_START, _PAPER),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: replay-10
              legs:
                - mixture: {D0: 0.10, D1: 0.90}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          tokens: 1.2T
          strategies:
            - name: replay-20
              legs:
                - mixture: {D0: 0.20, D1: 0.80}    # <-
                  lr: {shape: constant}
        """,
)
def _cpt031(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        first = next((rung for rung in stage.rungs if stage.earlier and not rung.naive(stage)), None)
        if stage.strong or first is None or not first.known or first.falls or first.spec.if_ is not None:
            continue
        share = replayed(stage, first.legs[0])
        if REPLAY_START < share < REPLAY_MUCH:
            detail = f"strategy {first.spec.name} of stage {stage.name}"
            path = (*first.legs[0].path, "mixture")
            yield Finding(stage.manifest, path, detail, f"{percent(share)} of earlier data", "5 to 10 %", key=True)


@rule(
    "CPT032",
    "much-replay-unasked",
    Severity.WARNING,
    "25 % replay or more under a weak shift before forgetting was observed",
    why="""25 to 30 % of replay is the answer to forgetting that was seen, since it costs as much of the new data. A
        rung with it belongs after one with less, or under `if: forgetting`.""",
    todo="Write `if: forgetting` on the rung, or put one with 5 to 10 % before it.",
    sources=(_START, _PAPER),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          tokens: 1.4T
          strategies:
            - name: replay-5
              legs:
                - mixture: {D0: 0.05, D1: 0.95}
                  lr: {shape: constant}
            - name: replay-30
              if: forgetting
              legs:
                - mixture: {D0: 0.30, D1: 0.70}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          tokens: 1.4T
          strategies:
            - name: replay-30
              legs:
                - mixture: {D0: 0.30, D1: 0.70}    # <-
                  lr: {shape: constant}
        """,
)
def _cpt032(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        least = Fraction(1)
        for rung in stage.rungs if stage.earlier and not stage.strong else ():
            share = min(replayed(stage, leg) for leg in rung.legs)
            if share >= REPLAY_MUCH and least >= share and rung.spec.if_ is None and rung.known and not rung.falls:
                detail = f"strategy {rung.spec.name} of stage {stage.name}"
                path = (*rung.legs[0].path, "mixture")
                found = f"{percent(share)} of earlier data"
                yield Finding(stage.manifest, path, detail, found, "5 to 10 % first, or if: forgetting", key=True)
            least = min(least, share) if share else least


RULES: Final = (_cpt030, _cpt031, _cpt032)
