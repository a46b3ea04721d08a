"""What a job trains, keeps, resets and leaves behind, run for real on a model of a few thousand weights."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch

from reconciler.domain.schedule import NamedRates, rate_at
from reconciler.domain.stretches import Steps, Strip
from reconciler.launcher.command import TrainPaths, train
from reconciler.local.corpora import build, reasoning
from reconciler.local.trainer import arguments, checkpoints, environment, pickles, run, samples
from reconciler.local.trainer.environment import BadSetting
from reconciler.model.recipe import LegRecipe, Load
from reconciler.model.strategy import Leg
from tests.domain.test_resolve import resolved

SHAPE = ("HEADS", "NLAYERS", "HIDDEN", "NUM_KV_HEAD", "FFN_HIDDEN_SIZE", "SEQ")
SMALL = {
    "HEADS": "2", "NLAYERS": "1", "HIDDEN": "16", "NUM_KV_HEAD": "1", "FFN_HIDDEN_SIZE": "24", "SEQ": "16",
    "MICRO_BATCH": "1", "GLOBAL_BATCH": "4", "LR": "1e-2", "LR_DECAY_STYLE": "constant", "LR_WARMUP_FRAC": "0",
    "TRAIN_ITERS": "6", "EVAL_ITERS": "2", "SAVE_INTERVAL": "1000",
}  # fmt: skip


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small token files under two labels, and a list of both."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number, label in enumerate(("sums", "more-sums")):
        prefix = folder / label
        rows.append((build.tokenize(reasoning.arithmetic(120, seed=number), prefix), prefix, label))
    build.write_list(folder / "list.txt", rows)
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Bench:
    """Runs jobs in this process and reads what they printed."""

    def __init__(self, folder: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.data, self._capsys = folder, data, capsys

    def job(self, *flags: str, ranks: int = 1, also: dict[str, str] | None = None, **variables: str) -> str:
        settings = (
            SMALL | {"CKPT_DIR": str(self.folder / "ck"), "DATA_FILE_LIST": str(self.data / "list.txt")} | variables
        )
        settings |= also or {}
        settings |= {"WORLD_SIZE": str(ranks), "GRAD_ACC_STEPS": str(4 // ranks)}
        run.pretrain(arguments.parse(environment.command_line(settings, flags)))
        return self._capsys.readouterr().out

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def bench(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, data, capsys)


def losses(log: str) -> list[tuple[str, str]]:
    return re.findall(r"iteration=\s*(\d+/\s*\d+) .* lm loss=(\S+)", log)


def rates(log: str) -> list[float]:
    """Rate after each step, in full: DeepSpeed's own line."""
    return [float(found) for found in re.findall(r"lr=\[([^,]+),", log)]


def weights(folder: Path) -> dict[str, object]:
    """Bytes of every tensor in a checkpoint's shards and model file."""
    found: dict[str, object] = {}

    def collect(value: object, name: str) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value.clone().view(torch.uint8).numpy().tobytes() if value.dim() else float(value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, f"{name}/{key}")
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                collect(inner, f"{name}/{number}")

    for path in sorted(folder.glob("*.pt")):
        state = pickles.load(path)
        collect(state.get("module", {}), path.name)
        collect(state.get("optimizer_state_dict", {}), path.name)
    assert found
    return found


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_run_cut_into_three_jobs_is_bit_identical_to_one(bench: Bench, ranks: int) -> None:
    whole = bench.job(ranks=ranks, CKPT_DIR=str(bench / "whole"), EVAL_INTERVAL="2")
    cut = bench.job("--exit-interval=2", ranks=ranks, CKPT_DIR=str(bench / "cut"), EVAL_INTERVAL="2")
    cut += bench.job("--exit-interval=4", ranks=ranks, CKPT_DIR=str(bench / "cut"), EVAL_INTERVAL="2")
    cut += bench.job(ranks=ranks, CKPT_DIR=str(bench / "cut"), EVAL_INTERVAL="2")
    assert losses(whole) == losses(cut)
    assert len(losses(whole)) == 6
    validation = re.compile(r"validation loss at .*")
    assert validation.findall(whole) == validation.findall(cut)
    assert weights(bench / "whole" / "global_step6") == weights(bench / "cut" / "global_step6")


def test_the_number_of_ranks_changes_the_shards_and_not_the_training(bench: Bench) -> None:
    logs = [bench.job(ranks=ranks, CKPT_DIR=str(bench / str(ranks))) for ranks in (1, 2, 4)]
    assert losses(logs[0]) == losses(logs[1]) == losses(logs[2])
    for ranks in (1, 2, 4):
        assert len(list((bench / str(ranks) / "global_step6").glob("bf16_zero_pp_rank_*"))) == ranks


