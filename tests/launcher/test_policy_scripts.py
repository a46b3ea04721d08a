"""From manifest to script and back: every learning-rate policy of the cookbook, as the planner has it carried out.

The oracle reads the rendered script alone; it must come to the declared curve, in a first and in a later job.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.cluster.render import render
from reconciler.domain.resolve import Unresolved
from reconciler.launcher.agreement import agrees
from reconciler.model.plan import Training
from reconciler.planner.desired import Desired
from reconciler.planner.sketch import sketch
from tests.domain.test_policies import GOES_ON, MIX, MIX_4, OLD, TO_8T, batched, rung, with_stages
from tests.planner.world import quickstart

FINAL = "{stage: stage-3, checkpoint: final}"
CONVERGED = "{stage: stage-3, checkpoint: converged}"


AFTER = (rung((MIX_4, "shape: cooldown, at: lrSource")), FINAL)
"""The last stage, from wherever the one before it ended."""


def _switched(policy: str) -> str:
    return rung((OLD, f"{policy}, until: lrMax/5"), (MIX, "shape: continue"))


POLICIES = {
    f"Strategy 4, {shape} to LR max / {n}": with_stages(
        stage_3=(_switched(f"shape: {shape}, to: lrMax/{n}"),), stage_4=AFTER
    )
    for shape in ("cooldown", "cosine", "cooldown, decay: linear", "cooldown, decay: exponential")
    for n in (10, 50, 100)
} | {
    "the plain ladder": quickstart(),
    "a decay from 6 T to 8 T": with_stages(stage_3=(TO_8T,), stage_4=(GOES_ON, FINAL)),
    "on to LR_3 / 100, new data at LR_3 / 5": with_stages(
        stage_3=(_switched("shape: cooldown, to: lrMax/10"),),
        stage_4=(
            rung(
                ("stage-3: 1", "shape: cooldown, at: lrSource, to: lrSource/100, until: lrSource/5"),
                (MIX_4, "shape: continue"),
            ),
            FINAL,
        ),
    ),
    "Strategy 5": with_stages(
        stage_3=(
            rung((MIX, "shape: cooldown"))
            + rung(
                ("D0: 0.9, D2: 0.1", "shape: cosine, at: lrMax*2, warmup: 1%, rewarm: true, to: lrMax/10"),
                name="rewarm",
                source="{stage: stage-1, checkpoint: pre-cooldown}",
            ),
        ),
        stage_4=(
            rung((MIX_4, "shape: cooldown, decay: exponential, at: lrMax/2, rewarm: true, to: lrMax/100")),
            CONVERGED,
        ),
    ),
    "batch × 2, and back": with_stages(stage_3=(batched("2", "sqrt"),)),
    "batch / 2 in a decay": with_stages(
        stage_3=(batched("0.5", "linear", "shape: cosine, to: lrMax/10"),),
        stage_4=(rung((MIX_4, "shape: cooldown, at: lrMax/20, rewarm: true")), FINAL),
    ),
}


def trainings(desired: Desired) -> list[tuple[str, Training, str]]:
    """(name, what is declared, script) of the first and a later job of every leg of every rung."""
    found = []
    for stage in desired.stages:
        for strategy in stage.spec.strategies:
            for leg in range(len(strategy.legs)):
                for later in (False, True):
                    made = sketch(desired, stage, strategy, leg, later=later)
                    assert not isinstance(made, Unresolved), made
                    assert made.action.trains is not None
                    assert made.action.job is not None
                    # On a real machine: this one counts minutes in parts, and an hour leaves room for the last save.
                    values = dict(made.action.job.values) | {"machine": "aurora"}
                    job = replace(made.action.job, walltime_s=3600, values=values)
                    name = f"{stage.metadata.name}.{strategy.name}.leg-{leg}.{'later' if later else 'first'}"
                    found.append((name, made.action.trains, render(job, "/w/log")))
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_the_script_of_every_leg_follows_the_declared_curve(policy: str) -> None:
    made = trainings(POLICIES[policy])
    assert {name: agrees(declared, script) for name, declared, script in made} == {name: () for name, _, _ in made}
