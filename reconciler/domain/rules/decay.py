"""CPT060 to CPT067: Strategy 4's decay in the middle of a campaign, and the final one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final

from reconciler.domain.rules.rule import Finding, percent, rate, rule
from reconciler.domain.rules.view import CampaignView, LegView, RungView, StageView
from reconciler.domain.schedule import rate_at
from reconciler.model.problems import Severity
from reconciler.model.strategy import StageSource, UsedStrategy

SWITCH: Final = 5
"""New data comes at LR max / 5, or at LR_3 / 5 in the stage after."""
EARLIER_LEAST: Final = Fraction(6, 10)
DIVISORS: Final = (10, 100)
COOLDOWN_LEAST, COOLDOWN_MOST = Fraction(5, 100), Fraction(20, 100)
FINAL_MOST: Final = 0.1
NEAR: Final = 0.01
"""Rates that differ by less are one rate written in two ways."""
_STRATEGY_4: Final = "cookbook, Strategy 4"
_REUSE: Final = "arXiv 2407.07263: no warm-up, decay to /100, the mixture switched at a fifth of the maximum"


def _decay(lr: str = "{shape: cooldown, to: lrMax/50, until: lrMax/5}", size: str = "0.35T", then: str = "") -> str:
    """Strategy 4 as the last rung of stage 3, and a stage 4 that goes on with it."""
    return f"""
        kind: Dataset
        metadata: {{name: d2}}
        spec: {{tokens: {size}}}
        ---
        kind: Stage
        metadata: {{name: stage-3}}
        spec:
          strategies:
            - name: mix-a
              legs:
                - mixture: {{D0: 0.33, D2: 0.33, buffer: 0.34}}
                  lr: {{shape: constant}}
            - name: decay-50
              legs:
                - mixture: {{D0: 1}}
                  lr: {lr}
                - mixture: {then or "{D0: 0.62, D2: 0.38}"}
                  lr: {{shape: continue}}
        ---
        kind: Stage
        metadata: {{name: stage-4}}
        spec:
          strategies:
            - name: continue-decay
              if: {{stage: stage-3, used: [decay-50]}}
              source: {{stage: stage-3, checkpoint: final}}
              legs:
                - mixture: {{D0: 0.33, D3: 0.33, buffer: 0.34}}
                  lr: {{shape: cooldown, at: lrSource, to: lrFinal}}
            - name: cooldown-mix-a
              legs:
                - mixture: {{D0: 0.33, D3: 0.33, buffer: 0.34}}
                  lr: {{shape: cooldown}}
        """


_GOOD: Final = _decay()


def _declares(rung: RungView) -> LegView:
    """The leg that declares the decay which the last leg is in."""
    return next(leg for leg in reversed(rung.legs) if leg.spec.lr.shape != "continue" or leg is rung.legs[0])


def _introduced(view: CampaignView) -> Iterator[tuple[StageView, RungView, LegView, LegView]]:
    """Decaying rungs of several legs, with the leg in which the stage's own data is first drawn and the one before."""
    for stage, rung in view.rungs():
        if not rung.falls or rung.rewarms or len(rung.legs) == 1 or not stage.earlier:
            continue
        number = next((n for n, leg in enumerate(rung.legs) if leg.shares.get(stage.symbol)), None)
        if number and any(leg.falls for leg in rung.legs[:number]):
            yield stage, rung, rung.legs[number], rung.legs[number - 1]


def _comes_down_to(wanted: float, rung: RungView, leg: LegView) -> bool:
    """Whether a leg begins at this rate, or at the first iteration at which the decay has passed it."""
    if rung.recipe is None or leg.begins is None:
        return False
    made = rung.recipe.legs[rung.legs.index(leg)]
    before = rate_at(made.curve, made.position - 1) / rung.recipe.rate_scale
    return leg.begins * (1 - NEAR) <= wanted <= max(leg.begins * (1 + NEAR), before)


@rule(
    "CPT060",
    "introduced-at-other-rate",
    Severity.NOTE,
    "New data is introduced at another rate than a fifth",
    why="""In the middle of a decay the data is best switched where the rate has fallen to a fifth of the maximum of
        that decay: earlier it is hardly annealed for the old data, later too little rate is left to learn the new.""",
    todo="End the leg before at `until: lrMax/5` (in the stage after Strategy 4: `lrSource/5`).",
    sources=(_STRATEGY_4, _REUSE, "cookbook, Stage 3 to stage 4: introduce the new mix at LR_3/5"),
    good=_GOOD,
    bad=_decay("{shape: cooldown, to: lrMax/50, until: lrMax/2}    # <-"),
)
def _cpt060(view: CampaignView) -> Iterator[Finding]:
    for stage, rung, leg, before in _introduced(view):
        top = rung.legs[0].begins
        if top and leg.begins is not None and not _comes_down_to(top / SWITCH, rung, leg):
            detail = f"{stage.symbol} in strategy {rung.spec.name} of stage {stage.name}"
            found = f"{rate(leg.begins)}, 1/{top / leg.begins:.3g} of {rate(top)}" if leg.begins else "0"
            path = (*before.path, "lr", "until") if before.spec.lr.until else (*leg.path, "lr", "at")
            yield Finding(stage.manifest, path, detail, found, rate(top / SWITCH))