def test_training_learns(bench: Bench) -> None:
    found = [float(loss) for _, loss in losses(bench.job(TRAIN_ITERS="60"))]
    assert sum(found[-5:]) / 5 < sum(found[:5]) / 5 - 1.0


def test_missing_latest_is_a_warning_and_a_random_start(bench: Bench) -> None:
    bench.job(CKPT_DIR=str(bench / "first"))
    (bench / "first" / "latest").unlink()
    log = bench.job(LOAD=str(bench / "first"))
    assert f"WARNING: could not find the metadata file {bench / 'first'}" in log
    assert "will not load any checkpoints and will start from random" in log
    assert "Unable to find latest file at" in log
    assert losses(log)[0][0].startswith("1/")


def test_missing_latest_universal_is_an_error(bench: Bench) -> None:
    bench.job()
    with pytest.raises(ValueError, match="latest_universal does not exist"):
        bench.job("--universal-checkpoint")


def test_another_number_of_ranks_is_refused_with_optimizer_state_and_accepted_with_finetune(bench: Bench) -> None:
    bench.job(ranks=2)
    with pytest.raises(BadSetting, match="used a DP world size of 2 but the current world size is 4"):
        bench.job(ranks=4)
    log = bench.job("--finetune", ranks=4, CKPT_DIR=str(bench / "fine"), LOAD=str(bench / "ck"))
    assert "successfully loaded checkpoint from" in log


def test_finetune_loads_weights_only_and_counts_from_zero(bench: Bench) -> None:
    bench.job(CKPT_DIR=str(bench / "first"))
    log = bench.job(
        "--finetune",
        LOAD=str(bench / "first"),
        LR="4e-3",
        LR_WARMUP_FRAC="0.5",
        TRAIN_ITERS="4",
        CKPT_DIR=str(bench / "fine"),
    )
    assert "at iteration 0" in log
    assert "could not find arguments in the checkpoint ..." in log
    assert rates(log) == [2e-3, 4e-3, 4e-3, 4e-3]
    assert re.findall(r"consumed_samples=\s*(\d+)", log) == ["4", "8", "12", "16"]
    shard = pickles.load(bench / "fine" / "global_step4" / checkpoints.shard_file(0))
    assert float(shard["optimizer_state_dict"]["base_optimizer_state"]["state"][0]["step"]) == 4


def test_finetune_starts_from_the_rounded_weights(bench: Bench) -> None:
    bench.job()
    log = bench.job("--finetune", LR="0", TRAIN_ITERS="1", CKPT_DIR=str(bench / "fine"), LOAD=str(bench / "ck"))
    assert losses(log)
    master = pickles.load(bench / "fine" / "global_step1" / checkpoints.shard_file(0))
    flat = master["optimizer_state_dict"]["single_partition_of_fp32_groups"][0]
    assert torch.equal(flat, flat.to(torch.bfloat16).float())


def test_reset_iteration_keeps_moments_and_num_steps(bench: Bench) -> None:
    bench.job(CKPT_DIR=str(bench / "first"))
    bench.job("--reset-iteration", LOAD=str(bench / "first"), TRAIN_ITERS="2")
    assert (bench / "ck" / "latest").read_text() == "global_step2"
    model = pickles.load(bench / "ck" / "global_step2" / checkpoints.MODEL_FILE)
    shard = pickles.load(bench / "ck" / "global_step2" / checkpoints.shard_file(0))
    assert model["lr_scheduler"]["num_steps"] == (6 + 2) * 4
    assert (model["iteration"], model["tokens"], model["args"].consumed_train_samples) == (2, 2 * 4 * 16, 8)
    assert float(shard["optimizer_state_dict"]["base_optimizer_state"]["state"][0]["step"]) == 8


def test_use_checkpoint_ignores_a_new_rate_without_a_word_of_complaint(bench: Bench) -> None:
    bench.job()
    log = bench.job(LR="5e-5", TRAIN_ITERS="8")
    assert " > using checkpoint value 0.01 for learning rate" in log
    assert rates(log) == [1e-2, 1e-2]


def test_override_takes_the_new_rate_from_the_second_step_on(bench: Bench) -> None:
    bench.job(TRAIN_ITERS="4")
    flag, variables = "--override-opt_param-scheduler", {"OVERRIDE_CKPT_OPT_PARAM": "1", "LOAD": str(bench / "ck")}
    changed = bench.job(flag, LR="5e-3", CKPT_DIR=str(bench / "b"), also=variables)
    same = bench.job(flag, LR="1e-2", CKPT_DIR=str(bench / "c"), also=variables)
    assert " > overriding learning rate value to 0.005" in changed
    # Step 5 still uses the checkpoint's rate, so step 6 sees the same weights under both.
    assert rates(changed) == [5e-3, 5e-3]
    assert losses(changed) == losses(same)


