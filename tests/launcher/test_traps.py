"""Every code of the oracle: a script that provokes it, and one near by that does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from reconciler.launcher.codes import ERRORS, MEANINGS
from reconciler.launcher.forecast import Finding, Forecast, State
from reconciler.launcher.scriptreader import read_script
from reconciler.launcher.traps import judge
from reconciler.model.problems import Severity

BATCH = 6144
SOURCE = State(
    iteration=136_000,
    global_batch=BATCH,
    max_lr=2e-4,
    min_lr=0.0,
    style="constant",
    warmup=0,
    decay=136_000 * BATCH,
    lr=2e-4,
    data_parallel=3072,
    path="/flare/old",
)
"""A pre-cooldown checkpoint of 2B on 256 nodes."""
ENVIRONMENT = {
    "MODEL_ARCH": "AuroraGPT-2B",
    "GLOBAL_BATCH": "6144",
    "GRAD_ACC_STEPS": "2",
    "MICRO_BATCH": "1",
    "CKPT_DIR": "/flare/new",
    "SAVE": "/flare/new",
    "LOAD": "/flare/old",
    "SAVE_INTERVAL": "100",
    "DATA_FILE_LIST": "/flare/list.txt",
    "LR": "0.0002",
    "LR_DECAY_STYLE": "constant",
    "LR_WARMUP_FRAC": "0.0",
    "LR_DECAY_ITERS": "137651",
    "TRAIN_ITERS": "1651",
    "OVERRIDE_CKPT_OPT_PARAM": "1",
}
FLAGS = ("--override-opt_param-scheduler", "--reset-iteration", "--load-tag=global_step136000")
"""With these: the first job of a stage at LR max, which continues schedule and moments and starts data afresh."""


@dataclass(frozen=True)
class Case:
    """A script as changes to the sound one above."""

    env: Mapping[str, str | None] = field(default_factory=dict)
    """Variables to set, or to leave out (None)."""
    flags: tuple[str, ...] = FLAGS
    state: State | None = SOURCE
    nodes: int | None = 256
    before: str = ""
    """Lines above the call."""
    text: str = ""
    """The whole script, instead."""

    def script(self) -> str:
        settings = {name: text for name, text in (ENVIRONMENT | dict(self.env)).items() if text is not None}
        pairs = " ".join(f"{name}={text}" for name, text in settings.items())
        return self.text or f"{self.before}\n{pairs} bash train_alcf.sh {' '.join(self.flags)}\n"

    def judged(self) -> Forecast:
        return judge(read_script(self.script()), self.state, nodes=self.nodes)

    def said(self, code: str) -> list[Finding]:
        return [finding for finding in self.judged().findings if finding.code == code]


def case(*more: str, drop: tuple[str, ...] = (), state: State | None = SOURCE, **env: str | None) -> Case:
    """The sound script with more flags, without others (by the beginning of their name), and other variables."""
    kept = tuple(flag for flag in FLAGS if not flag.startswith(drop or ("?",)))
    return Case(env, (*kept, *more), state)


COOL = ("--min-lr=2e-05", "--lr_constant_plus_cooldown")
RIGHT = "--lr_constant_plus_cooldown_frac=0.01199410102360317"
PLAIN = {"OVERRIDE_CKPT_OPT_PARAM": None}
CONTINUED = ("--load-tag=global_step136000",)
"""Flags of a job in the checkpoint's mode whose counter goes on."""
CONVERGED = replace(SOURCE, lr=2e-5)
OVER = "--override"
RESET = "--reset"

