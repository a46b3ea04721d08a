"""What a plan says of learning rates: the curve of a leg, its part of a decay, and where a rate is not continuous."""

from __future__ import annotations

from rich.console import Console

from reconciler.cli.human.plan import render
from reconciler.planner.desired import Desired
from tests.domain.test_policies import MIX, MIX_4, batched, rung, with_stages
from tests.planner.world import World

OLD = "D1: 1"


def rates(desired: Desired) -> list[str]:
    """The plan's LR lines, without the small drawings in them."""
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(render(World(desired).plan()))
    lines = [line.strip() for line in capture.get().splitlines() if " LR  " in line or line.strip().startswith("LR  ")]
    return [" ".join(word for word in line.split() if not set(word) <= set(" ▁▂▃▄▅▆▇█")) for line in lines]


def test_a_switched_decay_names_the_part_that_each_leg_is() -> None:
    ladder = rung((OLD, "shape: cooldown, to: lrMax/50, until: lrMax/5"), (MIX, "shape: continue"))
    told = rates(with_stages(stage_3=(ladder,)))
    assert "leg 0 LR 1-sqrt cooldown from 0.002 to 4e-05, here from 0.002 to 0.0003991" in told
    assert "leg 1 LR 1-sqrt cooldown from 0.002 to 4e-05, here from 0.0003991 to 4e-05" in told


def test_a_rewarm_is_told_where_the_rate_is_not_continuous() -> None:
    desired = with_stages(
        stage_3=(rung((MIX, "shape: cooldown")),),
        stage_4=(
            rung((MIX_4, "shape: cosine, at: lrMax/2, rewarm: true, warmup: 1%")),
            "{stage: stage-3, checkpoint: converged}",
        ),
    )
    assert rates(desired) == [
        "LR warm-up over 196 iterations, then constant at 0.002",
        "LR constant at 0.002",
        "LR 1-sqrt cooldown from 0.002 to 0",
        "LR warm-up over 3 iterations, then cosine from 0.001 to 0 rises from 0 to 0.001 over 3 iterations: rewarm",
    ]


def test_another_batch_moves_the_rate() -> None:
    told = rates(with_stages(stage_3=(batched("2", "sqrt"),)))
    assert "LR constant at 0.00282843 rises from 0.002 to 0.002828: rates × 1.41 for another batch" in told
