"""CPT050 to CPT056: warm-up, the plateau at LR max, and rewarming."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from reconciler.domain.catalog import BASE_SYMBOL
from reconciler.domain.rules.rule import INFINITE, Finding, percent, rate, rule
from reconciler.domain.rules.view import CampaignView, LegView, RungView, StageView
from reconciler.model.problems import Severity
from reconciler.model.strategy import StageSource

WARMUP_MOST: Final = Decimal("0.05")
"""Share of a rewarm's leg; 1 % is usual, and its length hardly matters (arXiv 2403.08763)."""
REWARM_MOST: Final = 2
"""Times LR max; the cookbook tested LR/2, LR and 2LR."""
_STRATEGY_5: Final = "cookbook, Strategy 5"


@rule(
    "CPT050",
    "no-warm-up",
    Severity.WARNING,
    "Training from random weights without warm-up",
    why="""The infinite schedule warms up to LR max. At LR max from the first step the optimizer's second moments are
        not there yet, and large models diverge or spike.""",
    todo="Write `warmup` on the first leg: the cookbook's figure has 10 % of stage 1.",
    sources=("cookbook, AuroraGPT V1: warmed up to LR_max, held constant", "cookbook, figure stages_training_initial"),
    good="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          strategies:
            - name: pretrain
              legs:
                - mixture: {D0: 1}
                  lr: {shape: constant, warmup: 10%}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          strategies:
            - name: pretrain
              legs:
                - mixture: {D0: 1}
                  lr: {shape: constant}    # <-
        """,
)
def _cpt050(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        if rung.source == "random" and not rung.legs[0].spec.lr.warmup:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            yield Finding(stage.manifest, (*rung.legs[0].path, "lr"), detail, key=True)


def _continued(view: CampaignView, stage: StageView) -> StageView | None:
    """The first later stage that starts from a checkpoint of this one."""
    for later in view.stages[stage.number + 1 :]:
        if any(isinstance(rung.source, StageSource) and rung.source.stage == stage.name for rung in later.rungs):
            return later
    return None


@rule(
    "CPT051",
    "base-cools-down",
    Severity.WARNING,
    "The first stage decays although others follow",
    why="""What follows continues from LR max, so the tokens of a cooldown in the first stage are spent on a model that
        nothing continues from. The schedule is cooled down once, at the end of the campaign.""",
    todo="Let the first stage end at LR max (`shape: constant`).",
    sources=(INFINITE, "arXiv 2503.02844: an infinite schedule beats repeated cosine"),
    good="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          strategies:
            - name: pretrain
              legs:
                - mixture: {D0: 1}
                  lr: {shape: constant, warmup: 10%}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          strategies:
            - name: pretrain
              legs:
                - mixture: {D0: 1}
                  lr: {shape: constant, warmup: 10%}
                  tokens: 0.9T
                - mixture: {D0: 1}
                  lr: {shape: cooldown}    # <-
        """,
)
def _cpt051(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        falls = next((leg for leg in rung.legs if leg.falls), None)
        if rung.source == "random" and falls is not None and not _is_cosine(falls) and _continued(view, stage):
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            yield Finding(stage.manifest, (*falls.path, "lr"), detail, key=True)


def _is_cosine(leg: LegView) -> bool:
    return leg.spec.lr.shape == "cosine" and leg.spec.lr.until is None


@rule(
    "CPT052",
    "cosine-in-the-middle",
    Severity.WARNING,
    "A cosine in a stage that others continue from",
    why="""A cosine is near LR max only at its beginning, so it leaves no checkpoint on the plateau, and its length
        must be known from the start: a longer budget does not stretch it. Each stage after it would have to rewarm.
        Within Strategy 4 it is meant: there it ends at LR max / N and the decay is continued.""",
    todo="Write `shape: constant`; cool down in the last stage.",
    sources=(INFINITE, "launcher contract, 2.2: a longer budget does not stretch a cosine", "arXiv 2503.02844"),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: naive
              legs:
                - mixture: {D1: 1}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: naive
              legs:
                - mixture: {D0: 0.05, D1: 0.95}
                  lr: {shape: constant}
                  tokens: 0.2T
                - mixture: {D0: 0.05, D1: 0.95}
                  lr: {shape: cosine}    # <-
        """,
)
def _cpt052(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        last, later = rung.legs[-1], _continued(view, stage)
        if later is None or not _is_cosine(last) or last.ends is None or last.ends > view.lr_final:
            continue
        there = (later.manifest, ("spec", "source"), "continued here")
        detail = f"strategy {rung.spec.name} of stage {stage.name}"
        yield Finding(stage.manifest, (*last.path, "lr"), detail, key=True, related=(there,))


@rule(
    "CPT053",
    "rewarm-from-plateau",
    Severity.WARNING,
    "A rewarm from a checkpoint that has not decayed",
    why="""A rewarm begins at 0 and rises; from a checkpoint at LR max that is a dip in the rate and new optimizer
        statistics for nothing. Strategy 5 rewarms a converged checkpoint.""",
    todo="Write `checkpoint: converged`, or leave `rewarm` out and go on at LR max.",
    sources=(_STRATEGY_5, INFINITE, "launcher contract, 2.2: --finetune"),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: naive
              legs:
                - mixture: {D1: 1}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          source: {stage: stage-1, checkpoint: pre-cooldown}
          strategies:
            - name: naive
              legs:
                - mixture: {D1: 1}
                  lr: {shape: constant, rewarm: true, warmup: 1%}    # <-
        """,
)
def _cpt053(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        source = rung.source
        at_max = isinstance(source, StageSource) and source.checkpoint == "pre-cooldown"
        if at_max and rung.legs[0].spec.lr.rewarm:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            yield Finding(stage.manifest, (*rung.legs[0].path, "lr"), detail, key=True)


def _rewarms(view: CampaignView) -> Iterator[tuple[StageView, RungView, LegView]]:
    for stage, rung in view.rungs():
        for leg in rung.legs:
            if leg.spec.lr.rewarm:
                yield stage, rung, leg


_REWARM_BASE: Final = """
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
            - name: rewarm
              source: {path: /cooled, checkpoint: {iteration: 4000}, format: universal, rate: 0, trainedOn: [d0, d1]}
              legs:
                - mixture: MIXTURE
                  lr: LR
        """


def _rewarmed(lr: str, mixture: str = "{D0: 0.5, D2: 0.33, buffer: 0.17}") -> str:
    return _REWARM_BASE.replace("MIXTURE", mixture).replace("LR", lr)


@rule(
    "CPT054",
    "rewarm-warm-up",
    Severity.WARNING,
    "A rewarm without warm-up, or with a long one",
    why="""Rewarming raises the loss first, on old data too; without a warm-up the rise is a jump. About 1 % is enough:
        the length hardly matters, and tokens at a low rate teach little.""",
    todo="Write `warmup: 1%`.",
    sources=("arXiv 2403.08763", "arXiv 2308.04014", "cookbook, Legacy agpt-7b checkpoints: a warm-up of 1 %"),
    good=_rewarmed("{shape: constant, rewarm: true, warmup: 1%}"),
    bad=_rewarmed("{shape: constant, rewarm: true}    # <-"),
)
def _cpt054(view: CampaignView) -> Iterator[Finding]:
    for stage, rung, leg in _rewarms(view):
        warmup = leg.spec.lr.warmup
        if not warmup or warmup > WARMUP_MOST:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            found = f"a warm-up of {percent(Fraction(warmup))}" if warmup else "no warm-up"
            yield Finding(stage.manifest, (*leg.path, "lr"), detail, found, "about 1 %, at most 5 %", key=True)


@rule(
    "CPT055",
    "rewarm-too-high",
    Severity.WARNING,
    "A rewarm to more than twice LR max",
    why="""The higher the rate after a rewarm, the more is forgotten. LR/2, LR and 2LR were tested on the legacy model;
        re-warming to 0.5 to 1 times the maximum is what the literature uses.""",
    todo="Write `at: lrMax` or `at: lrMax/2`.",
    sources=("cookbook, Legacy agpt-7b checkpoints", "arXiv 2403.08763"),
    good=_rewarmed("{shape: constant, at: lrMax/2, rewarm: true, warmup: 1%}"),
    bad=_rewarmed("{shape: constant, at: 6e-4, rewarm: true, warmup: 1%}    # <- three times LR max"),
)
def _cpt055(view: CampaignView) -> Iterator[Finding]:
    for stage, rung, leg in _rewarms(view):
        if leg.begins is not None and leg.begins > REWARM_MOST * view.lr_max:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            expected = f"at most {rate(REWARM_MOST * view.lr_max)}"
            yield Finding(stage.manifest, (*leg.path, "lr", "at"), detail, rate(leg.begins), expected)


@rule(
    "CPT056",
    "rewarm-without-more-base-data",
    Severity.NOTE,
    "A rewarm does not raise the weight of the pretraining data",
    why="""Strategy 5 rewarms and raises the weight of the pretraining data together: a raised rate forgets more.""",
    todo="Give D0 more weight than the rungs before it.",
    sources=(_STRATEGY_5,),
    good=_rewarmed("{shape: constant, rewarm: true, warmup: 1%}", "{D0: 0.5, D2: 0.33, buffer: 0.17}"),
    bad=_rewarmed("{shape: constant, rewarm: true, warmup: 1%}", "{D0: 0.2, D2: 0.4, buffer: 0.4}    # <-"),
)
def _cpt056(view: CampaignView) -> Iterator[Finding]:
    for stage, rung, leg in _rewarms(view):
        above = [other for other in stage.rungs[: rung.number] if not other.falls]
        most = max((other.shares.get(BASE_SYMBOL, Fraction(0)) for r in above for other in r.legs), default=Fraction(0))
        share = leg.shares.get(BASE_SYMBOL, Fraction(0))
        if above and BASE_SYMBOL in stage.earlier and share <= most:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            found, expected = f"D0 {percent(share)}", f"more than {percent(most)}, as in the rungs before it"
            yield Finding(stage.manifest, (*leg.path, "mixture"), detail, found, expected, key=True)


RULES: Final = (_cpt050, _cpt051, _cpt052, _cpt053, _cpt054, _cpt055, _cpt056)