TRAPS: dict[str, tuple[Case, Case]] = {
    "ORA001": (case(LR="$(cat rate)"), Case(before="LR=$(cat rate)")),
    "ORA002": (
        Case(text="for i in 1 2; do bash train_alcf.sh; done"),
        Case(text="for i in 1 2; do :; done; bash train_alcf.sh"),
    ),
    "ORA003": (Case(before="SEQ=4096"), Case(before="export SEQ=4096")),
    "ORA004": (case(LR_WARMUP_FRACTION="0.01"), case(LR_WARMUP_FRAC="0.01")),
    "ORA005": (case("--save-interval=10"), case("--lr=0.0002")),
    "ORA006": (Case(before="export SEQ=8192\n. env.sh"), Case(before=". env.sh\nexport SEQ=8192")),
    "ORA007": (case("--no-load-optim"), case("--no-load-rng")),
    "ORA008": (case(SAVE="'/flare/a;b'"), case(SAVE="/flare/a_b")),
    "ORA009": (case(state=None), case()),
    "ORA010": (case(LR_WARMUP_FRAC="1.0"), case(LR_WARMUP_FRAC="0.0")),
    "ORA011": (case(LR="2e-4x"), case(LR="2e-4")),
    "ORA012": (case(OVERRIDE_CKPT_OPT_PARAM=None), case(drop=(OVER,), OVERRIDE_CKPT_OPT_PARAM=None)),
    "ORA013": (case("--lr-warmup-iters=10"), case("--lr-warmup-iters=0")),
    "ORA014": (case(TRAIN_ITERS=None, TRAIN_TOKENS="1000"), case(TRAIN_ITERS=None, TRAIN_TOKENS="90000000000")),
    "ORA015": (case(GRAD_ACC_STEPS="4"), case(GRAD_ACC_STEPS="2")),
    "ORA016": (
        case(state=replace(SOURCE, data_parallel=768)),
        case("--universal-checkpoint", state=replace(SOURCE, data_parallel=768)),
    ),
    "ORA017": (case(drop=(OVER,)), case(drop=(OVER,), LR_DECAY_ITERS="136000")),
    "ORA018": (case("--override-lr-scheduler"), case("--eod-mask-loss")),
    "ORA019": (
        case("--constant-lr=1e-4", LR_DECAY_STYLE="infinite-cosine"),
        case("--constant-lr=1e-4", "--min-lr=1e-5", LR_DECAY_STYLE="infinite-cosine"),
    ),
    "ORA020": (case(LOAD="/flare/elsewhere"), case(LOAD="/flare/old/")),
    "ORA021": (
        case(LOAD="/flare/new", state=replace(SOURCE, path="/flare/new")),
        case(drop=(RESET,), LOAD="/flare/new", TRAIN_ITERS="137651", state=replace(SOURCE, path="/flare/new")),
    ),
    "ORA022": (case(drop=(RESET,), TRAIN_ITERS="136000"), case(drop=(RESET,), TRAIN_ITERS="136001")),
    "ORA023": (case(LOAD=None, state=None), case()),
    "ORA024": (case(SAVE=None, CKPT_DIR=None), case(SAVE=None)),
    "ORA025": (case(drop=(RESET,), TRAIN_ITERS="137651"), case()),
    "ORA026": (case("--load-tag=global_step135000"), case()),
    "ORA027": (
        case(drop=(*FLAGS,), LOAD="/flare/new", OVERRIDE_CKPT_OPT_PARAM=None, state=None),
        case(drop=(RESET,), LOAD="/flare/new", state=replace(SOURCE, path="/flare/new")),
    ),
    "ORA028": (
        Case(text="LR=2e-4 bash train_alcf.sh\r\n"),
        Case(text="LR=2e-4 bash train_alcf.sh\n"),
    ),
    "ORA029": (Case(text="qsub -v LR=2e-4 train_alcf.sh"), Case(text="LR=2e-4 bash train_alcf.sh")),
    "ORA030": (case(OVERRIDE_CKPT_OPT_PARAM="0"), case(drop=(OVER,), OVERRIDE_CKPT_OPT_PARAM=None)),
    "ORA031": (Case(PLAIN | {"LR": "0.0001"}, FLAGS[1:]), Case(PLAIN | {"LR_DECAY_ITERS": None}, FLAGS[1:])),
    "ORA032": (case(*COOL, RIGHT, LR_DECAY_STYLE="cosine"), case(*COOL, RIGHT)),
    "ORA033": (Case(PLAIN, (*FLAGS[1:], *COOL, RIGHT)), case(*COOL, RIGHT)),
    "ORA034": (case("--universal-checkpoint", OPT="sophiag"), case("--universal-checkpoint", OPT="adamw")),
    "ORA040": (case(*COOL, "--lr_constant_plus_cooldown_frac=0.988"), case(*COOL, RIGHT)),
    "ORA041": (
        case("--min-lr=2e-05", LR_DECAY_STYLE="cosine"),
        case("--min-lr=2e-05", LR_DECAY_STYLE="cosine", LR_WARMUP_FRAC="0.9880058989763968"),
    ),
    "ORA042": (
        Case(PLAIN | {"LR_DECAY_ITERS": None, "LR_WARMUP_FRAC": "0.01"}, ("--finetune",)),
        Case(PLAIN | {"LR_DECAY_ITERS": None}, ("--finetune",)),
    ),
    "ORA043": (
        case(LR_WARMUP_FRAC="0.9", LR_DECAY_ITERS="200000"),
        case(LR_WARMUP_FRAC="0.5", LR_DECAY_ITERS="200000"),
    ),
    "ORA044": (
        Case(PLAIN | {"LR_WARMUP_FRAC": "0.5"}, ("--finetune",)),
        Case(PLAIN | {"LR_WARMUP_FRAC": "0.01"}, ("--finetune",)),
    ),
    "ORA045": (
        case(*COOL, "--lr_constant_plus_cooldown_frac=0.005", LR_DECAY_ITERS="137000"),
        case(*COOL, RIGHT),
    ),
    "ORA046": (
        case(*COOL, "--lr_constant_plus_cooldown_frac=1.0", LR_DECAY_ITERS=None),
        case(*COOL, RIGHT),
    ),
    "ORA047": (
        case("--constant-lr=1e-4", "--min-lr=1e-5", LR_DECAY_STYLE="infinite-cosine"),
        # From the maximum and without the parts before it, it is an exponential, which nothing else gives.
        case(
            "--constant-lr=2e-4",
            "--min-lr=1e-5",
            "--lr-constant-fraction=0",
            "--lr-cooldown-fraction=1e-15",
            LR_DECAY_STYLE="infinite-cosine",
        ),
    ),
    "ORA049": (case(drop=(OVER,), state=None), case(state=None)),
    "ORA050": (case(TRAIN_TOKENS="90000000000"), case()),
    "ORA051": (case(GLOBAL_BATCH=None), case()),
    "ORA052": (case(GLOBAL_BATCH="12288", GRAD_ACC_STEPS="4"), case()),
    "ORA053": (
        replace(case(GLOBAL_BATCH=None, GRAD_ACC_STEPS=None), nodes=None),
        replace(case(), nodes=None),
    ),
    "ORA054": (case(WORLD_SIZE="768", GRAD_ACC_STEPS="8"), case(WORLD_SIZE="3072")),
    "ORA055": (case(MODEL_ARCH="3B"), case(MODEL_ARCH="2B")),
    "ORA056": (case(TRAIN_ITERS="1700"), case(TRAIN_ITERS="1701")),
    "ORA057": (
        case(DATA_FILE_LIST="ALCF/data-lists/polaris/x.txt", SAVE="/eagle/n"),
        case(DATA_FILE_LIST="ALCF/data-lists/polaris/x.txt", SAVE="/eagle/n", DTYPE="bf16"),
    ),
    "ORA058": (
        case(MODEL_ARCH="7B", LOAD="/flare/ws768_ds_stage1_nl32", state=None),
        case(
            MODEL_ARCH="7B",
            LOAD="/flare/ws768_ds_stage1_nl32",
            ROPE_THETA="10000",
            TOKENIZER_TYPE="Llama2Tokenizer",
            TOKENIZER_MODEL="ALCF/tokenizer.model",
            state=None,
        ),
    ),
    "ORA059": (case(DATA_FILE_LIST=None), case()),
    "ORA061": (case(TRAIN_ITERS=None), case()),
    "ORA062": (
        replace(case("--exit-duration-in-mins=60"), before="#PBS -l walltime=01:00:00"),
        replace(case("--exit-duration-in-mins=50"), before="#PBS -l walltime=01:00:00"),
    ),
}