@pytest.mark.parametrize(
    ("flags", "variables", "words"),
    [
        pytest.param([], {"OVERRIDE_CKPT_OPT_PARAM": "1"}, "do not match", id="variable without the flag"),
        pytest.param(["--override-opt_param-scheduler"], {}, "both override and use-checkpoint", id="flag without it"),
        pytest.param([], {"NUM_KV_HEAD": "2"}, "size mismatch for", id="another shape"),
        pytest.param(["--load-tag=global_step5"], {}, "no checkpoint files found", id="no such tag"),
    ],
)
def test_loads_that_fail(bench: Bench, flags: list[str], variables: dict[str, str], words: str) -> None:
    bench.job()
    with pytest.raises((AssertionError, BadSetting), match=words):
        bench.job(*flags, TRAIN_ITERS="9", also=variables)


def test_load_tag_overrules_latest(bench: Bench) -> None:
    bench.job(SAVE_INTERVAL="2")
    log = bench.job("--load-tag=global_step4", SAVE_INTERVAL="2")
    assert "at iteration 4" in log


def test_exit_duration_saves_and_leaves_without_a_final_evaluation(bench: Bench) -> None:
    log = bench.job("--exit-duration-in-mins=0.000001")
    assert re.search(r"\[exiting program after \d+\.\d+(e-\d+)? minutes\] datetime=", log)
    assert (bench / "ck" / "latest").read_text() == "global_step1"
    assert "validation loss" not in log
    assert "after training is done" not in log


def test_kill_switch_at_the_start_trains_nothing_and_later_saves_first(bench: Bench) -> None:
    switch = bench / "stop"
    switch.touch()
    log = bench.job(f"--kill-switch-file={switch}")
    assert f"[Detected kill switch at {switch}. Exiting] datetime=" in log
    assert not (bench / "ck").exists()


def test_kill_switch_during_training_saves_and_leaves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = bench / "stop"
    step = run.Run._train_step

    def and_throw_the_switch(self: run.Run, data: samples.Blend) -> tuple[float, float]:
        switch.touch()
        return step(self, data)

    monkeypatch.setattr(run.Run, "_train_step", and_throw_the_switch)
    log = bench.job(f"--kill-switch-file={switch}")
    assert f"[Detected kill switch at {switch}, iteration=1. Exiting] datetime=" in log
    assert (bench / "ck" / "latest_checkpointed_iteration.txt").read_text() == "1"


