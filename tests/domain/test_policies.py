"""Learning-rate policies from manifest to recipe: decays over several legs and stages, sources and batches of a
strategy's own, and where a rate must not jump.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, cast

import pytest

from reconciler.domain.loading import load
from reconciler.domain.resolve import Unresolved
from reconciler.domain.schedule import boundaries, rate_at
from reconciler.model.recipe import LegRecipe, Load, Shape
from reconciler.planner.desired import Desired
from tests.domain.test_resolve import recipe_of, resolved
from tests.planner.world import MANIFESTS, SITE, World

LR = 2e-3
OLD, MIX = "D1: 1", "D0: 0.7, D2: 0.3"
MIX_4 = "D0: 0.33, D3: 0.33, buffer: 0.34"


def rung(*legs: tuple[str, ...], name: str = "only", **more: str) -> str:
    """A strategy; a leg is (mixture, policy[, tokens])."""
    lines = [f"    - name: {name}", *(f"      {key}: {value}" for key, value in more.items()), "      legs:"]
    for mixture, policy, *tokens in legs:
        lines += [f"        - mixture: {{{mixture}}}", f"          lr: {{{policy}}}"]
        lines += [f"          tokens: {tokens[0]}"] if tokens else []
    return "\n".join(lines) + "\n"


def with_stages(**stages: tuple[str, str] | tuple[str]) -> Desired:
    """The quickstart campaign with other ladders, and sources, for some stages: `stage_3=(ladder, source)`."""

    def edit(text: str) -> str:
        documents = text.split("---\n")
        for name, (ladder, *source) in stages.items():
            at = next(i for i, document in enumerate(documents) if f"name: {name.replace('_', '-')}\n" in document)
            head, rest = documents[at].split("  source: ")
            was, rest = rest.split("\n", 1)
            tail = rest[rest.index("  resources:") :]
            documents[at] = f"{head}  source: {source[0] if source else was}\n  strategies:\n{ladder}{tail}"
        return "---\n".join(documents)

    def only_stages(text: str) -> str:
        return edit(text) if "name: stage-1\n" in text else text

    files = [(path.name, only_stages(path.read_text()).encode()) for path in sorted(MANIFESTS.glob("*.yaml"))]
    loaded = load(files)
    # What the cookbook's rules say of such a small campaign is not the matter here.
    assert not [problem for problem in loaded.problems if problem.code.startswith("M")]
    return Desired(loaded.catalog, "quickstart", "c" * 40, False, SITE)


def ends(leg: LegRecipe) -> tuple[float, float]:
    return rate_at(leg.curve, leg.position), rate_at(leg.curve, leg.position + leg.iterations)


def one_decay(first: LegRecipe, second: LegRecipe) -> None:
    """Two legs are one decay: one curve, one after the other, and nothing between."""
    assert first.curve == second.curve
    assert second.position == first.position + first.iterations
    assert second.load is Load.CONTINUE


# --- Strategy 4: data switched in the middle of a decay


@pytest.mark.parametrize(
    ("policy", "share"),
    [
        pytest.param(f"shape: {shape}, to: lrMax/{n}, until: lrMax/5", share, id=f"{shape}, N = {n}")
        for shape, n, share in (
            ("cooldown", 10, 0.7901), ("cooldown", 50, 0.6664), ("cooldown", 100, 0.6530),
            ("cosine", 10, 0.7837), ("cosine", 50, 0.7180), ("cosine", 100, 0.7113),
        )
    ],
)  # fmt: skip
def test_the_data_is_switched_where_the_rate_comes_down_to_a_fifth(policy: str, share: float) -> None:
    recipe = resolved("stage-3", 0, with_stages(stage_3=(rung((OLD, policy), (MIX, "shape: continue")),)))
    first, second = recipe.legs
    one_decay(first, second)
    assert first.iterations / recipe.iterations == pytest.approx(share, abs=2 / recipe.iterations)
    assert rate_at(first.curve, second.position) <= LR / 5 < rate_at(first.curve, second.position - 2)
    assert ends(first)[0] == LR
    assert ends(second)[1] == pytest.approx(first.curve.low, rel=1e-12)
    assert first.tokens + second.tokens == recipe.tokens == 1_500_000
    assert first.tokens == first.iterations * 2048
    assert dict(first.mixture) == {"D1": "1"}
    assert set(second.mixture) == {"D0", "D2"}
    assert recipe.iterations == pytest.approx(733, abs=2)
    assert first.iterations % 100
    assert second.iterations % 100


def test_a_plateau_before_the_decay_and_two_switches_in_it() -> None:
    ladder = rung(
        (OLD, "shape: constant", "0.3M"),
        (OLD, "shape: cooldown, decay: linear, to: lrMax/10, until: lrMax/2"),
        ("stage-2: 0.5, D2: 0.5", "shape: continue, until: lrMax/5"),
        (MIX, "shape: continue"),
    )
    hold, *fall = resolved("stage-3", 0, with_stages(stage_3=(ladder,))).legs
    assert hold.curve.shape is Shape.CONSTANT
    assert fall[0].curve.shape is Shape.LINEAR
    assert fall[0].position == fall[0].curve.start == hold.position + hold.iterations
    one_decay(fall[0], fall[1])
    one_decay(fall[1], fall[2])
    step = LR / (fall[0].curve.end - fall[0].curve.start)
    assert [ends(leg)[1] for leg in fall] == pytest.approx([LR / 2, LR / 5, LR / 10], abs=2 * step)


def test_a_switch_by_tokens_is_one_decay_too() -> None:
    ladder = rung((OLD, "shape: cosine, to: lrMax/10", "1M"), (MIX, "shape: continue"))
    first, second = resolved("stage-3", 0, with_stages(stage_3=(ladder,))).legs
    one_decay(first, second)
    assert (first.tokens, first.iterations, second.tokens) == (1_000_000, 489, 500_000)
    assert first.curve.end == second.position + second.iterations


def test_a_warm_up_before_a_decay_that_is_switched_is_a_share_of_the_whole() -> None:
    ladder = rung(
        (OLD, "shape: cooldown, at: lrMax/2, until: lrMax/5, rewarm: true, warmup: 10%"), (MIX, "shape: continue")
    )
    recipe = resolved("stage-3", 0, with_stages(stage_3=(ladder,)))
    first, second = recipe.legs
    one_decay(first, second)
    assert (first.load, first.position) == (Load.REWARM, 0)
    assert first.curve.warmup == first.curve.start == -(-recipe.iterations // 10)
    assert rate_at(first.curve, second.position) == pytest.approx(LR / 5, rel=0.01)


# --- into the stage after it

TO_8T = rung(("D0: 1", "shape: cooldown, to: lrMax/50, until: lrMax/5, over: 2M"), (MIX, "shape: continue"))
GOES_ON = rung(("stage-3: 1", "shape: continue"))


def test_a_decay_that_takes_longer_than_its_stage_goes_on_in_the_next() -> None:
    """The figure of Strategy 4: the decay starts where stage 2 ends, and runs through stages 3 and 4 to their end."""
    desired = with_stages(stage_3=(TO_8T,), stage_4=(GOES_ON, "{stage: stage-3, checkpoint: final}"))
    third, fourth = resolved("stage-3", 0, desired), resolved("stage-4", 0, desired)
    switch, rest = third.legs
    (goes_on,) = fourth.legs
    one_decay(switch, rest)
    one_decay(rest, goes_on)
    assert switch.curve.end - switch.curve.start == -(-2_000_000 // 2048)
    assert switch.iterations * 2048 == pytest.approx(0.6664 * 2e6, rel=2e-3)
    assert ends(goes_on) == (ends(rest)[1], LR / 50)
    assert fourth.source.rate == ends(rest)[1]
    assert fourth.source.leg == 1
    assert boundaries(fourth) == ("",)


def test_the_end_of_a_continued_decay_is_converged_although_budgets_are_rounded() -> None:
    desired = with_stages(stage_3=(TO_8T,), stage_4=(GOES_ON, "{stage: stage-3, checkpoint: final}"))
    (goes_on,) = resolved("stage-4", 0, desired).legs
    assert goes_on.position + goes_on.iterations in (goes_on.curve.end, goes_on.curve.end + 1)


@pytest.mark.parametrize(
    ("policy", "source", "ratio"),
    [
        pytest.param(
            "shape: cooldown, at: lrSource, to: lrSource/100, until: lrSource/5", "final", 1.0, id="from its end"
        ),
        pytest.param(
            "shape: cosine, at: lrSource, to: lrSource/100, until: lrSource/5", "converged", 1.0, id="which is its end"
        ),
        pytest.param("shape: cooldown, at: lrMax/10, to: lrMax/1000, until: lrMax/50", "final", 1.0, id="as numbers"),
        pytest.param(
            "shape: cosine, at: lrSource*5, to: lrFinal, until: lrSource, rewarm: true, warmup: 1%", "converged", 5.0,
            id="rewarmed to a multiple",
        ),
    ],
)  # fmt: skip
def test_continue_the_decay_into_stage_4(policy: str, source: str, ratio: float) -> None:
    """After Strategy 4 down to LR_3 = LR max / 10: from LR_3 to LR_3 / 100, new data at LR_3 / 5."""
    desired = with_stages(
        stage_3=(rung((OLD, "shape: cooldown, to: lrMax/10, until: lrMax/5"), (MIX, "shape: continue")),),
        stage_4=(rung(("stage-3: 1", policy), (MIX_4, "shape: continue")), f"{{stage: stage-3, checkpoint: {source}}}"),
    )
    recipe = resolved("stage-4", 0, desired)
    first, second = recipe.legs
    one_decay(first, second)
    assert recipe.source.rate == pytest.approx(LR / 10, rel=1e-12)
    assert first.curve.high == pytest.approx(ratio * LR / 10, rel=1e-9)
    steep = (first.curve.high - first.curve.low) / 30
    wanted = LR / 50 if ratio == 1 else LR / 10
    assert rate_at(first.curve, second.position) == pytest.approx(wanted, abs=steep)


# --- what cannot be


@pytest.mark.parametrize(
    ("third", "fourth", "source", "words"),
    [
        pytest.param(
            rung((MIX, "shape: constant")), GOES_ON, "final",
            "strategy only of stage stage-4: leg 0 continues a decay, but its source is in none",
            id="a source on the plateau",
        ),
        pytest.param(
            rung((MIX, "shape: cooldown")), GOES_ON, "final",
            "leg 0 continues a decay, but its source is in none",
            id="a source whose decay is over",
        ),
        pytest.param(
            rung((MIX, "shape: cooldown, over: 1.8M")), GOES_ON, "final",
            "leg 0 has 500k tokens, but its decay is over after 299k of them",
            id="more tokens than are left of the decay",
        ),
        pytest.param(
            rung((MIX, "shape: cooldown, over: 1.8M")), GOES_ON.replace("continue", "constant, at: lrMax/7"), "final",
            "leg 0 begins at 0.0002857, but its source stands at 0.0001736; begin there",
            id="a rate that only the resolved source shows to jump",
        ),
        pytest.param(
            rung((MIX, "shape: cooldown")), GOES_ON.replace("continue", "cosine, at: lrSource, to: lrSource/2"),
            "final", "leg 0 begins at lrSource, but its source stands at 0", id="a source at rate 0",
        ),
        pytest.param(
            rung((MIX, "shape: cooldown, over: 1.8M")),
            GOES_ON.replace("continue", "cosine, at: lrSource, to: lrMax/2"), "final",
            "leg 0 falls from lrSource, 0.0001736, to lrMax/2, which is 0.001", id="a decay that rises after all",
        ),
        pytest.param(
            rung((MIX, "shape: cooldown, over: 1.8M")),
            GOES_ON.replace("continue", "cosine, at: lrSource, to: lrSource/2"), "converged",
            "stage-3 has no converged checkpoint at the end of a leg; there is leg 0 at iteration 733 (in its decay",
            id="converged, and it is not over",
        ),
    ],
)  # fmt: skip
def test_what_only_the_source_shows_to_be_wrong_is_unresolved(third: str, fourth: str, source: str, words: str) -> None:
    desired = with_stages(stage_3=(third,), stage_4=(fourth, f"{{stage: stage-3, checkpoint: {source}}}"))
    found = recipe_of("stage-4", 0, desired)
    assert isinstance(found, Unresolved)
    assert words in found.message


# --- a source of the strategy's own


def test_a_strategy_takes_its_own_source() -> None:
    ladder = rung((OLD, "shape: constant")) + rung(
        ("D0: 0.9, D2: 0.1", "shape: cosine, at: lrMax/2, to: lrFinal, warmup: 1%, rewarm: true"),
        name="rewarm", source="{stage: stage-1, checkpoint: pre-cooldown}",
    )  # fmt: skip
    desired = with_stages(stage_3=(ladder,))
    base = resolved("stage-1", 0, desired)
    recipe = resolved("stage-3", 1, desired)
    assert (recipe.source.stage, recipe.source.leg, recipe.source.iteration) == ("stage-1", 0, base.iterations)
    assert resolved("stage-3", 0, desired).source.stage == "stage-2"
    assert boundaries(recipe) == ("falls from 0.002 to 0 and rises to 0.001 over 8 iterations: rewarm",)


def test_an_external_source_says_the_rate_that_its_policy_is_a_part_of() -> None:
    outside = "{path: /flare/base, checkpoint: {iteration: 500}, format: universal, rate: 1e-3}"
    ladder = rung((OLD, "shape: cooldown, at: lrSource, to: lrSource/100"), source=outside)
    (leg,) = resolved("stage-3", 0, with_stages(stage_3=(ladder,))).legs
    assert (leg.curve.high, leg.curve.low, leg.position) == (1e-3, 1e-5, 500)


def test_jobs_load_from_the_strategy_s_own_source() -> None:
    outside = "{path: old/run, checkpoint: {iteration: 500}, format: zero, dataParallel: 1}"
    ladder = rung(("D0: 1", "shape: constant, rewarm: true"), source=outside)
    desired = with_stages(stage_1=(ladder,))
    action = World(desired).the_action()
    assert action.job is not None
    (call, *_) = cast("list[dict[str, Any]]", action.job.values["launches"])
    assert call["environment"]["LOAD"] == "/r/old/run"
    assert "--load-tag=global_step500" in call["arguments"]


# --- another batch


def batched(k: str, rule: str, policy: str = "shape: constant", **more: str) -> str:
    return rung((MIX, policy), batch=f"{{times: {k}, rate: {rule}}}", **more)


@pytest.mark.parametrize(
    ("k", "rule", "batch", "rate", "accumulation"),
    [
        pytest.param("2", "sqrt", 32, LR * sqrt(2), 4, id="twice, √k"),
        pytest.param("2", "linear", 32, LR * 2, 4, id="twice, k"),
        pytest.param("0.5", "sqrt", 8, LR * sqrt(0.5), 1, id="half"),
    ],
)
def test_batch_and_rate_are_scaled(k: str, rule: str, batch: int, rate: float, accumulation: int) -> None:
    recipe = resolved("stage-3", 0, with_stages(stage_3=(batched(k, rule),)))
    (leg,) = recipe.legs
    assert (recipe.global_batch, recipe.accumulation, recipe.tokens_per_iteration) == (batch, accumulation, batch * 128)
    assert leg.curve.high == pytest.approx(rate)
    assert leg.iterations == pytest.approx(1_500_000 / (batch * 128), abs=1)
    assert leg.iterations % max(1, round(100 * 16 / batch)), "as many tokens between saves as with the model's batch"
    # 2931 iterations of 16 before it: the launcher counts samples.
    assert leg.position == 2931 * 16 // batch
    assert recipe.source.remainder == 2931 * 16 % batch
    assert boundaries(recipe)[0].endswith(f"rates × {rate / LR:.3g} for another batch")


def test_a_decay_does_not_begin_in_the_middle_of_an_iteration() -> None:
    found = recipe_of("stage-3", 0, with_stages(stage_3=(batched("2", "sqrt", "shape: cooldown"),)))
    assert isinstance(found, Unresolved)
    assert found.message == (
        "strategy only: its source has counted 46896 samples, which is no whole number of batches of 32, so no decay "
        "can be laid out from there; a source of 976 or 978 iterations instead of 977 would do, or take another k, or "
        "rewarm"
    )


def test_a_decay_begins_where_the_samples_come_out_whole() -> None:
    recipe = resolved("stage-3", 0, with_stages(stage_3=(batched("0.5", "sqrt", "shape: cooldown"),)))
    (leg,) = recipe.legs
    assert (leg.position, leg.curve.start, recipe.source.remainder) == (5862, 5862, 0)


def test_what_is_left_of_an_iteration_is_carried_to_the_next_stage() -> None:
    desired = with_stages(
        stage_3=(batched("2", "sqrt"),),
        stage_4=(rung((MIX_4, "shape: cooldown")), "{stage: stage-3, checkpoint: pre-cooldown}"),
    )
    third, fourth = resolved("stage-3", 0, desired), resolved("stage-4", 0, desired)
    samples = third.source.remainder + sum(leg.iterations for leg in third.legs) * 32 + 1465 * 32
    assert third.source.remainder == 16
    assert (fourth.source.position * 16, fourth.source.remainder) == (samples, 0)
    assert fourth.rate_scale == 1.0


def test_the_source_s_rate_is_scaled_by_the_batches_ratio_only() -> None:
    desired = with_stages(
        stage_3=(batched("2", "sqrt"),),
        stage_4=(
            batched("2", "sqrt", "shape: constant, at: lrSource").replace(MIX, MIX_4)
            + batched("4", "sqrt", "shape: constant, at: lrSource", name="more").replace(MIX, MIX_4),
            "{stage: stage-3, checkpoint: pre-cooldown}",
        ),
    )
    assert resolved("stage-4", 0, desired).legs[0].curve.high == pytest.approx(LR * sqrt(2))
    assert resolved("stage-4", 1, desired).legs[0].curve.high == pytest.approx(LR * 2)


def test_a_decay_goes_on_with_the_batch_that_it_began_with() -> None:
    twice = "      batch: {times: 2, rate: sqrt}\n      legs:"
    desired = with_stages(
        stage_3=(rung((MIX, "shape: cooldown, over: 2M")),),
        stage_4=(GOES_ON.replace("      legs:", twice), "{stage: stage-3, checkpoint: final}"),
    )
    found = recipe_of("stage-4", 0, desired)
    assert isinstance(found, Unresolved)
    assert "a decay that began with a global batch of 16 goes on with that batch" in found.message