def test_the_sound_script_has_nothing_to_say_about() -> None:
    assert case().judged().findings == ()


def test_every_code_has_an_example() -> None:
    assert set(TRAPS) == set(MEANINGS)


@pytest.mark.parametrize("code", TRAPS)
def test_a_trap_is_found(code: str) -> None:
    findings = TRAPS[code][0].said(code)
    assert findings, [f.code for f in TRAPS[code][0].judged().findings]
    assert {f.severity for f in findings} == {Severity.ERROR if code in ERRORS else Severity.WARNING}
    assert all(f.fix for f in findings)


@pytest.mark.parametrize("code", TRAPS)
def test_a_script_near_by_does_not_fall_into_it(code: str) -> None:
    assert TRAPS[code][1].said(code) == []


@pytest.mark.parametrize(
    ("of", "code", "words"),
    [
        pytest.param(
            case(*COOL, "--lr_constant_plus_cooldown_frac=0.988", LR_DECAY_ITERS="137650"),
            "ORA040",
            ["drops at once from 0.0002 to 2.11e-05", "begins at iteration 1,652 of 137,650"],
            id="the inverted fraction that the launcher's own notes give",
        ),
        pytest.param(
            Case(PLAIN | {"TRAIN_ITERS": "1651", "LR_DECAY_ITERS": None, "LR_WARMUP_FRAC": None}, ("--finetune",)),
            "ORA042",
            ["--finetune rewarms", "starts again at 0", "82.5 iterations to 0.0002", "the checkpoint is at 0.0002"],
            id="--finetune rewarms",
        ),
        pytest.param(
            case(LR_WARMUP_FRACTION="0.01", LR_WARMUP_FRAC=None),
            "ORA004",
            ["LR_WARMUP_FRACTION=0.01 is read by nothing", "0.05 of the schedule"],
            id="LR_WARMUP_FRACTION",
        ),
        pytest.param(
            case(TRAIN_TOKENS="7064155541716"),
            "ORA050",
            ["TRAIN_TOKENS=7064155541716 wins over TRAIN_ITERS=1651", "140352 iterations"],
            id="TRAIN_TOKENS beats TRAIN_ITERS",
        ),
        pytest.param(
            case(OVERRIDE_CKPT_OPT_PARAM=None),
            "ORA012",
            ["both override and use-checkpoint are set"],
            id="the flag without its variable",
        ),
        pytest.param(
            case(drop=(OVER,)),
            "ORA017",
            ["OptimizerParamScheduler: class input value", "do not match"],
            id="the variable without its flag",
        ),
        pytest.param(
            case(LOAD="/flare/new", state=replace(SOURCE, path="/flare/new")),
            "ORA021",
            ["every job that runs this restarts the stage"],
            id="first-job flags on a later job",
        ),
        pytest.param(
            case("--min-lr=2e-05", LR_DECAY_STYLE="cosine", LR_DECAY_ITERS="151111"),
            "ORA041",
            ["jumps at the load from 0.0002 to 2.44e-05", "of 151,111 iterations"],
            id="cosine from LR max at iteration k",
        ),
        pytest.param(
            case(*COOL, RIGHT, LR_DECAY_ITERS=None),
            "ORA046",
            ["over before training starts", "the rate is 2e-05 all the time"],
            id="--reset-iteration does not reset the schedule",
        ),
    ],
)
def test_a_known_trap_in_numbers(of: Case, code: str, words: list[str]) -> None:
    (finding,) = of.said(code)
    assert [word for word in words if word not in finding.message] == []


