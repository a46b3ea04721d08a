"""The environment becomes the launcher's command line, in the launcher's order, with its arithmetic."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from reconciler.local.trainer import arguments, environment
from reconciler.local.trainer.environment import BadSetting

SMALL = {
    "HEADS": "4", "NLAYERS": "2", "HIDDEN": "16", "NUM_KV_HEAD": "2", "FFN_HIDDEN_SIZE": "40", "SEQ": "32",
    "MICRO_BATCH": "2", "GRAD_ACC_STEPS": "2", "TRAIN_ITERS": "10", "DATA_FILE_LIST": "list.txt",
}  # fmt: skip


def parsed(variables: dict[str, str], *extra: str) -> argparse.Namespace:
    return arguments.parse(environment.command_line(SMALL | variables, extra))


@pytest.mark.parametrize(
    ("variables", "name", "value"),
    [
        pytest.param({}, "global_batch_size", 4, id="batch from micro batch, accumulation and ranks"),
        pytest.param({"WORLD_SIZE": "3"}, "global_batch_size", 12, id="more ranks, larger batch"),
        pytest.param({}, "lr", 0.0002, id="learning rate"),
        pytest.param({}, "lr_decay_style", "cosine", id="style"),
        pytest.param({}, "lr_warmup_fraction", 0.05, id="warm-up fraction"),
        pytest.param(
            {"LR_WARMUP_FRACTION": "0.01"}, "lr_warmup_fraction", 0.05, id="LR_WARMUP_FRACTION is read by nothing"
        ),
        pytest.param({}, "use_checkpoint_opt_param_scheduler", True, id="checkpoint's schedule by default"),
        pytest.param(
            {"OVERRIDE_CKPT_OPT_PARAM": "0"},
            "use_checkpoint_opt_param_scheduler",
            False,
            id="any value, even 0, removes it",
        ),
        pytest.param({"TRAIN_TOKENS": "1000"}, "train_iters", 7, id="tokens win over iterations, rounded down"),
        pytest.param({"TRAIN_ITERS": "", "TRAIN_ITER": "9"}, "train_iters", 9, id="TRAIN_ITER"),
        pytest.param(
            {"TRAIN_ITERS": ""}, "train_iters", 4_673_780_159_710 // 32 // 4, id="neither: the default budget"
        ),
        pytest.param({"CKPT_DIR": "here"}, "save", "here", id="SAVE is CKPT_DIR"),
        pytest.param({"CKPT_DIR": "here", "LOAD": "there"}, "load", "there", id="LOAD wins"),
        pytest.param({}, "split", "990,10,0", id="split"),
        pytest.param(
            {"MODEL_ARCH": "3B"}, "hidden_size", 16, id="an unknown architecture is 7B, which reads the variables"
        ),
        pytest.param(
            {"MODEL_ARCH": "AuroraGPT-2B", "GRAD_ACC_STEPS": "1"}, "hidden_size", 2048, id="2B ignores the variables"
        ),
        pytest.param({"NHEADS": "2", "HEADS": ""}, "num_attention_heads", 2, id="NHEADS"),
    ],
)
def test_variables(variables: dict[str, str], name: str, value: object) -> None:
    assert getattr(parsed(variables), name) == value


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        pytest.param(["--lr=7e-4"], "lr", 7e-4, id="lr can be replaced"),
        pytest.param(["--train-iters=99"], "train_iters", 10, id="iterations cannot"),
        pytest.param(["--save-interval=7"], "save_interval", 50, id="save interval cannot"),
        pytest.param(["--exit-duration-in-mins=0.25"], "exit_duration_in_mins", 0.25, id="fractions of a minute"),
        pytest.param(
            ["--lr_constant_plus_cooldown_frac=0.1"], "lr_constant_plus_cooldown", False, id="names do not run together"
        ),
    ],
)
def test_extra_arguments(flags: list[str], name: str, value: object) -> None:
    assert getattr(parsed({}, *flags), name) == value


def test_world_size_is_hosts_times_ranks(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text("local-0\nlocal-1\nlocal-2\n")
    variables = {"PBS_NODEFILE": str(nodes), "NGPU_PER_HOST": "2"}
    assert environment.world_size(variables) == (6, 6)
    assert environment.world_size(variables | {"WORLD_SIZE": "5"}) == (5, 5), "a stale WORLD_SIZE wins"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param({"SEQ": "many"}, "SEQ=many: a whole number", id="not a number"),
        pytest.param({"SEQ": "0"}, "SEQ=0", id="nothing"),
        pytest.param({"TP": "2"}, "TP=2", id="tensor parallel"),
        pytest.param({"DTYPE": "fp16"}, "DTYPE=fp16", id="fp16"),
        pytest.param({"OPT": "sophiag"}, "OPT=sophiag", id="another optimizer"),
        pytest.param({"HIDDEN": "18"}, "multiple of the heads", id="heads do not divide"),
        pytest.param({"DATA_FILE_LIST": ""}, "DATA_FILE_LIST", id="no data list"),
        pytest.param({"TRAIN_TOKENS": "1"}, "train-iters", id="a budget of no iterations"),
        pytest.param({"PBS_NODEFILE": "/nowhere/nodes"}, "/nowhere/nodes", id="no node file"),
        pytest.param({"TRAIN_SPLIT": "0", "VAL_SPLIT": "0"}, "all 0", id="no split"),
        pytest.param({"LR": "nan"}, "--lr is nan", id="rate not a number"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(BadSetting, match=words):
        parsed(variables)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param({"GLOBAL_BATCH": "5"}, "is not divisible by micro batch size", id="not divisible"),
        pytest.param({"GLOBAL_BATCH": "8"}, "train_batch_size is not equal to", id="another accumulation"),
    ],
)
def test_batch_checks(variables: dict[str, str], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        parsed(variables)


def test_unknown_flags_end_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed({}, "--lr-wsd-style=1-sqrt")
    assert ended.value.code == 2
    assert "unrecognized arguments: --lr-wsd-style" in capsys.readouterr().err
