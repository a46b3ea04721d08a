"""CPT010 to CPT013: how often data is seen, and whether it would show that it is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

from reconciler.domain.rules.rule import Finding, rule
from reconciler.domain.rules.view import CampaignView, StageView
from reconciler.model.problems import Severity
from reconciler.model.quantities import approximate_tokens

PASS_LEAST: Final = Fraction(9, 10)
"""A pass of the stage's own data is complete from here: 5 and 10 % of replay leave nothing out that matters."""
PASSES_TOLD: Final = 8
"""Stages whose passes over a dataset are told one by one."""


@rule(
    "CPT010",
    "too-many-passes",
    Severity.WARNING,
    "A mixture repeats a dataset beyond its limit",
    why="""Up to about four passes over the same tokens are worth nearly as much as fresh ones; after that their value
        falls fast, and a small source of high weight is learnt by heart. Passes of earlier stages count, since the
        model has seen that data already.""",
    todo="Give the dataset less weight or the stage fewer tokens, or raise the dataset's `maxEpochs` if that is known.",
    sources=("arXiv 2305.16264: up to four epochs", "cookbook, Things to keep in mind: a small new dataset"),
    good="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}    # 1.4 passes over D3
                  lr: {shape: cooldown}
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """,
    bad="""
        kind: Dataset
        metadata: {name: d3}
        spec: {tokens: 40B}
        ---
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}    # <- 165B tokens of 40B
                  lr: {shape: cooldown}
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """,
)
def _cpt010(view: CampaignView) -> Iterator[Finding]:
    yield from _selected_passes(view)
    earlier: dict[str, list[tuple[str, Fraction]]] = {}
    sums: dict[str, Fraction] = {}
    for stage in view.stages:
        yield from _too_many(view, stage, earlier, sums)
        first = stage.rungs[0]
        for symbol in dict.fromkeys(symbol for leg in first.legs for symbol in leg.shares):
            passes = first.drawn(symbol) / view.size(symbol)
            earlier.setdefault(symbol, []).append((stage.name, passes))
            sums[symbol] = sums.get(symbol, Fraction(0)) + passes


def _too_many(
    view: CampaignView,
    stage: StageView,
    earlier: Mapping[str, Sequence[tuple[str, Fraction]]],
    sums: Mapping[str, Fraction],
) -> Iterator[Finding]:
    for rung in stage.rungs:
        for symbol in dict.fromkeys(symbol for leg in rung.legs for symbol in leg.shares):
            size, limit = view.size(symbol), Fraction(view.passes(symbol))
            here, before = rung.drawn(symbol) / size, earlier.get(symbol, ())
            total = here + sums.get(symbol, Fraction(0))
            if here and total > limit:
                most = max(rung.legs, key=lambda leg: leg.shares.get(symbol, Fraction(0)) * (leg.tokens or 0))
                counted = ", ".join([*_told(before), f"{float(here):.3g} here"])
                detail = f"{symbol} in strategy {rung.spec.name} of stage {stage.name}"
                drawn = f"{approximate_tokens(int(rung.drawn(symbol)))} tokens drawn of {approximate_tokens(size)}"
                found = f"{float(total):.3g} passes ({counted}); {drawn}"
                place = (*most.path, "mixture")
                yield Finding(stage.manifest, place, detail, found, f"at most {float(limit):g} passes", key=True)


def _told(before: Sequence[tuple[str, Fraction]]) -> Iterator[str]:
    """The passes of earlier stages, one by one as far as a person reads them."""
    seen = [(name, passes) for name, passes in before if passes]
    yield from (f"{float(passes):.3g} in {name}" for name, passes in seen[:PASSES_TOLD])
    rest = [passes for _, passes in seen[PASSES_TOLD:]]
    if rest:
        yield f"{float(sum(rest)):.3g} in {len(rest)} more"


def _selected_passes(view: CampaignView) -> Iterator[Finding]:
    """A small cap makes the buffer's selection a small source, whatever the dataset holds."""
    for stage, rung in view.rungs():
        for leg in rung.legs:
            for symbol, share in leg.selected.items():
                size, limit = view.selection(symbol), Fraction(view.passes(symbol))
                drawn = share * (leg.tokens or 0)
                if size is not None and drawn > limit * size:
                    there = (view.manifest, ("spec", "buffer", "select", symbol, "cap"), "the buffer's selection")
                    yield Finding(
                        stage.manifest,
                        (*leg.path, "mixture"),
                        f"the buffer's selection of {symbol} in strategy {rung.spec.name} of stage {stage.name}",
                        f"{float(drawn / size):.3g} passes; {approximate_tokens(int(drawn))} tokens drawn of "
                        f"{approximate_tokens(size)}",
                        f"at most {float(limit):g} passes",
                        related=(there,),
                        key=True,
                    )