def test_errors_come_first_and_then_by_code() -> None:
    found = case("--no-such-flag", "--save-interval=1", WORLD_SIZE="9", TRAIN_TOKENS="1").judged().findings
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=lambda s: s is not Severity.ERROR)
    for severity in Severity:
        codes = [f.code for f in found if f.severity is severity]
        assert codes == sorted(codes)


def test_a_flag_that_is_misspelt_is_guessed() -> None:
    (finding,) = case("--override-opt-param-scheduler").said("ORA018")
    assert finding.fix == "did you mean --override-opt_param-scheduler?"


@pytest.mark.parametrize(
    ("code", "of", "words"),
    [
        ("ORA002", Case(text="bash train_aGPT_2B_sophiag_stage2.sh"), "sets variables of its own"),
        ("ORA002", Case(text="bash train_alcf.sh; bash train_alcf.sh"), "2 calls of the launcher (lines 1, 1)"),
        ("ORA003", Case(text="LR=2e-4 qsub train_alcf.sh"), "LR is set at line 1 and not passed by qsub"),
        ("ORA007", case(NLAYERS="24"), "NLAYERS=24 does nothing: MODEL_ARCH=AuroraGPT-2B fixes it at 12"),
        ("ORA007", case(SEQ="4096", MODEL_ARCH="2B"), "SEQ=4096 does nothing: MODEL_ARCH=2B fixes it at 8192"),
        ("ORA007", case(DATA_CACHE_PATH="/flare/cache"), "DATA_CACHE_PATH does nothing: the launcher overwrites it"),
        ("ORA007", case(USE_ACTIVATION_CHECKPOINTING="True"), "only `1` and `true` count"),
        ("ORA007", case(CLIP_GRAD="0.5"), "DeepSpeed clips by its own configuration, at 1.0"),
        ("ORA010", case("--min-lr=1e-3"), "--min-lr 0.001 is above the rate 0.0002"),
        ("ORA010", case("--min-lr=-1"), "--min-lr -1 is below 0"),
        ("ORA010", case(*COOL, "--lr_constant_plus_cooldown_frac=x"), "'x' is no number"),
        ("ORA010", case(*COOL, "--lr_constant_plus_cooldown_frac=inf"), "'inf' is no finite number"),
        ("ORA011", case(TRAIN_ITERS="2e3"), "--train-iters '2e3' is no whole number"),
        ("ORA011", case(LR="nan"), "--lr 'nan' is no finite number"),
        ("ORA011", case(LR_DECAY_STYLE="WSD"), "'WSD' is no style; there is constant, linear, cosine"),
        ("ORA011", case(TRAIN_ITERS=None, TRAIN_TOKENS="1.5e12"), "is no whole number for bash"),
        ("ORA011", case(OPT="ds.adamw"), "no valid JSON"),
        ("ORA013", case("--lr-decay-samples=9"), "--lr-decay-samples cannot be used with --train-iters"),
        ("ORA015", case(GRAD_ACC_STEPS="0"), "batch sizes must be above 0"),
        ("ORA015", case(GLOBAL_BATCH="6000"), "not divisible by micro batch size (1) times data parallel size (3072)"),
        ("ORA018", case("stray"), "unrecognized arguments: stray"),
        ("ORA019", case("--lr-decay-tokens=9"), "every step"),
        ("ORA021", case("--universal-checkpoint", drop=(RESET,), LOAD="/flare/new"), "reads `latest_universal` there"),
        ("ORA030", case(NO_FLASH_ATTN="0"), "NO_FLASH_ATTN=0 is on"),
        ("ORA031", Case(PLAIN | {"LR_WARMUP_FRAC": "0.1"}, FLAGS[1:]), "LR_WARMUP_FRAC=0.1 is ignored"),
        ("ORA031", Case(PLAIN, FLAGS[1:]), "LR_DECAY_ITERS=137651 is ignored: the checkpoint's 136000 is used"),
        ("ORA040", Case({}, (*FLAGS, *COOL, "--lr_constant_plus_cooldown_frac=0.9"), None), "looks inverted"),
        ("ORA040", Case({}, (*FLAGS[:2], *COOL, "--lr_constant_plus_cooldown_frac=0.9"), None), "looks inverted"),
        ("ORA041", case(state=replace(SOURCE, lr=1e-4)), "jumps at the load from 0.0001 to 0.0002"),
        (
            "ORA045",
            Case(
                {**PLAIN, "TRAIN_ITERS": "140001"}, (), replace(SOURCE, style="cosine", decay=137_000 * BATCH, lr=None)
            ),
            "ends before the target",
        ),
    ],
)
def test_another_form_of_a_trap(code: str, of: Case, words: str) -> None:
    assert any(words in finding.message for finding in of.said(code)), of.judged().findings