@rule(
    "CPT061",
    "new-data-alone-in-decay",
    Severity.WARNING,
    "New data alone while the rate decays",
    why="""Where data is introduced in a decay, the last thing that the model settles on is what it keeps. The cookbook:
        do not train on it exclusively, always use a mixed dataset.""",
    todo="Mix earlier data in; for Strategy 4 the cookbook tries 0.8 to 0.6 of it.",
    sources=(_STRATEGY_4, _REUSE),
    good=_GOOD,
    bad=_decay(size="1T", then="{D2: 1}    # <-"),
)
def _cpt061(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        for leg in rung.legs if stage.earlier and not rung.rewarms else ():
            if leg.falls and leg.share((stage.symbol,)) == 1:
                detail = f"strategy {rung.spec.name} of stage {stage.name}"
                yield Finding(stage.manifest, (*leg.path, "mixture"), detail, f"{stage.symbol} 100 %", key=True)


@rule(
    "CPT062",
    "little-earlier-data-in-decay",
    Severity.NOTE,
    "Less than 60 % earlier data where new data is introduced in a decay",
    why="""Strategy 4 tries α0 of 0.8 to 0.6 after the switch; its figure has 0.67 of earlier data (0.33 D0, 0.34
        buffer). Less than both is neither.""",
    todo="Give earlier data 60 to 80 %.",
    sources=(_STRATEGY_4, "cookbook, figure strategy3_cpt_stage2tostage3_decay"),
    good=_GOOD,
    bad=_decay(size="0.7T", then="{D0: 0.3, D2: 0.7}    # <-"),
)
def _cpt062(view: CampaignView) -> Iterator[Finding]:
    for stage, rung, leg, _ in _introduced(view):
        earlier = 1 - leg.share((stage.symbol,))
        if 0 < earlier < EARLIER_LEAST:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            path = (*leg.path, "mixture")
            yield Finding(stage.manifest, path, detail, f"{percent(earlier)} of earlier data", "60 to 80 %", key=True)


@rule(
    "CPT063",
    "no-final-decay",
    Severity.WARNING,
    "The last stage does not decay",
    why="""On the plateau a model is not converged: most of the last drop in loss comes with the cooldown, and the
        infinite schedule ends with one. With about 6 % of the tokens left it is time to start it.""",
    todo="Give the last stage a leg with `shape: cooldown`.",
    sources=("cookbook, Stage 3 to stage 4: start the final decay", "arXiv 2405.18392", "arXiv 2404.06395"),
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
          strategies:
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: constant}    # <-
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """,
)
def _cpt063(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        last = rung.legs[-1]
        if stage.last and last.spec.lr.shape == "constant":
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            yield Finding(stage.manifest, (*last.path, "lr"), detail, key=True)


def _takes_up(after: StageView, stage: StageView, rung: RungView) -> bool:
    """Whether a rung of a later stage goes on where a rung of an earlier one ended."""
    for later in after.rungs:
        wanted, source = later.spec.if_, later.source
        meant = not isinstance(wanted, UsedStrategy) or (wanted.stage == stage.name and rung.spec.name in wanted.used)
        here = isinstance(source, StageSource) and source.stage == stage.name and source.checkpoint != "pre-cooldown"
        if meant and here:
            return True
    return False


@rule(
    "CPT064",
    "decay-not-continued",
    Severity.WARNING,
    "No rung goes on with a decay that the stage before may have begun",
    why="""After Strategy 4 the rate is at LR_3 = LR max / N. The next stage keeps decaying from there; a rung that
        starts from a checkpoint at LR max finds none, and the campaign holds.""",
    todo="""Add a rung with `if: {stage, used}`, `source: {stage, checkpoint: final}` and a first leg of `shape:
        continue` (or a declared rewarm).""",
    sources=("cookbook, Stage 3 to stage 4: if we did use Strategy 4 above", "cookbook, table: continue decay if used"),
    good=_GOOD,
    bad=_GOOD.replace(
        """            - name: continue-decay
              if: {stage: stage-3, used: [decay-50]}
              source: {stage: stage-3, checkpoint: final}
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown, at: lrSource, to: lrFinal}
""",
        """            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