def test_sigterm_saves_only_with_the_handler(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    step = run.Run._train_step

    def and_terminate(self: run.Run, data: samples.Blend) -> tuple[float, float]:
        self._on_sigterm(15, None)
        return step(self, data)

    monkeypatch.setattr(run.Run, "_train_step", and_terminate)
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    log = bench.job("--exit-signal-handler")
    assert "[exiting program after receiving SIGTERM.] datetime=" in log
    assert (bench / "ck" / "latest").read_text() == "global_step1"


def test_skip_train_evaluates_and_writes_nothing(bench: Bench) -> None:
    bench.job(CKPT_DIR=str(bench / "first"))
    settings = {
        "LOAD": str(bench / "first"),
        "TRAIN_SPLIT": "0",
        "VAL_SPLIT": "100",
        "TRAIN_ITERS": "1",
        "EVAL_ITERS": "4",
    }
    logs = [bench.job("--skip-train", "--finetune", also=settings) for _ in range(2)]
    lines = [
        re.findall(r"validation loss at (iteration 0 on 16-sample draw from validation set \| .*)", log) for log in logs
    ]
    assert len(lines[0]) == 1
    assert lines[0] == lines[1], "the draw is frozen"
    assert "skipping training (--skip-train is on) ..." in logs[0]
    assert not (bench / "ck").exists()


def test_a_finished_run_saves_and_evaluates_again(bench: Bench) -> None:
    bench.job()
    log = bench.job()
    assert not losses(log)
    assert "saving checkpoint at iteration       6" in log
    assert "validation loss at iteration 6 on 8-sample draw" in log


def test_cooldown_prints_bare_numbers_and_reaches_the_minimum(bench: Bench) -> None:
    log = bench.job("--lr_constant_plus_cooldown", "--lr_constant_plus_cooldown_frac=0.5", "--min-lr=1e-3")
    assert rates(log)[2] == pytest.approx(1e-2)
    assert rates(log)[-1] == 1e-3
    assert len(re.findall(r"^[0-9.]+$", log, re.MULTILINE)) >= 4


def leg(tokens: int | None = None, /, **lr: object) -> Leg:
    return Leg.model_validate({"mixture": {"D0": 1}, "lr": lr} | ({"tokens": tokens} if tokens else {}))


HALF_WAY = {"to": "lrMax/50", "until": "lrMax/5"}
POLICIES = {
    "1-sqrt": (leg(4, shape="constant"), leg(shape="cooldown", **HALF_WAY), leg(shape="continue")),
    "linear": (leg(4, shape="constant"), leg(shape="cooldown", decay="linear", **HALF_WAY), leg(shape="continue")),
    "exponential": (
        leg(4, shape="constant"),
        leg(shape="cooldown", decay="exponential", **HALF_WAY),
        leg(shape="continue"),
    ),
    "cosine": (leg(4, shape="constant"), leg(shape="cosine", **HALF_WAY), leg(shape="continue")),
    "warmed exponential": (
        leg(shape="cooldown", decay="exponential", rewarm=True, warmup="20%", **HALF_WAY),
        leg(shape="continue"),
    ),
    "exponential at once": (
        leg(shape="cooldown", decay="exponential", rewarm=True, **HALF_WAY),
        leg(shape="continue"),
    ),
    "longer than its legs": (
        leg(5, shape="cooldown", decay="linear", to="lrMax/10", over=40),
        leg(5, shape="continue"),
        leg(shape="continue", until="lrMax/2"),
        leg(rewarm=True, shape="cosine", at="lrMax*2", warmup="10%"),
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_logged_rate_is_the_declared_curve_at_every_iteration_of_every_leg(bench: Bench, name: str) -> None:
    """Every leg in two jobs, as the adapter has them, after a run of 5 iterations at the maximum. Minutes are counted
    from when the trainer was started, which are those of all tests here."""
    bench.job(CKPT_DIR=str(bench / "leg-source"), TRAIN_ITERS="5")
    rates_of = NamedRates(Decimal("1e-2"), Decimal(0))
    found = Strip(rates_of, Steps(1, 1), position=5).stretches(POLICIES[name], 24)
    recipe = replace(resolved("stage-1"), data_parallel=1, accumulation=4)
    recipe = replace(recipe, model=dict(recipe.model) | {"batch": {"micro": 1, "global_": 4}})
    before = bench / "leg-source"
    for number, stretch in enumerate(found):
        load = Load.REWARM if POLICIES[name][number].lr.rewarm else Load.CONTINUE
        of = LegRecipe({}, {}, {}, 1, stretch.iterations, stretch.position, stretch.curve, load)
        here = bench / f"leg-{number}"
        log = ""
        for later in (False, True):
            paths = TrainPaths(str(here), str(here if later else before), str(bench.data / "list.txt"), str(here) + "x")
            launch = train(
                recipe, of, paths, later=later, load_iteration=None, universal=False, save_every=9, exit_minutes="900"
            )
            environment = dict(launch.environment) | {name: SMALL[name] for name in SHAPE}
            cut = () if later else (f"--exit-interval={max(1, stretch.iterations // 2)}",)
            log += bench.job(*launch.arguments, *cut, also=environment)
        declared = [rate_at(stretch.curve, stretch.position + i) for i in range(1, stretch.iterations + 1)]
        assert rates(log) == pytest.approx(declared, rel=1e-9, abs=1e-9)
        before = here


@pytest.mark.parametrize(
    ("flags", "iteration", "step"),
    [
        pytest.param(("--universal-checkpoint",), 8, 8, id="everything"),
        pytest.param(
            ("--universal-checkpoint", "--finetune"), 2, 8, id="moments although finetune, counters from zero"
        ),
        pytest.param(("--universal-checkpoint", "--reset-iteration"), 2, 8, id="moments, counters from zero"),
    ],
)
def test_universal_loads_at_another_number_of_ranks(
    bench: Bench, flags: tuple[str, ...], iteration: int, step: int
) -> None:
    bench.job(ranks=2, CKPT_DIR=str(bench / "first"))
    converter = Path(__file__).parents[2] / "reconciler" / "convert" / "universal.py"
    source = bench / "first" / "global_step6"
    subprocess.run([sys.executable, str(converter), str(source), str(source.parent)], check=True, capture_output=True)
    log = bench.job(*flags, ranks=4, LOAD=str(bench / "first"), TRAIN_ITERS=str(iteration))
    folder = bench / "ck" / f"global_step{iteration}"
    shard = pickles.load(folder / checkpoints.shard_file(3))
    assert float(shard["optimizer_state_dict"]["base_optimizer_state"]["state"][0]["step"]) == step
    if iteration == step:
        uncut = bench.job(ranks=2, LOAD=str(bench / "first"), TRAIN_ITERS="8", CKPT_DIR=str(bench / "uncut"))
        assert losses(log) == losses(uncut)


def test_universal_with_finetune_uses_the_stored_rate_for_its_first_step(bench: Bench) -> None:
    bench.job(CKPT_DIR=str(bench / "first"))
    converter = Path(__file__).parents[2] / "reconciler" / "convert" / "universal.py"
    source = bench / "first" / "global_step6"
    subprocess.run([sys.executable, str(converter), str(source), str(source.parent)], check=True, capture_output=True)
    flags = ("--universal-checkpoint", "--finetune")
    low = bench.job(*flags, LOAD=str(bench / "first"), LR="1e-6", TRAIN_ITERS="2", CKPT_DIR=str(bench / "low"))
    high = bench.job(*flags, LOAD=str(bench / "first"), LR="1e-2", TRAIN_ITERS="2", CKPT_DIR=str(bench / "high"))
    assert losses(low) == losses(high), "step 2's loss comes from step 1's update, made at the checkpoint's rate"


def program(folder: Path, data: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = SMALL | {"CKPT_DIR": str(folder / "ck"), "DATA_FILE_LIST": str(data / "list.txt"), "GRAD_ACC_STEPS": "4"}
    return subprocess.run(
        [sys.executable, "-m", "reconciler.local.trainer", *flags],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"} | settings | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_program_names_the_error_without_a_traceback(tmp_path: Path, data: Path) -> None:
    (tmp_path / "two.txt").write_text(f"1 {data / 'sums'}\n")
    ended = program(tmp_path, data, DATA_FILE_LIST=str(tmp_path / "two.txt"))
    assert ended.returncode == 1
    assert "Please provide the file list as 'weight, filename, corpus'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sets_in_one_start_are_evaluated_and_told_as_by_jobs_of_their_own(
    bench: Bench, tmp_path: Path, data: Path
) -> None:
    bench.job(CKPT_DIR=str(bench / "first"))
    lists = {"all": data / "list.txt", "sums": tmp_path / "sums.txt", "gone": tmp_path / "nowhere.txt"}
    lists["sums"].write_text(f"1 {data / 'sums'} sums\n")
    settings = {"LOAD": str(bench / "first"), "TRAIN_SPLIT": "0", "VAL_SPLIT": "100", "TRAIN_ITERS": "1"}
    flags = [flag for name, path in lists.items() for flag in ("--set", str(path), "3", str(tmp_path / f"{name}.log"))]
    ended = program(tmp_path, data, "--skip-train", "--finetune", *flags, **settings)
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in lists}
    for name in ("all", "sums"):
        variables = {"DATA_FILE_LIST": str(lists[name]), "EVAL_ITERS": "3"}
        alone = bench.job("--skip-train", "--finetune", also=settings | variables)
        assert re.findall("validation loss at .*", logs[name]) == re.findall("validation loss at .*", alone)
        assert "successfully loaded checkpoint" in logs[name]
    assert f"RuntimeError: the data list {lists['gone']} cannot be read" in logs["gone"]
    assert ended.returncode == 1, "one of them failed"
    assert not list(tmp_path.glob("*.part"))


def test_the_program_refuses_unknown_flags_before_it_imports_anything_heavy(tmp_path: Path, data: Path) -> None:
    ended = program(tmp_path, data, "--no-such-flag")
    assert ended.returncode == 2
    assert "unrecognized arguments: --no-such-flag" in ended.stderr


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read as a checkpoint", id="cut off"
        ),
        pytest.param(lambda path: path.write_bytes(b""), "cannot be read as a checkpoint", id="empty"),
        pytest.param(lambda path: path.unlink(), "zero checkpoints paths are missing", id="missing"),
    ],
)
def test_damaged_shards_are_errors(bench: Bench, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    bench.job(ranks=2)
    damage(bench / "ck" / "global_step6" / checkpoints.shard_file(1))
    with pytest.raises((pickles.UnreadableCheckpoint, FileNotFoundError), match=words):
        bench.job(ranks=2)


def test_args_in_a_checkpoint_are_a_plain_namespace(bench: Bench) -> None:
    bench.job()
    state = pickles.load(bench / "ck" / "global_step6" / checkpoints.MODEL_FILE)
    assert isinstance(state["args"], argparse.Namespace)
    assert state["args"].consumed_train_samples == 24
    shutil.rmtree(bench / "ck")
