"""CPT070 to CPT074: batch, jobs and node-hours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final

from reconciler.domain import batch, cost
from reconciler.domain.budget import usable_seconds
from reconciler.domain.rules.rule import Finding, percent, rule
from reconciler.domain.rules.view import CampaignView
from reconciler.model.problems import Severity
from reconciler.model.quantities import approximate_tokens, format_decimal, format_tokens, format_walltime
from reconciler.model.strategy import StageSource

FACTOR_MOST: Final = 4
"""Beyond it the best rate of Adam falls again as the batch grows (arXiv 2405.14578)."""
TRAINING_LEAST: Final = Fraction(1, 2)
"""Of a job's walltime."""
_KEEP_IN_MIND: Final = "cookbook, Things to keep in mind"


@rule(
    "CPT070",
    "batch-factor",
    Severity.WARNING,
    "The batch is scaled by more than four",
    why="""A batch that changes by k takes the learning rate with it, by √k or k. That holds for small factors only:
        with Adam the best rate rises with the batch and then falls again.""",
    todo="Change the batch by a factor of at most 4, in one step.",
    sources=(_KEEP_IN_MIND, "arXiv 2205.10287: √k for Adam", "arXiv 2405.14578"),
    good="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
            - name: cooldown-half-batch
              batch: {times: 0.5, rate: sqrt}
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
            - name: cooldown-small-batch
              batch: {times: 0.125, rate: linear}    # <-
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
        """,
)
def _cpt070(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        scale = rung.spec.batch
        if scale is not None and not Fraction(1, FACTOR_MOST) <= Fraction(scale.times) <= FACTOR_MOST:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            path = (*rung.path, "batch", "times")
            yield Finding(stage.manifest, path, detail, f"k = {format_decimal(scale.times)}", "1/4 to 4")


@rule(
    "CPT071",
    "batch-changes-back",
    Severity.NOTE,
    "The batch of a stage is not that of the stage it continues from",
    why="""The batch is one of the things that the cookbook holds fixed. Where one stage scales it, those after it go on
        with the model's batch and rate, so the noise of the gradient and the loss on the plateau change with no change
        of data: what the gates compare is then not the data alone.""",
    todo="Scale the batch of the stages after it too, or waive this.",
    sources=("cookbook, introduction: all hyperparameters except the learning rate are held fixed", _KEEP_IN_MIND),
    good="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
            - name: cooldown-half-batch    # the last stage: nothing goes on from it
              batch: {times: 0.5, rate: sqrt}
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: naive
              batch: {times: 2, rate: sqrt}
              legs:
                - mixture: {D1: 1}
                  lr: {shape: constant}
        ---
        kind: Stage
        metadata: {name: stage-3}
        spec:
          source: {stage: stage-2}    # <- which had twice the batch
        """,
)
def _cpt071(view: CampaignView) -> Iterator[Finding]:
    model = view.model.spec
    for stage in view.stages:
        source = stage.manifest.spec.source
        before = view.stage(source.stage) if isinstance(source, StageSource) else None
        if before is None:
            continue
        made = {batch.of(model, rung.spec) for rung in before.rungs}
        own = {batch.of(model, rung.spec) for rung in stage.rungs}
        if made - own - {model.batch.global_}:
            there = (before.manifest, (*before.rungs[0].path, "batch"), f"the batch of {before.name}")
            found, expected = _sequences(own), _sequences(made)
            detail = f"stage {stage.name} after {before.name}"
            yield Finding(stage.manifest, ("spec", "source"), detail, found, expected, related=(there,))


def _sequences(batches: Iterable[int | None]) -> str:
    return f"{' or '.join(sorted(map(str, batches)))} sequences a step"