""",
    ).replace(
        "strategies:\n            - name: cooldown-mix-b", "strategies:    # <-\n            - name: cooldown-mix-b"
    ),
)
def _cpt064(view: CampaignView) -> Iterator[Finding]:
    for stage, after in pairwise(view.stages):
        for rung in stage.rungs if any(rung.plateau for rung in stage.rungs) else ():  # else CPT001 tells
            ends = rung.legs[-1].ends
            if ends is None or rung.plateau or rung.rewarms or _takes_up(after, stage, rung):
                continue
            there = (stage.manifest, (*rung.path, "name"), f"ends at {rate(ends)}")
            detail = f"{rung.spec.name} of {stage.name}, and stage {after.name} after it"
            yield Finding(after.manifest, ("spec", "strategies"), detail, key=True, related=(there,))


@rule(
    "CPT065",
    "final-rate-high",
    Severity.WARNING,
    "The final rate is above a tenth of LR max",
    why="""Decay to zero beats decay to a tenth, at more compute saved the longer the run; above a tenth the model has
        not converged.""",
    todo="Let the last leg end at lrFinal, and lrFinal be 0 or at most LR max / 10.",
    sources=("arXiv 2502.15938", "cookbook, Stage 3 to stage 4: decay the LR to convergence"),
    good="""
        kind: Campaign
        metadata: {name: cookbook}
        spec: {learningRate: {max: 2e-4, final: 2e-6}}
        """,
    bad="""
        kind: Campaign
        metadata: {name: cookbook}
        spec:
          learningRate: {max: 2e-4, final: 5e-5}    # <-
        """,
)
def _cpt065(view: CampaignView) -> Iterator[Finding]:
    limit = view.lr_max * FINAL_MOST
    if view.lr_final > limit:
        final = ("spec", "learningRate", "final")
        yield Finding(view.manifest, final, "learningRate.final", rate(view.lr_final), f"at most {rate(limit)}")
    for stage, rung in view.rungs():
        last = rung.legs[-1]
        if stage.last and last.falls and last.ends is not None and view.lr_final < last.ends and last.ends > limit:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            path = (*_declares(rung).path, "lr", "to")
            yield Finding(stage.manifest, path, detail, rate(last.ends), f"at most {rate(limit)}")


@rule(
    "CPT066",
    "cooldown-share",
    Severity.WARNING,
    "The final cooldown is less than 5 % or more than 20 % of all tokens",
    why="""About 10 % of the tokens are enough for a cooldown, 5 % nearly so, 2.5 % not; above 20 % nothing more is
        gained, and the plateau's tokens are what a longer campaign could still build on.""",
    todo="Move tokens between the plateau and the cooldown.",
    sources=(
        "arXiv 2405.18392: 5, 10 and 20 %",
        "arXiv 2404.06395: 10 % enough, 2.5 % not",
        "cookbook, Stage 3 to stage 4: ~6 % of training left",
    ),
    good="""
        kind: Stage
        metadata: {name: stage-4}
        spec: {tokens: 0.5T}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          tokens: 1.4T
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}    # <- 1.4T of 6.4T tokens
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: constant}
                  tokens: 0.8T
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """,
)
def _cpt066(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        falling = [leg for leg in rung.legs if leg.falls]
        begun_before = rung.legs[0].begins is None or rung.legs[0].begins < view.lr_max * (1 - NEAR)
        if not stage.last or not falling or rung.rewarms or begun_before:
            continue
        whole = sum(before.manifest.spec.tokens for before in view.before(stage)) + stage.manifest.spec.tokens
        share = Fraction(sum(leg.tokens or 0 for leg in falling), whole)
        if not COOLDOWN_LEAST <= share <= COOLDOWN_MOST:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            path = (*falling[0].path, "lr")
            yield Finding(
                stage.manifest, path, detail, f"{percent(share)} of the campaign's tokens", "5 to 20 %", key=True
            )


@rule(
    "CPT067",
    "other-divisor",
    Severity.NOTE,
    "Strategy 4 ends at another rate than LR max / 10 to LR max / 100",
    why="""The cookbook tries N = 10, 50 and 100. Above LR max / 10 little has converged; below LR max / 100 the next
        stage, which goes on from there, has hardly any rate left to learn with.""",
    todo="End the decay at lrMax/10, lrMax/50 or lrMax/100, or try them with `trial.matrix.divisor`.",
    sources=(_STRATEGY_4, _REUSE),
    good=_GOOD,
    bad=_decay("{shape: cooldown, to: lrMax/1000, until: lrMax/5}    # <-"),
)
def _cpt067(view: CampaignView) -> Iterator[Finding]:
    least, most = (view.lr_max / divisor for divisor in reversed(DIVISORS))
    for stage, rung in view.rungs():
        last = rung.legs[-1]
        if stage.last or last.aims is None or rung.rewarms or rung.plateau:
            continue
        if not least * (1 - NEAR) <= last.aims <= most * (1 + NEAR) and stage.earlier:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            found = f"{rate(last.aims)}, LR max / {view.lr_max / last.aims:.4g}" if last.aims else "0"
            path = (*_declares(rung).path, "lr", "to")
            yield Finding(stage.manifest, path, detail, found, f"{rate(least)} to {rate(most)}")


RULES: Final = (_cpt060, _cpt061, _cpt062, _cpt063, _cpt064, _cpt065, _cpt066, _cpt067)
