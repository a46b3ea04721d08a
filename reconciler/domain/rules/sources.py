"""CPT001 to CPT005: what a stage starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reconciler.domain.budget import save_interval
from reconciler.domain.checkpoint import chosen, foreseen
from reconciler.domain.rules.rule import PLATEAU, Finding, rule
from reconciler.domain.rules.view import CampaignView, RungView, StageView
from reconciler.domain.schedule import NamedRates
from reconciler.model.problems import Path, Severity
from reconciler.model.strategy import ExternalSource, StageSource

LOGGED_TOLERANCE: Final = 0.01
"""The launcher logs six digits; a rate that is off by more is another rate."""


def source_path(rung: RungView) -> Path:
    """Where a rung's source is declared: by itself or by its stage."""
    return (*rung.path, "source") if rung.spec.source is not None else ("spec", "source")


@rule(
    "CPT001",
    "no-such-checkpoint",
    Severity.WARNING,
    "The source stage leaves no such checkpoint",
    why="""A stage that stays on the plateau continues from a checkpoint at LR max, a rewarm from a converged one. If
        no rung of the source stage leaves one at the end of a leg, the campaign holds there, months later: a checkpoint
        of the decay trained on at LR max would be a rewarm that nobody asked for.""",
    todo="""End a leg of the source stage at LR max (or, for `converged`, cool it down), or let this stage go on along
        the decay with `checkpoint: final` and `shape: continue`.""",
    sources=(PLATEAU, "launcher contract, 2.2: whether a checkpoint is before cooldown is decided by its rate"),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          source: {stage: stage-1, checkpoint: pre-cooldown}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          source: {stage: stage-3, checkpoint: pre-cooldown}    # <- stage-3 decays from its first token on
        ---
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: decay-50
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: cooldown, to: lrMax/50}
            - name: decay-10
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: cooldown, to: lrMax/10}
        """,
)
def _cpt001(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in sources(view):
        source = rung.source
        before = view.stage(source.stage) if isinstance(source, StageSource) else None
        if before is None or not isinstance(source, StageSource):
            continue
        rate, model = view.manifest.spec.learning_rate, view.model.spec
        rates = NamedRates(rate.max, rate.final)
        found: list[object] = []
        for recipe in (other.recipe for other in before.rungs):
            every = save_interval(model.checkpoint_every, model.batch.global_, recipe.global_batch) if recipe else 1
            saved = foreseen(recipe, source, every) if recipe else {}
            found.append(chosen(recipe, source, rates, saved) if recipe is not None else None)
        if all(isinstance(each, str) for each in found):
            yield Finding(stage.manifest, source_path(rung), str(found[0]))


@rule(
    "CPT002",
    "converged-without-rewarm",
    Severity.WARNING,
    "Converged source without rewarm",
    why="""A converged checkpoint has a learning rate near its final value, and its weights have settled for it.
        Training on from it at LR max without a declared rewarm is the jump that the cookbook warns of.""",
    todo="Take the pre-cooldown checkpoint, or write `rewarm: true` with a warm-up (Strategy 5).",
    sources=(PLATEAU, "cookbook, Strategy 5", "arXiv 2308.04014: rewarming raises the loss first"),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          source: {stage: stage-1}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          strategies:
            - name: replay-5
              legs:
                - mixture: {D0: 0.05, D1: 0.95}
                  lr: {shape: constant}
                  tokens: 0.9T
                - mixture: {D0: 0.05, D1: 0.95}
                  lr: {shape: cooldown}
        ---
        kind: Stage
        metadata: {name: stage-3}
        spec:
          source: {stage: stage-2, checkpoint: converged}
          strategies:
            - name: replay-10
              legs:
                - mixture: {stage-2: 0.1, D2: 0.9}
                  lr: {shape: constant}    # <- begins at LR max
            - name: mix-a
              source: {stage: stage-2}
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
)
def _cpt002(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in view.rungs():
        leg = rung.legs[0]
        converged = isinstance(rung.source, StageSource) and rung.source.checkpoint == "converged"
        stays = leg.spec.lr.shape == "continue" or str(leg.spec.lr.at) == "lrSource"
        if converged and not leg.spec.lr.rewarm and not stays:
            detail = f"strategy {rung.spec.name} of stage {stage.name}"
            fix = "Add rewarm: true, write at: lrSource, or take the pre-cooldown checkpoint."
            yield Finding(stage.manifest, (*leg.path, "lr"), detail, fix=fix, key=True)


@rule(
    "CPT003",
    "external-rate-unknown",
    Severity.WARNING,
    "The learning rate of an external checkpoint is not declared",
    why="""Whether an external checkpoint is at LR max or after its decay decides what may follow. Its folder does not
        say: `lr_state_dict.yaml` holds the peak, not the rate at that step. Only its log does.""",
    todo="Read `learning rate` in its log at that iteration and write it as `rate`; if it has decayed, rewarm.",
    sources=(PLATEAU, "launcher contract, 2.2"),
    good="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source: {path: /old/run, checkpoint: {iteration: 4000}, format: universal, rate: 2e-4, trainedOn: [d0]}
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source: {path: /old/run, checkpoint: {iteration: 4000}, format: universal, trainedOn: [d0]}    # <- no rate
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
)
def _cpt003(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in sources(view):
        if isinstance(rung.source, ExternalSource) and rung.source.rate is None and not rung.legs[0].spec.lr.rewarm:
            yield Finding(stage.manifest, source_path(rung), f"stage {stage.name} goes on at {rung.legs[0].spec.lr.at}")


def sources(view: CampaignView) -> Iterator[tuple[StageView, RungView]]:
    """A rung for each declared source: those with one of their own, and the first of those that take the stage's."""
    for stage in view.stages:
        seen: set[Path] = set()
        for rung in stage.rungs:
            if source_path(rung) not in seen:
                seen.add(source_path(rung))
                yield stage, rung