@rule(
    "CPT072",
    "little-time-to-train",
    Severity.WARNING,
    "A job spends less than half of its walltime on training",
    why="""Every job starts up once and leaves as much time free for its last save. The shorter the job, the more
        node-hours go there; M065 is a job with no time left at all.""",
    todo="Ask for more walltime.",
    sources=("launcher contract, 1.4: exit-duration = walltime − start-up − save time",),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec: {resources: {walltime: 6h}}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec: {resources: {walltime: 45m}}    # <- of which 30 minutes go
        """,
)
def _cpt072(view: CampaignView) -> Iterator[Finding]:
    startup = view.cluster.spec.launcher.startup
    for stage in view.stages:
        walltime = stage.manifest.spec.resources.walltime
        usable = usable_seconds(walltime, startup)
        if 0 < usable < TRAINING_LEAST * walltime:
            there = (view.cluster, ("spec", "launcher", "startup"), "the start-up, taken off twice")
            found = f"{format_walltime(int(usable))} of {format_walltime(int(walltime))}, {percent(usable / walltime)}"
            path = ("spec", "resources", "walltime")
            yield Finding(stage.manifest, path, f"stage {stage.name}", found, "half or more", related=(there,))


@rule(
    "CPT073",
    "over-allocation",
    Severity.WARNING,
    "The campaign cannot be finished with what may be spent",
    why="""At the speed that the cluster declares, training every stage once by its first rung costs more node-hours
        than the campaign's bound or the cluster's allocation. `plan` refuses to begin what it cannot finish.""",
    todo="Raise the bound, ask for a larger allocation, or plan fewer tokens.",
    sources=("cookbook, Stage 3 to stage 4: ~6 % of training left, if all budgets are spent as planned",),
    good="""
        kind: Cluster
        metadata: {name: here}
        spec: {throughput: {base: 1000000}}
        """,
    bad="""
        kind: Cluster
        metadata: {name: here}
        spec: {throughput: {base: 1000}}
        ---
        kind: Campaign
        metadata: {name: cookbook}
        spec:
          bounds: {nodeHours: 5000}    # <-
        """,
)
def _cpt073(view: CampaignView) -> Iterator[Finding]:
    declared = cost.declared(view.catalog, view.name)
    if declared is not None and declared.over:
        told = ", ".join(f"{name} {float(hours):,.0f}" for name, hours in declared.stages.items())
        found = f"about {float(declared.node_hours):,.0f} node-hours ({told})"
        path = ("spec", "bounds", "nodeHours")
        there = (view.cluster, ("spec", "allocation", "nodeHours"), "the allocation")
        expected = f"at most {format_decimal(declared.bound)}"
        yield Finding(view.manifest, path, f"campaign {view.name}", found, expected, related=(there,))


@rule(
    "CPT074",
    "token-bound-below-budget",
    Severity.WARNING,
    "The campaign's bound of tokens is below the sum of its stages",
    why="""`bounds.tokens` counts all that is trained, discarded attempts and pilots included. Below the sum of the
        stages' budgets the campaign holds before its end even if every first rung succeeds.""",
    todo="Raise `bounds.tokens` to the stages' sum and what fallbacks may cost.",
    sources=("cookbook, AuroraGPT V1: 4T + 2T + 1.5T + 0.5T",),
    good="""
        kind: Campaign
        metadata: {name: cookbook}
        spec: {bounds: {tokens: 10T}}
        """,
    bad="""
        kind: Campaign
        metadata: {name: cookbook}
        spec:
          bounds: {tokens: 5T}    # <- stages of 5.5T
        """,
)
def _cpt074(view: CampaignView) -> Iterator[Finding]:
    bound = view.manifest.spec.bounds.tokens
    whole = sum(stage.manifest.spec.tokens for stage in view.stages)
    if bound is not None and bound < whole:
        path, expected = ("spec", "bounds", "tokens"), f"at least {approximate_tokens(whole)}"
        yield Finding(view.manifest, path, f"campaign {view.name}", format_tokens(bound), expected)


RULES: Final = (_cpt070, _cpt071, _cpt072, _cpt073, _cpt074)
