"""A rendered script does what its recipe declares, whatever the policy; and one that was changed is found out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cluster.render import render
from reconciler.launcher.agreement import agrees
from reconciler.launcher.command import TrainPaths, train
from reconciler.model.plan import JobRequest, Training
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape, SourceRecipe
from tests.cluster.test_render import JOB
from tests.domain.test_resolve import resolved
from tests.launcher.test_schedule_law import Case, cases

SAVE, SOURCE, LIST = "/flare/w/leg-0", "/flare/w/source", "/flare/w/list.txt"


@dataclass(frozen=True)
class Declared:
    """A job of a leg, its resources, and its script."""

    training: Training
    job: JobRequest

    @property
    def script(self) -> str:
        return render(self.job, "/flare/w/log")


def declared(
    recipe: Recipe,
    *,
    newest: int | None = None,
    universal: bool = False,
    nodes: int = 1,
    walltime_s: int = 21_600,
    save_every: int = 0,
) -> Declared:
    """A job of the recipe's only leg, rendered as the planner has it."""
    leg = recipe.legs[0]
    source = "" if leg.load is Load.RANDOM else SOURCE
    load = SAVE if newest is not None else source
    tag = newest if newest is not None else (None if universal or not load else recipe.source.iteration)
    universal = universal and newest is None and bool(load)
    launch = train(
        recipe,
        leg,
        TrainPaths(SAVE, load, LIST, "/flare/w/stop"),
        later=newest is not None,
        load_iteration=tag,
        universal=universal,
        save_every=save_every or leg.iterations + 1,
        exit_minutes=str(walltime_s // 120),
    )
    values = dict(JOB.values) | {
        "machine": "aurora",
        "ranks_per_node": recipe.data_parallel // nodes,
        "launches": [{"environment": launch.environment, "arguments": list(launch.arguments)}],
    }
    job = replace(JOB, nodes=nodes, walltime_s=walltime_s, filesystems=("flare", "home"), values=values)
    return Declared(Training(recipe, 0, newest, load, universal, LIST), job)


@st.composite
def jobs(draw: st.DrawFn) -> Declared:
    """Any leg after any other schedule, as a first or a later job, on a cluster of any shape."""
    case: Case = draw(cases())
    nodes = draw(st.sampled_from([n for n in (1, 2, 3, 4, 8, 16, 32) if case.recipe.data_parallel % n == 0]))
    own = draw(st.one_of(st.none(), st.integers(1, case.leg.iterations - 1)))
    same_size = draw(st.booleans())
    universal = draw(st.booleans()) or not same_size
    made_by = case.recipe.data_parallel if same_size else case.recipe.data_parallel * 4
    position = draw(st.integers(0, 10**6)) if case.leg.load is Load.REWARM else case.leg.position
    iteration = draw(st.integers(1, 10**6))
    source = SourceRecipe("a" * 12, 0, iteration, "", position, 0 if universal else made_by)
    random = case.leg.load is Load.RANDOM
    recipe = replace(case.recipe, source=SourceRecipe() if random else source)
    walltime_s = draw(st.integers(240, 24 * 3600))
    every = draw(st.sampled_from([n for n in (1, 2, 7, 50, 1000) if n == 1 or case.leg.iterations % n]))
    return declared(
        recipe, newest=own, universal=universal and not random, nodes=nodes, walltime_s=walltime_s, save_every=every
    )


@settings(max_examples=300)
@given(jobs())
def test_between_policy_and_oracle_there_is_no_difference(job: Declared) -> None:
    assert agrees(job.training, job.script) == ()


# --- scripts that were changed

BASE = replace(resolved("stage-1"), data_parallel=12, accumulation=4)
MODEL = dict(BASE.model) | {"batch": {"micro": 1, "global_": 48}}


def of(load: Load, curve: Curve, position: int, iterations: int | None = None) -> Recipe:
    lasts = curve.end - position if iterations is None else iterations
    leg = LegRecipe({"D0": "1"}, {"D0": "1"}, {"D0": "d"}, 1, lasts, position, curve, load)
    source = SourceRecipe("a" * 12, 0, 300, "", 1000, 12) if load is not Load.RANDOM else SourceRecipe()
    return replace(BASE, model=MODEL, source=source, legs=(leg,))


RANDOM = of(Load.RANDOM, Curve(Shape.CONSTANT, 2e-3, 2e-3, 100, 1001, 1001), 0)
HOLD = of(Load.CONTINUE, Curve(Shape.CONSTANT, 2e-3, 2e-3, 0, 1501, 1501), 1000)
COOLDOWN = of(Load.CONTINUE, Curve(Shape.COOLDOWN, 2e-3, 2e-5, 0, 1000, 1501), 1000)
COSINE = of(Load.CONTINUE, Curve(Shape.COSINE, 2e-3, 2e-4, 0, 1000, 1501), 1000)
SWITCHED = of(Load.CONTINUE, Curve(Shape.COOLDOWN, 2e-3, 2e-5, 0, 700, 1701), 1000, 501)
LINE = of(Load.CONTINUE, Curve(Shape.LINEAR, 2e-3, 0.0, 0, 1000, 1501), 1000)
EXPONENTIAL = of(Load.CONTINUE, Curve(Shape.EXPONENTIAL, 2e-3, 2e-5, 0, 700, 1501), 1000)
EXPONENTIAL_AT_ONCE = of(Load.REWARM, Curve(Shape.EXPONENTIAL, 2e-3, 2e-5, 0, 0, 1001), 0)
OTHER_BATCH = replace(HOLD, source=replace(HOLD.source, remainder=17))
REWARM = of(Load.REWARM, Curve(Shape.COSINE, 2e-4, 0.0, 10, 10, 1001), 0)
FRACTION = repr(501 / 1501)
WHOLE = {
    "from random": declared(RANDOM, save_every=100),
    "hold": declared(HOLD, save_every=100),
    "hold, later": declared(HOLD, newest=200, save_every=100),
    "hold, universal": declared(
        replace(HOLD, source=replace(HOLD.source, data_parallel=0)), universal=True, save_every=100
    ),
    "cooldown": declared(COOLDOWN, save_every=100),
    "cooldown, later": declared(COOLDOWN, newest=200, save_every=100),
    "cosine": declared(COSINE, save_every=100),
    "cosine, later": declared(COSINE, newest=200, save_every=100),
    "switched": declared(SWITCHED, save_every=100),
    "switched, later": declared(SWITCHED, newest=200, save_every=100),
    "line": declared(LINE, save_every=100),
    "line, later": declared(LINE, newest=200, save_every=100),
    "exponential": declared(EXPONENTIAL, save_every=100),
    "exponential, later": declared(EXPONENTIAL, newest=200, save_every=100),
    "exponential at once": declared(EXPONENTIAL_AT_ONCE, save_every=100),
    "after another batch": declared(OTHER_BATCH, save_every=100),
    "after another batch, later": declared(OTHER_BATCH, newest=200, save_every=100),
    "rewarm": declared(REWARM, save_every=100),
    "rewarm, later": declared(REWARM, newest=200, save_every=100),
}
MUTATIONS = [
    # the rate
    ("hold", "LR=0.002", "LR=0.001", "rate after iteration 0"),
    ("hold, later", "LR=0.002", "LR=0.00200001", "rate after iteration 200"),
    ("hold", "LR_DECAY_STYLE=constant", "LR_DECAY_STYLE=cosine", "rate after iteration"),
    ("hold", "LR_WARMUP_FRAC=0.0", "LR_WARMUP_FRAC=0.9", "rate after iteration 0"),
    ("from random", "LR_WARMUP_FRAC=", "LR_WARMUP_FRACTION=", "ORA004"),
    ("from random", "export LR_WARMUP_FRAC=", "#", "rate after iteration"),
    ("cooldown", f"frac={FRACTION}", f"frac={1000 / 1501!r}", "rate after iteration 0"),
    ("cooldown", f"frac={FRACTION}", "frac=0.3337", "rate after iteration"),
    ("cooldown", "--lr_constant_plus_cooldown ", "--bf16 ", "rate after iteration"),
    ("cooldown, later", "--lr_constant_plus_cooldown ", "--bf16 ", "rate after iteration"),
    ("cooldown", "--min-lr=2e-05", "--min-lr=0.0", "rate after iteration"),
    ("cooldown", "LR_DECAY_ITERS=1501", "LR_DECAY_ITERS=501", "rate after iteration 0"),
    ("cooldown", "export LR_DECAY_ITERS=1501", "", "rate after iteration 0"),
    ("cosine", "LR_WARMUP_FRAC=", "LR_WARMUP_FRAC=0.0 OLD=", "rate after iteration 0"),
    ("cosine, later", "LR_DECAY_STYLE=cosine", "LR_DECAY_STYLE=linear", "rate after iteration"),
    ("rewarm", "LR_WARMUP_FRAC=", "LR_WARMUP_FRAC=0.05 OLD=", "rate after iteration"),
    ("switched", "LR_DECAY_ITERS=1701", "LR_DECAY_ITERS=1501", "rate after iteration 0"),
    ("switched", f"frac={1001 / 1701!r}", f"frac={701 / 1701!r}", "rate after iteration 0"),
    ("line", "LR_DECAY_STYLE=linear", "LR_DECAY_STYLE=cosine", "rate after iteration"),
    ("line, later", "LR_WARMUP_FRAC=", "LR_WARMUP_FRAC=0.0 OLD=", "rate after iteration"),
    ("exponential", "--constant-lr=0.002", "--constant-lr=0.001", "rate after iteration"),
    ("exponential", "--lr-constant-fraction=0.0", "", "rate after iteration"),
    ("exponential, later", "--lr-cooldown-fraction=1e-15", "", "rate after iteration"),
    ("exponential", "--min-lr=2e-05", "--min-lr=0.0", "ORA019"),
    ("exponential at once", "--lr-cooldown-fraction=1e-15", "--lr-cooldown-fraction=0.0", "ORA019"),
    # whose schedule
    ("hold", "export OVERRIDE_CKPT_OPT_PARAM=1", "", "ORA012"),
    ("hold", "--override-opt_param-scheduler", "--bf16", "ORA017"),
    ("hold", "OVERRIDE_CKPT_OPT_PARAM=1", "OVERRIDE_CKPT_OPT_PARAM=0", "ORA030"),
    ("rewarm", "--finetune", "--reset-iteration", "taken from the checkpoint"),
    # what is loaded, and what starts afresh
    ("hold", "--reset-iteration", "--finetune", "taken from the checkpoint"),
    ("hold", "--reset-iteration", "", "starts at iteration: 0 is declared, the script gives 300"),
    ("hold, later", "--override", "--reset-iteration --override", "starts at iteration: 200 is declared"),
    ("hold, later", "--override", "--finetune --override", "ORA021"),
    ("rewarm, later", "--override", "--finetune --override", "ORA021"),
    ("hold", "--reset-iteration", "--reset-iteration --universal-checkpoint", "universal: False is declared"),
    ("hold, universal", "--universal-checkpoint", "", "universal: True is declared"),
    ("hold", f"LOAD={SOURCE}", f"LOAD={SAVE}", "loads from"),
    ("hold", f"LOAD={SOURCE}", "LOAD=/flare/other", "loads from"),
    ("hold", f"export LOAD={SOURCE}", "", "loads from"),
    ("hold, later", f"LOAD={SAVE}", f"LOAD={SOURCE}", "loads from"),
    ("hold", f"CKPT_DIR={SAVE}", "CKPT_DIR=/flare/other", "the index cache goes elsewhere"),
    ("hold", "global_step300", "global_step200", "checkpoint named"),
    ("hold, later", "global_step200", "global_step100", "checkpoint named"),
    ("hold, later", "--load-tag=global_step200", "", "checkpoint named"),
    ("from random", f"LOAD={SAVE}", f"LOAD={SOURCE}", "loads from"),
    # where it stops
    ("hold", "TRAIN_ITERS=501", "TRAIN_ITERS=502", "trains to iteration: 501 is declared, the script gives 502"),
    ("hold", "TRAIN_ITERS=501", "TRAIN_ITERS=501 TRAIN_TOKENS=9000000", "ORA050"),
    ("hold", "bash train_alcf.sh", "export TRAIN_TOKENS=9000000; bash train_alcf.sh", "ORA050"),
    ("hold", "SAVE_INTERVAL=100", "SAVE_INTERVAL=3", "ORA056"),
    ("hold", "--exit-duration-in-mins=180", "--exit-duration-in-mins=360", "ORA062"),
    ("hold", "walltime=06:00:00", "walltime=02:59:00", "ORA062"),
    ("hold", "--seed", "--skip-train --seed", "only evaluates"),
    # the batch
    ("hold", "GLOBAL_BATCH=48", "GLOBAL_BATCH=96", "global batch: 48 is declared, the script gives 96"),
    ("hold", "export GLOBAL_BATCH=48", "", "ORA051"),
    ("hold", "GRAD_ACC_STEPS=4", "GRAD_ACC_STEPS=2", "ORA015"),
    ("hold", "select=1", "select=2", "data-parallel size: 12 is declared, the script gives 24"),
    ("hold", "NGPU_PER_HOST=12", "NGPU_PER_HOST=4", "data-parallel size: 12 is declared"),
    ("hold", "bash train_alcf.sh", "export WORLD_SIZE=24; bash train_alcf.sh", "ORA054"),
    ("hold", "TP=1", "TP=2", "data-parallel size: 12 is declared"),
    ("hold", "SEQ=128", "SEQ=256", "sequence length: 128 is declared, the script gives 256"),
    ("hold", "DTYPE=bf16", "DTYPE=fp16", "precision: bf16 is declared, the script gives fp16"),
    ("hold", "MODEL_ARCH=7B", "MODEL_ARCH=3B", "ORA055"),
    # the data
    ("hold", f"DATA_FILE_LIST={LIST}", "DATA_FILE_LIST=/flare/w/other.txt", "data list"),
    # the shell
    ("hold", "export LR=0.002", "LR=0.002", "ORA003"),
    ("hold", "export LR=0.002", "export LR=$(cat /flare/lr)", "ORA001"),
    ("hold", "export LR=0.002", "if [ -f x ]; then export LR=0.002; fi", "ORA001"),
    ("hold", "bash train_alcf.sh", ". /flare/more.sh\nbash train_alcf.sh", "ORA006"),
    ("hold", "bash train_alcf.sh", "for i in 1 2; do bash train_alcf.sh; done; bash train_alcf.sh", "ORA002"),
    ("hold", "bash train_alcf.sh", "qsub train_alcf.sh", "ORA029"),
    ("hold", "--seed", "--no-such-flag --seed", "ORA018"),
]  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_as_rendered_it_agrees(name: str) -> None:
    assert agrees(WHOLE[name].training, WHOLE[name].script) == ()


@pytest.mark.parametrize(("name", "old", "new", "difference"), MUTATIONS)
def test_a_change_of_the_script_is_found(name: str, old: str, new: str, difference: str) -> None:
    # Arguments stand on lines of their own, as in `--flag \`; here on one.
    script = re.sub(r" \\\n\s+", " ", WHOLE[name].script)
    assert script.count(old) == 1, script
    found = agrees(WHOLE[name].training, script.replace(old, new))
    assert any(difference in text for text in found), found


def test_a_script_of_another_leg_s_list_or_checkpoint_is_not_this_one() -> None:
    job = WHOLE["hold"]
    assert agrees(replace(job.training, data_list="/flare/w/else.txt"), job.script) == (
        f"data list: /flare/w/else.txt is declared, the script gives {LIST}",
    )
    assert any("checkpoint named" in text for text in agrees(replace(job.training, newest=7), job.script))


def test_a_path_that_a_second_shell_would_read_otherwise_is_a_difference() -> None:
    job = WHOLE["hold"]
    found = agrees(job.training, job.script.replace(SAVE, "'/my files'").replace("/flare/w/stop", "'/my files/stop'"))
    assert any(text.startswith("ORA008 CKPT_DIR holds a blank") for text in found)
    assert any("unrecognized arguments: files/stop" in text for text in found)


def test_a_job_of_a_minute_cannot_be_told_in_whole_minutes_to_end_before_its_walltime() -> None:
    job = WHOLE["hold"]
    minute = job.script.replace("walltime=06:00:00", "walltime=00:01:00")
    assert agrees(job.training, minute.replace("in-mins=180", "in-mins=1")) == ()
