"""What one call will do, from its text and the source checkpoint: loaded, reset, rates, data, and where it stops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.launcher.forecast import ITEMS, Forecast, Mode, State
from reconciler.launcher.oracle import foretell, same_folder
from reconciler.launcher.scriptreader import read_script
from tests.launcher.test_traps import CONVERGED, COOL, FLAGS, PLAIN, RIGHT, SOURCE, Case, case

WEIGHTS_ONLY = {"weights"}
ALL = set(ITEMS)
NO_OVERRIDE = ("--load-tag=global_step136000",)


@pytest.mark.parametrize(
    ("of", "kept", "start", "samples"),
    [
        pytest.param(Case(PLAIN, NO_OVERRIDE), ALL, 136_000, 136_000, id="a plain load goes on counting"),
        pytest.param(Case(PLAIN, FLAGS[1:]), ALL - {"iteration", "data"}, 0, 136_000, id="--reset-iteration"),
        pytest.param(Case(PLAIN, ("--finetune",)), WEIGHTS_ONLY, 0, 0, id="--finetune"),
        pytest.param(
            Case(PLAIN, ("--finetune", "--universal-checkpoint")), {"weights", "optimizer"}, 0, 0,
            id="--finetune of a universal checkpoint keeps moments",
        ),
        pytest.param(Case(PLAIN, (*NO_OVERRIDE, "--no-load-rng")), ALL - {"rng"}, 136_000, 136_000, id="--no-load-rng"),
        pytest.param(Case(PLAIN, (*NO_OVERRIDE, "--no-load-optim")), ALL, 136_000, 136_000, id="--no-load-optim"),
        pytest.param(Case(PLAIN | {"LOAD": "/flare/none"}, NO_OVERRIDE), set(), 0, 0, id="LOAD is somewhere else"),
        pytest.param(
            Case(PLAIN | {"LOAD": "/flare/old/global_step136000"}, ()), set(), 0, 0, id="LOAD is the step's own folder"
        ),
    ],
)  # fmt: skip
def test_what_is_loaded_and_what_starts_afresh(of: Case, kept: set[str], start: int, samples: int) -> None:
    forecast = of.judged()
    assert set(forecast.kept) == kept
    assert set(forecast.resets) == ALL - kept
    assert (forecast.start_iteration, forecast.samples) == (start, samples * 6144)


@pytest.mark.parametrize(
    ("env", "flags", "mode"),
    [
        ({}, (), Mode.CHECKPOINT),
        ({"OVERRIDE_CKPT_OPT_PARAM": "1"}, ("--override-opt_param-scheduler",), Mode.OVERRIDE),
        ({"OVERRIDE_CKPT_OPT_PARAM": "0"}, ("--override-opt_param-scheduler",), Mode.OVERRIDE),
        ({"OVERRIDE_CKPT_OPT_PARAM": "1"}, (), Mode.EQUAL),
        ({}, ("--override-opt_param-scheduler",), Mode.CLASH),
        (
            {"OVERRIDE_CKPT_OPT_PARAM": "1"},
            ("--override-opt_param-scheduler", "--use-checkpoint-opt_param-scheduler"),
            Mode.CLASH,
        ),
    ],
)
def test_whose_schedule_counts(env: dict[str, str], flags: tuple[str, ...], mode: Mode) -> None:
    assert Case({**PLAIN, **env}, flags).judged().mode is mode


def rates(of: Case, *iterations: int) -> list[float | None]:
    forecast = of.judged()
    return [forecast.rate(iteration) for iteration in iterations]


@pytest.mark.parametrize(
    ("of", "at", "expected"),
    [
        pytest.param(case(), (0, 1, 1651), [2e-4, 2e-4, 2e-4], id="the rate stays at its maximum"),
        pytest.param(
            case(*COOL, RIGHT), (0, 413, 1651), [2e-4, 2e-5 + 1.8e-4 * (1 - (413 / 1651) ** 0.5), 2e-5], id="a cooldown"
        ),
        pytest.param(
            case(*COOL, RIGHT, LR_DECAY_ITERS=None), (0, 1, 1651), [2e-5, 2e-5, 2e-5],
            id="a cooldown after --reset-iteration without LR_DECAY_ITERS is at its minimum at once",
        ),
        pytest.param(
            Case(PLAIN, (*FLAGS[1:], *COOL, RIGHT)), (0, 1651), [2e-4, 0.0],
            id="in the checkpoint's mode a cooldown goes to the checkpoint's minimum",
        ),
        pytest.param(
            Case(PLAIN | {"LR": "1e-5", "LR_DECAY_STYLE": "cosine"}, FLAGS[1:]), (0, 1651), [2e-4, 2e-4],
            id="in the checkpoint's mode a new rate and style are ignored",
        ),
        pytest.param(
            Case(PLAIN | {"LR_DECAY_ITERS": None, "LR_WARMUP_FRAC": None}, ("--finetune",)), (0, 41, 1651),
            [0.0, 2e-4 * 41 / (0.05 * 1651), 2e-4], id="--finetune warms up again over the default 5 %",
        ),
        pytest.param(
            case("--lr=1e-4", "--lr-warmup-fraction=0"), (0, 9), [1e-4, 1e-4], id="a person's rate flags win"
        ),
    ],
)  # fmt: skip
def test_the_rate_at_an_iteration(of: Case, at: tuple[int, ...], expected: list[float | None]) -> None:
    assert rates(of, *at) == pytest.approx(expected, rel=1e-6)


SETTINGS = "export SAVE=/n CKPT_DIR=/n GLOBAL_BATCH=192 TRAIN_ITERS=11 LR_DECAY_STYLE=constant LR_WARMUP_FRAC=0\n"
LOADS = "export LOAD=/old\n"


@pytest.mark.parametrize(
    ("text", "undecided"),
    [
        (LOADS + "[ -e /n/latest ] || F=--finetune; bash train_alcf.sh $F", "argument $F, which may be any flags"),
        (LOADS + "if [ -e x ]; then F=(--finetune); fi; bash train_alcf.sh --seed=1 ${F[@]}", "argument ${F[@]}, which "
         "may be any flags"),
        (LOADS + "bash train_alcf.sh --no-load-rng $(flags)", "argument $(flags), which may be any flags"),
        ("if [[ -f $SAVE/latest ]]; then export LOAD=$SAVE; else export LOAD=/old; fi; bash train_alcf.sh", "LOAD"),
        ("LOAD=$RUN/old bash train_alcf.sh", "LOAD=$RUN/old"),
        ("CKPT_DIR=$RUN bash train_alcf.sh", "LOAD=$RUN"),
        (LOADS + "SAVE=$RUN bash train_alcf.sh", "SAVE=$RUN, which may be LOAD, with or without a checkpoint in it"),
        ("export SAVE=$RUN; LOAD=$SAVE bash train_alcf.sh --finetune", "LOAD=$SAVE"),
    ],
)  # fmt: skip
def test_what_is_loaded_is_not_known_when_what_decides_it_is_not(text: str, undecided: str) -> None:
    forecast = settled(SETTINGS + text)
    assert forecast.undecided == undecided
    assert (forecast.kept, forecast.resets) == ((), ())
    assert forecast.start_iteration == (0 if "train_alcf.sh --finetune" in text else None)
    assert list(forecast.trace()) == []


@pytest.mark.parametrize(
    ("text", "resets", "start"),
    [
        ("LOAD=$RUN bash train_alcf.sh --finetune", ALL - WEIGHTS_ONLY, 0),
        ("LOAD=$RUN bash train_alcf.sh --reset-iteration", {"iteration", "data"}, 0),
        ("LOAD=$RUN bash train_alcf.sh --load-tag=global_step7", set(), 7),
        (LOADS + "SAVE=$RUN bash train_alcf.sh --reset-iteration", {"iteration", "data"}, 0),
        (LOADS + "bash train_alcf.sh --seed=$SEED --min-lr $LOW", set(), None),
        (LOADS + "bash train_alcf.sh", set(), None),
        (LOADS + "bash train_alcf.sh --load-tag=$TAG", set(), None),
        ("bash train_alcf.sh", ALL, 0),
    ],
)
def test_flags_of_a_first_job_tell_what_is_reset(text: str, resets: set[str], start: int | None) -> None:
    forecast = settled(SETTINGS + text)
    assert (forecast.undecided, set(forecast.resets), forecast.start_iteration) == ("", resets, start)


def test_a_checkpoint_that_is_described_is_what_an_unknown_folder_holds() -> None:
    forecast = settled(SETTINGS + "LOAD=~/old bash train_alcf.sh", state=SOURCE)
    assert (forecast.undecided, forecast.start_iteration, forecast.known("LOAD")) == ("", 136_000, False)
    assert not forecast.failed


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("LOAD=/a SAVE=$B DATA_FILE_LIST=/c bash train_alcf.sh", {"LOAD", "DATA_FILE_LIST"}),
        ("CKPT_DIR=$B SAVE=/a DATA_FILE_LIST=$C bash train_alcf.sh", {"SAVE"}),
        ("bash train_alcf.sh", {"DATA_FILE_LIST"}),
        ("GLOBAL_BATCH=8 WORLD_SIZE=8 bash train_alcf.sh", {"LOAD", "SAVE", "DATA_FILE_LIST"}),
        ("GLOBAL_BATCH=8 WORLD_SIZE=8 LR=$LR bash train_alcf.sh", {"DATA_FILE_LIST"}),
    ],
)
def test_which_folders_are_known(text: str, known: set[str]) -> None:
    forecast = settled(text)
    assert {name for name in ("LOAD", "SAVE", "DATA_FILE_LIST") if forecast.known(name)} == known


def test_no_rate_is_known_when_it_is_not_known_whose_schedule_counts() -> None:
    text = f"LOAD=/flare/old {SETTINGS} OVERRIDE_CKPT_OPT_PARAM=$O bash train_alcf.sh --reset-iteration"
    forecast = settled(text.replace("\n", " ").replace("export ", ""), state=SOURCE)
    assert (forecast.schedule, forecast.findings) == (None, ())


def test_outside_the_run_there_is_no_rate() -> None:
    assert rates(case(), -1, 1652) == [None, None]


def test_the_first_step_is_taken_with_the_rate_that_the_loaded_optimizer_holds() -> None:
    assert case(state=CONVERGED).judged().first_rate == 2e-5
    assert Case(PLAIN, ("--finetune",), CONVERGED).judged().first_rate is None


@pytest.mark.parametrize("of", [case("--no-such-flag"), case(OVERRIDE_CKPT_OPT_PARAM=None), case(LR="x")])
def test_a_job_that_stops_at_its_start_has_no_rates(of: Case) -> None:
    forecast = of.judged()
    assert forecast.failed
    assert list(forecast.trace()) == []


def test_a_trace_has_every_iteration_and_a_long_one_both_ends() -> None:
    forecast = case().judged()
    assert [at for at, _ in forecast.trace()] == list(range(1652))
    assert [at for at, _ in forecast.trace(points_max=4)] == [0, 550, 1101, 1651]


# --- the launcher's arithmetic


def settled(text: str, nodes: int | None = None, state: State | None = None) -> Forecast:
    return foretell(read_script(text), state, nodes=nodes)


@pytest.mark.parametrize(
    ("tokens", "iterations"),
    [(None, 92_859), ("7064155541716", 140_352), ("7770766423379", 154_391), ("50331647", 0), ("50331648", 1)],
)
def test_a_budget_in_tokens_is_cut_to_whole_iterations(tokens: str | None, iterations: int) -> None:
    """The budgets of the shipped 2B stages, at 8192 x 6144 tokens a step."""
    budget = f"TRAIN_TOKENS={tokens}" if tokens else ""
    assert settled(f"MODEL_ARCH=2B GLOBAL_BATCH=6144 {budget} bash train_alcf.sh").train_iters == iterations


@pytest.mark.parametrize(
    ("env", "nodes", "batch"),
    [
        pytest.param("", 256, 3072, id="Aurora: 256 nodes accumulate 1"),
        pytest.param("", 128, 3072, id="Aurora: 128 nodes accumulate 2"),
        pytest.param("", 64, 3072, id="Aurora: 64 nodes accumulate 4"),
        pytest.param("", 33, 1584, id="Aurora: 33 nodes accumulate 4"),
        pytest.param("", 32, 3072, id="Aurora: 32 nodes accumulate 8, whatever the comment says"),
        pytest.param("", 15, 2880, id="Aurora: few nodes accumulate 16"),
        pytest.param("TP=2", 16, 768, id="tensor parallelism takes its share"),
        pytest.param("MICRO_BATCH=4 GRAD_ACC_STEPS=3", 2, 288, id="as given"),
        pytest.param("GLOBAL_BATCH=99", 2, 99, id="pinned"),
        pytest.param("WORLD_SIZE=8 GRAD_ACC_STEPS=2", 2, 16, id="a stale WORLD_SIZE wins"),
        pytest.param("DATA_FILE_LIST=/eagle/l", 2, 64, id="Polaris: two nodes, micro batch 1"),
        pytest.param("DATA_FILE_LIST=/eagle/l", 4, 256, id="Polaris: four nodes, micro batch 2"),
        pytest.param("DATA_FILE_LIST=/eagle/l", 8, 1024, id="Polaris: eight nodes, micro batch 4"),
        pytest.param("", None, None, id="no number of nodes, no batch"),
    ],
)
def test_the_global_batch(env: str, nodes: int | None, batch: int | None) -> None:
    assert settled(f"{env} bash train_alcf.sh", nodes).global_batch_size == batch


@pytest.mark.parametrize(
    ("env", "architecture", "seq"),
    [
        ("", "AuroraGPT-7B", 4096),
        ("MODEL_ARCH=3B", "AuroraGPT-7B", 4096),
        ("MODEL_ARCH=7B SEQ=8192", "AuroraGPT-7B", 8192),
        ("MODEL_ARCH=AuroraGPT-2B SEQ=4096", "AuroraGPT-2B", 8192),
        ("MODEL_ARCH=70B", "AuroraGPT-70B", 8192),
    ],
)
def test_the_architecture(env: str, architecture: str, seq: int) -> None:
    settings = settled(f"{env} bash train_alcf.sh", 1).settings
    assert (settings.architecture, settings.seq) == (architecture, seq)


def test_the_folder_that_the_launcher_makes_up() -> None:
    forecast = settled("MODEL_ARCH=2B TRAIN_ITERS=9 LR=2e-4 OPT=sophiag LR_DECAY_ITERS=7 bash train_alcf.sh", 2)
    assert forecast.load == forecast.save
    assert forecast.save == (
        "checkpoints/AuroraGPT-2B-ws24-ds-stage1-nl12-hs2048-mb1-seq8192-gb384-sp1-pp1-tp1-bf16-optsophiag-lr2e-4"
        "-lwf0.05_ntok0B_ldi7_flash"
    )


@pytest.mark.parametrize(
    ("flags", "stops"),
    [
        ("", ("at iteration 100: the target",)),
        ("--exit-interval=30", ("at iteration 30: --exit-interval=30", "at iteration 100: the target")),
        ("--exit-interval=300", ("at iteration 100: the target",)),
        (
            "--exit-duration-in-mins=5",
            (
                "after 5 minutes: --exit-duration-in-mins, counted from import",
                "at iteration 100: the target",
            ),
        ),
        (
            "--kill-switch-file=/s",
            ("when /s exists (kill switch; it saves first)", "at iteration 100: the target"),
        ),
        ("--skip-train", ("at once: --skip-train only evaluates", "at iteration 100: the target")),
    ],
)
def test_where_it_stops(flags: str, stops: tuple[str, ...]) -> None:
    assert settled(f"GLOBAL_BATCH=8 TRAIN_ITERS=100 bash train_alcf.sh {flags}").stops == stops


def test_which_data() -> None:
    assert settled("bash train_alcf.sh").data_file_list == "ALCF/data-lists/aurora/dolma.txt"
    assert settled("DATA_FILE_LIST=/eagle/l bash train_alcf.sh").data_file_list == "/eagle/l"


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("/a/b", "/a/b/", True),
        ("/a/b", "/a/./b", True),
        ("/a/b/global_step7", "/a/b", True),
        ("b", "/a/b", True),
        ("b", "/a/bb", False),
        ("/a/b", "/c/b", False),
    ],
)
def test_spellings_of_one_folder(left: str, right: str, same: bool) -> None:
    assert same_folder(left, right) is same


def test_a_source_that_counts_its_schedule_otherwise_than_its_iterations() -> None:
    """After `--reset-iteration` the counter is small and the schedule's is not."""
    state = replace(SOURCE, iteration=10, num_steps=136_010 * 6144)
    assert Case(PLAIN, (), state).judged().samples == 136_010 * 6144