@rule(
    "CPT004",
    "external-data-unknown",
    Severity.WARNING,
    "What an external checkpoint was trained on is not declared",
    why="""Without it no mixture can replay that data, and no validation set can show that it is forgotten.""",
    todo="Name the datasets in `trainedOn`; what was pretrained on has the symbol D0.",
    sources=("cookbook, Legacy agpt-7b checkpoints: replay a small amount of the initial pretraining dataset",),
    good="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source: {path: /old/run, checkpoint: {iteration: 4000}, format: universal, rate: 2e-4, trainedOn: [d0]}
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source: {path: /old/run, checkpoint: {iteration: 4000}, format: universal, rate: 2e-4}    # <- no trainedOn
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
)
def _cpt004(view: CampaignView) -> Iterator[Finding]:
    for stage, rung in sources(view):
        if isinstance(rung.source, ExternalSource) and not rung.source.trained_on:
            yield Finding(stage.manifest, source_path(rung), f"the source of stage {stage.name} has no trainedOn")


@rule(
    "CPT005",
    "logged-rate-differs",
    Severity.ERROR,
    "The source checkpoint was logged at another learning rate than declared",
    why="""The log is the evidence of what was trained; a checkpoint whose logged rate is not the declared one is not
        the checkpoint that this stage was planned from. It is either past its plateau, or the launcher kept another
        schedule than it was told.""",
    todo="""Look at the log around that iteration. For an external checkpoint correct `rate`; for one of the
        campaign find out why the launcher did not follow the recipe before anything is trained on it.""",
    sources=(PLATEAU, "launcher contract, 2.2: decide by the logged learning_rate at that step"),
    good="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          source: {stage: stage-1}
        ---
        logged: {stage: stage-2, source: stage-1 leg-0, iteration: 476, logged: 2e-4, declared: 2e-4}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          source: {stage: stage-1}    # <- at 2e-6, by its log
        ---
        logged: {stage: stage-2, source: stage-1 leg-0, iteration: 476, logged: 2e-6, declared: 2e-4}
        """,
    observed=True,
)
def _cpt005(view: CampaignView) -> Iterator[Finding]:
    for name, seen in view.logged.items():
        stage = view.stage(name)
        if stage is None or abs(seen.logged - seen.declared) <= LOGGED_TOLERANCE * seen.declared + seen.step:
            continue
        detail = f"{seen.source} at iteration {seen.iteration}"
        found, expected = f"{seen.logged:g}, as logged", f"{seen.declared:g}"
        yield Finding(stage.manifest, ("spec", "source"), detail, found, expected)


RULES: Final = (_cpt001, _cpt002, _cpt003, _cpt004, _cpt005)
