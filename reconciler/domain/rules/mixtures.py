"""CPT020 to CPT025: what is mixed under a strong shift, and how much weight small new data gets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from reconciler.domain.catalog import BASE_SYMBOL
from reconciler.domain.rules.rule import Finding, percent, rule
from reconciler.domain.rules.view import CampaignView, LegView, StageView
from reconciler.model.manifests import BUFFER
from reconciler.model.problems import Severity
from reconciler.model.quantities import approximate_tokens

SMALL: Final = Fraction(1, 4)
"""A new dataset below this part of all data before it is "considerably smaller"."""
HALF: Final = Fraction(1, 2)
IIDIFIED: Final = Fraction(4, 5)
"""Weight of the buffer from which a mixture is the cookbook's Mix C (0, 0.10, 0.90)."""


@rule(
    "CPT020",
    "naive-under-strong-shift",
    Severity.WARNING,
    "Nothing but new data under a strong shift",
    why="""Without replay a strong shift costs most of what was learnt: from the Pile to German, the loss on the old
        data ends at 3.56 without replay, 2.83 with 1 % and 2.33 with 25 %. The cookbook lets it be tried and stopped
        early.""",
    todo="Replay 5 to 30 % of the earlier mixture, or waive this with the gate that stops it early.",
    sources=("cookbook, Stage 2 to stage 3, Naive strategy", "arXiv 2403.08763"),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          shift: strong
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
          shift: strong
          strategies:
            - name: naive
              legs:
                - mixture: {D2: 1}    # <-
                  lr: {shape: constant}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
)
def _cpt020(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        if stage.strong and rung.naive(stage) and not rung.falls:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            yield Finding(stage.manifest, (*rung.legs[0].path, "mixture"), detail, f"{stage.symbol} 100 %", key=True)


@rule(
    "CPT021",
    "small-dataset-heavy",
    Severity.WARNING,
    "A small new dataset has more than half the weight",
    why="""A dataset that is considerably smaller than what came before moves the model away from all of that and is
        repeated soon; the cookbook then puts more weight on the previous data.""",
    todo="Give earlier data at least half of the weight.",
    sources=("cookbook, Things to keep in mind", "cookbook, Stage 2 to stage 3, Strategy 2: give it less weight"),
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
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.2, D3: 0.6, buffer: 0.2}    # <- 120B tokens after 3T
                  lr: {shape: cooldown}
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """,
)
def _cpt021(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        size, before = view.size(stage.symbol), sum(view.size(symbol) for symbol in stage.earlier)
        if size >= SMALL * before or (stage.strong and rung.naive(stage)):  # of which CPT020 has told
            continue
        for leg in rung.legs:
            share = leg.share((stage.symbol,))
            if share > HALF:
                yield Finding(
                    stage.manifest,
                    (*leg.path, "mixture"),
                    f"strategy {rung.spec.name} of stage {stage.name}",
                    f"{stage.symbol} {percent(share)}: {approximate_tokens(size)} tokens after "
                    f"{approximate_tokens(before)}",
                    "at most 50 %",
                    key=True,
                )


def _own_mix(view: CampaignView, leg: LegView) -> bool:
    """Whether it names data alone, and no earlier stage's mixture."""
    return not any(view.stage(term) for term in leg.spec.mixture)


def _lacks_base(stage: StageView, leg: LegView) -> bool:
    return BASE_SYMBOL in stage.earlier and not leg.shares.get(BASE_SYMBOL) and leg.share((stage.symbol,)) < 1


@rule(
    "CPT022",
    "no-base-data",
    Severity.WARNING,
    "A mixture under a strong shift leaves the pretraining data out",
    why="""Even a small weight on D0 can help stabilise the optimization, and D0 is what the forgetting gate looks at
        first. The buffer does not hold it.""",
    todo="Give D0 a weight of 5 % or more.",
    sources=("cookbook, Strategy 3, Notes", "arXiv 2403.08763"),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: replay-10
              legs:
                - mixture: {stage-2: 0.1, D2: 0.9}
                  lr: {shape: constant}
            - name: mix-b
              legs:
                - mixture: {D0: 0.05, D2: 0.48, buffer: 0.47}
                  lr: {shape: constant}
        ---
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
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: half-buffer
              legs:
                - mixture: {D2: 0.5, buffer: 0.5}    # <-
                  lr: {shape: constant}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
)
def _cpt022(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        legs = [leg for rung in stage.rungs for leg in rung.legs if stage.strong and not rung.naive(stage)]
        if legs and all(_lacks_base(stage, leg) for leg in legs) and not any(_own_mix(view, leg) for leg in legs):
            detail = f"no strategy of stage {stage.name} draws from D0"
            yield Finding(stage.manifest, ("spec", "strategies"), detail, expected="some D0 in one of them", key=True)
    for stage, rung in view.rungs():
        for leg in rung.legs if stage.strong else ():
            # The mixture of an earlier stage is what Strategy 2 replays, with D0 in it or without.
            if _lacks_base(stage, leg) and leg.share(stage.buffer) < IIDIFIED and _own_mix(view, leg):
                detail = f"strategy {rung.spec.name} of stage {stage.name}"
                drawn = " + ".join(f"{symbol} {percent(share)}" for symbol, share in leg.shares.items())
                yield Finding(stage.manifest, (*leg.path, "mixture"), detail, drawn, "some D0", key=True)


@rule(
    "CPT023",
    "buffer-unused",
    Severity.WARNING,
    "No rung under a strong shift draws from the buffer",
    why="""The buffer holds the data of the stages between pretraining and this one, which replay of D0 alone does not
        keep. The cookbook's fallback under a strong shift is 0.33 D0, 0.33 new data, 0.34 buffer.""",
    todo="Add a rung with `buffer`, or a replay of the earlier stage's mixture that holds its data.",
    sources=("cookbook, table: Stage 2 → 3, Fallbacks", "cookbook, Strategy 3", "arXiv 2408.14471"),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: replay-d0
              legs:
                - mixture: {D0: 0.1, D2: 0.9}
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
          strategies:    # <- D1 is in no mixture
            - name: replay-10
              legs:
                - mixture: {D0: 0.1, D2: 0.9}
                  lr: {shape: constant}
            - name: replay-25
              legs:
                - mixture: {D0: 0.25, D2: 0.75}
                  lr: {shape: constant}
        """,
)
def _cpt023(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        drawn = any(leg.share(stage.buffer) for rung in stage.rungs for leg in rung.legs)
        if stage.strong and stage.buffer and not drawn:
            detail = f"stage {stage.name}, whose buffer holds {', '.join(stage.buffer)}"
            yield Finding(stage.manifest, ("spec", "strategies"), detail, fix="Add a rung with buffer.", key=True)


@rule(
    "CPT024",
    "weight-zero",
    Severity.NOTE,
    "A source of weight 0 is not in the mixture",
    why="""The launcher's mix_datasets.py refuses a weight of 0, as in the cookbook's Mix C with D0 0.00, so the source
        is left out of the data list.""",
    todo="Leave the term out of the mixture.",
    sources=("launcher contract, 2.3: Mix C's D0 = 0.00 must be left out", "cookbook, Strategy 3, Mix C"),
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
                - mixture: {D0: 0.00, D1: 1}    # <-
                  lr: {shape: constant}
        """,
)
def _cpt024(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        for leg in rung.legs:
            for term, weight in leg.spec.mixture.items():
                if not weight:
                    detail = f"{term} in strategy {rung.spec.name} of stage {stage.name}"
                    yield Finding(
                        stage.manifest, (*leg.path, "mixture", term), detail, fix=f"Leave {term} out.", key=True
                    )


@rule(
    "CPT025",
    "iidified-mixture",
    Severity.NOTE,
    "Mix C is a hypothesis from vision-language models",
    why="""Nearly all buffer and no pretraining data ("IIDifying the dataset", 0, 0.10, 0.90) comes from a study of
        continual pretraining of vision-language models. Whether it holds for language models is not known.""",
    todo="Try Mix A and B first, or a trial of all three with few tokens.",
    sources=("arXiv 2408.14471", "cookbook, Strategy 3, Mix C"),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: replay-10
              legs:
                - mixture: {stage-2: 0.1, D2: 0.9}
                  lr: {shape: constant}
            - name: mix-b
              legs:
                - mixture: {D0: 0.05, D2: 0.48, buffer: 0.47}
                  lr: {shape: constant}
        ---
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
        kind: Dataset
        metadata: {name: d2}
        spec: {tokens: 0.3T}
        ---
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
            - name: mix-c
              legs:
                - mixture: {D2: 0.1, buffer: 0.9}    # <-
                  lr: {shape: constant}
        """,
)
def _cpt025(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        for leg in rung.legs:
            held = leg.share(stage.buffer)
            if held >= IIDIFIED and _lacks_base(stage, leg) and BUFFER in leg.spec.mixture:
                detail = f"strategy {rung.spec.name} of stage {stage.name}"
                yield Finding(stage.manifest, (*leg.path, "mixture"), detail, f"buffer {percent(held)}", key=True)


RULES: Final = (_cpt020, _cpt021, _cpt022, _cpt023, _cpt024, _cpt025)