@pytest.mark.parametrize(
    "env",
    [
        {
            "NLAYERS": "12",
            "SEQ": "8192",
            "HIDDEN": "2048",
            "HEADS": "16",
            "NUM_KV_HEAD": "4",
            "FFN_HIDDEN_SIZE": "11008",
        },
        {"MODEL_ARCH": "7B", "NLAYERS": "24", "SEQ": "4096"},
        {"USE_ACTIVATION_CHECKPOINTING": "true"},
        {"USE_ACTIVATION_CHECKPOINTING": "0"},
    ],
)
def test_a_value_that_is_what_it_looks_like_is_no_trap(env: dict[str, str]) -> None:
    assert Case(env).said("ORA007") == []


def test_a_default_budget_on_an_unknown_number_of_nodes_has_no_number_of_iterations() -> None:
    (finding,) = Case(text="bash train_alcf.sh", nodes=None, state=None).said("ORA061")
    assert finding.message.endswith("the default of 4,673,780,159,710 tokens")


# --- what is said of a rate that jumps

DONE = replace(SOURCE, iteration=100_000, decay=100_000 * BATCH)
"""A source at LR max, at iteration 100,000."""
MIDWAY = replace(DONE, iteration=120_000, lr=8e-5, min_lr=2e-5, path="/flare/new")
"""A stage's own checkpoint in the middle of its cooldown from 2e-4 to 2e-5 at iteration 140,001."""
WHOLE = {"TRAIN_ITERS": "140001", "LR_DECAY_ITERS": None}
OWN = WHOLE | {"LOAD": "/flare/new"}
SHARE = "--lr_constant_plus_cooldown_frac="