@rule(
    "CPT011",
    "incomplete-pass",
    Severity.NOTE,
    "A stage never completes a pass over its own dataset",
    why="""The stage's tokens times the dataset's weight are fewer than the dataset has: some of it is never seen, in
        this stage or, unless the buffer draws it later, at all. That may be meant, and is worth knowing before months
        of node-hours are spent.""",
    todo="Raise the stage's tokens or the weight, or waive this with what the rest is for.",
    sources=("cookbook, Recommended CPT strategies by stage: weights of 0.33 and 0.47 of a stage as long as its data",),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          tokens: 1T
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
          tokens: 0.5T
          strategies:    # <- 0.5T tokens of 1T
            - name: naive
              legs:
                - mixture: {D1: 1}
                  lr: {shape: constant}
        """,
)
def _cpt011(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        size = view.size(stage.symbol)
        passes = [(rung, rung.drawn(stage.symbol) / size) for rung in stage.rungs]
        short = [(rung, done) for rung, done in passes if done < PASS_LEAST]
        if short and all(rung.known for rung, _ in short):
            told = ", ".join(f"{float(done):.2g} in {rung.spec.name}" for rung, done in short)
            whole = f"{approximate_tokens(size)} tokens of {stage.symbol}"
            yield Finding(
                stage.manifest,
                ("spec", "strategies"),
                f"{stage.symbol} in stage {stage.name}",
                f"passes over it: {told}",
                f"{float(PASS_LEAST):g} or more, of {whole}",
                key=True,
            )


def _forgettable(view: CampaignView) -> Iterator[tuple[str, StageView]]:
    """Datasets that a later stage trains after, with the first stage that does."""
    for symbol in dict.fromkeys(symbol for stage in view.stages for symbol in stage.earlier):
        yield symbol, next(stage for stage in view.stages if symbol in stage.earlier)


@rule(
    "CPT012",
    "no-validation-set",
    Severity.WARNING,
    "No validation set for a dataset that later stages could forget",
    why="""Forgetting is the rise of a loss on held-out data of an earlier dataset. Without a set of it that is fixed
        from the start, a stage that forgets the dataset passes its gates.""",
    todo="Add a set of it to the Model's `validation.sets` before the first stage is trained.",
    sources=("cookbook, introduction: validation tasks must be fixed from the start and remain consistent",),
    good="""
        kind: Model
        metadata: {name: base}
        spec:
          validation:
            sets:
              - {name: val-D0, of: D0, lists: {here: {path: val/D0.txt}}}
              - {name: val-D1, of: D1, lists: {here: {path: val/D1.txt}}}
              - {name: val-D2, of: D2, lists: {here: {path: val/D2.txt}}}
        """,
    bad="""
        kind: Model
        metadata: {name: base}
        spec:
          validation:
            sets:    # <- D1 is missing, and stages 3 and 4 may forget it
              - {name: val-D0, of: D0, lists: {here: {path: val/D0.txt}}}
              - {name: val-D2, of: D2, lists: {here: {path: val/D2.txt}}}
        """,
)
def _cpt012(view: CampaignView) -> Iterator[Finding]:
    shown = {chosen.of for chosen in view.model.spec.validation.sets}
    for symbol, stage in _forgettable(view):
        if symbol not in shown:
            there = (stage.manifest, ("spec", "dataset"), "the first stage that could forget it")
            detail = f"{symbol} of campaign {view.manifest.metadata.name}"
            path = ("spec", "validation", "sets")
            yield Finding(view.model, path, detail, expected=f"a set of {symbol}", key=True, related=(there,))


@rule(
    "CPT013",
    "forgetting-not-judged",
    Severity.WARNING,
    "Forgetting is not judged",
    why="""The campaign continues training so that earlier knowledge is kept. With the forgetting gate turned off a
        stage is done whatever it lost, and no rung of the ladder that answers forgetting is ever tried.""",
    todo="Leave the gate on, with wider limits if need be.",
    sources=("cookbook, introduction: mitigating catastrophic forgetting", "cookbook, table: monitor loss"),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          gates: {forgetting: {strong: {warn: 0.2, fail: 0.4}}}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          gates: {forgetting: null}    # <-
        """,
)
def _cpt013(view: CampaignView) -> Iterator[Finding]:
    for stage in view.stages:
        own = stage.manifest.spec.gates
        gates = own or view.manifest.spec.gates
        if gates.forgetting is None and stage.earlier:
            where = stage.manifest if own else view.manifest
            yield Finding(where, ("spec", "gates", "forgetting"), f"forgetting: null at stage {stage.name}")


RULES: Final = (_cpt010, _cpt011, _cpt012, _cpt013)