def jumping(*more: str, state: State = DONE, **env: str | None) -> Case:
    """A job in mode O whose counter goes on."""
    return Case(WHOLE | env, (FLAGS[0], *more), state)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        pytest.param(
            jumping(*COOL, f"{SHARE}0.285719387719", LR="1e-4"), "from 0.0002 to 0.0001",
            id="LR is halved, and a cooldown begins there",
        ),
        pytest.param(
            jumping(RESET + "-iteration", *COOL, LR_DECAY_STYLE="cosine"), "a cosine is computed over the whole",
            id="a cosine with a stray flag of a cooldown",
        ),
        pytest.param(
            jumping(state=MIDWAY, **OWN), "the checkpoint is in a cooldown from 0.0002, whose flags are not stored",
            id="the second job of a cooldown without its flags",
        ),
        pytest.param(
            jumping(state=MIDWAY, **OWN, LR="1e-4", LR_DECAY_STYLE="linear"), "in the middle of a stage: LOAD is SAVE",
            id="another schedule in the middle of a stage",
        ),
    ],
)  # fmt: skip
def test_a_jump_is_told_unless_another_rule_tells_it(of: Case, message: str) -> None:
    (finding,) = of.said("ORA041")
    assert message in finding.message
    assert of.said("ORA040") == of.said("ORA046") == []


def test_the_flags_of_a_cooldown_are_to_be_repeated_and_not_its_rate_frozen() -> None:
    (finding,) = jumping(state=MIDWAY, **OWN).said("ORA041")
    assert finding.fix.startswith("repeat on every job --min-lr=2e-05 --lr_constant_plus_cooldown ")
    assert "LR=8e-05" not in finding.fix


RATE_CODES = {"ORA040", "ORA041", "ORA043", "ORA045", "ORA046"}


@pytest.mark.parametrize(
    ("wrong", "codes"),
    [
        pytest.param(
            jumping(RESET + "-iteration", *COOL, f"{SHARE}0.9"), {"ORA040", "ORA045"},
            id="an inverted fraction, and a length that forgets what the schedule has counted",
        ),
        pytest.param(
            jumping(RESET + "-iteration", *COOL, f"{SHARE}0.9", LR="1e-4"), {"ORA040", "ORA045"},
            id="the same with another rate",
        ),
        pytest.param(
            jumping(RESET + "-iteration", "--min-lr=2e-05", LR_DECAY_STYLE="cosine"), {"ORA041", "ORA045"},
            id="a cosine over too short a length",
        ),
        pytest.param(jumping(state=MIDWAY, **OWN), {"ORA041"}, id="the flags of a cooldown are missing"),
        pytest.param(
            jumping(*COOL, f"{SHARE}0.7", state=MIDWAY, **OWN), {"ORA040"}, id="another fraction on a later job"
        ),
        pytest.param(
            case(*COOL, f"{SHARE}0.005", LR_DECAY_ITERS="137000"), {"ORA045"}, id="a cooldown that ends too soon"
        ),
    ],
)  # fmt: skip
def test_every_fix_of_a_wrong_rate_works_and_with_the_others(wrong: Case, codes: set[str]) -> None:
    found = [finding for finding in wrong.judged().findings if finding.code in RATE_CODES]
    assert {finding.code for finding in found} == codes
    words = [word.strip("(),") for finding in found for word in finding.fix.split()]
    told = dict.fromkeys(word for word in words if word.startswith("--") or "=" in word)
    flags = [word for word in told if word.startswith("--")]
    env = [word.partition("=") for word in told if not word.startswith("--")]
    assert len({name for name, _, _ in env}) == len(env), "two fixes set one variable to two values"
    right = replace(wrong, env={**wrong.env, **{name: value for name, _, value in env}}, flags=(*wrong.flags, *flags))
    now = right.judged()
    assert [finding for finding in now.findings if finding.code in RATE_CODES] == []
    assert now.rate(now.start_iteration or 0) == pytest.approx(wrong.state.lr if wrong.state else 0, rel=1e-6)


@pytest.mark.parametrize("architecture", ["33B", "llama3-3B", "smollm3-3B", "70B"])
def test_every_architecture_is_known(architecture: str) -> None:
    assert case(MODEL_ARCH=architecture).said("ORA055") == []
