"""Beside real DeepSpeed: checkpoints that it wrote in several processes convert as with its own converter where that
works, and where it does not, DeepSpeed resumes from ours with the loss it would have had.

`deepspeed_runs/model.py` is what is trained, `deepspeed_runs/program.py` the program that trains it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reconciler.convert import layout, universal
from tests.convert.deepspeed_runs.compare import digest
from tests.convert.deepspeed_runs.run import BF16, SAVED_AT, ZERO, Outcome, Run

ROUNDING = 2e-3
"""Relative. Other sizes add bfloat16 gradients in another order, which comes to 0.0007 here."""

SIZES = {f"{wrapper}, DP {n}": Run(wrapper, data=n, words=21) for wrapper in (BF16, ZERO) for n in (1, 2, 4, 8)}
"""The last row of the vocabulary is no token: the universal form does not keep it."""
NESTED = {f"{wrapper}, nested, DP {n}": Run(wrapper, data=n, nested=True) for wrapper in (BF16, ZERO) for n in (2, 8)}
SPLIT = {
    **{f"{wrapper}, TP 2, DP 2": Run(wrapper, data=2, tensor=2) for wrapper in (BF16, ZERO)},
    **{f"{wrapper}, PP 2, DP 2": Run(wrapper, data=2, pipeline=2, layers=2) for wrapper in (BF16, ZERO)},
    f"{BF16}, TP 2, PP 2": Run(BF16, tensor=2, pipeline=2, layers=2),
}
"""Layers cut over two ranks, stages on two ranks, both."""
OTHERS = {f"{wrapper}, Sophia": Run(wrapper, data=2, hessian=True) for wrapper in (BF16, ZERO)}
SAVED = SIZES | NESTED | SPLIT | OTHERS
STOCK_FAILS = {
    f"{BF16}, DP 8": "narrow(): length must be non-negative",
    f"{BF16}, nested, DP 8": "narrow(): length must be non-negative",
    f"{BF16}, nested, DP 2": "'dict' object has no attribute 'float'",
    f"{ZERO}, nested, DP 2": "'dict' object has no attribute 'float'",
    f"{ZERO}, nested, DP 8": "'dict' object has no attribute 'float'",
    f"{BF16}, Sophia": "KeyError: 'exp_avg_sq'",
    f"{ZERO}, Sophia": "KeyError: 'exp_avg_sq'",
}


ON_CPU = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


class DeepSpeed:
    """The program with DeepSpeed in it, and the checkpoints it was asked for so far."""

    def __init__(self, program: subprocess.Popen[str], root: Path) -> None:
        self.program, self.root = program, root
        self.made: dict[str, Made] = {}

    def ask(self, what: str, **values: Any) -> Any:
        assert self.program.stdin is not None and self.program.stdout is not None
        print(json.dumps([what, values]), file=self.program.stdin, flush=True)
        answer = self.program.stdout.readline()
        assert answer, (self.root / "deepspeed.log").read_text()[-4000:]
        return json.loads(answer)

    def run(self, run: Run) -> Outcome:
        return Outcome(**self.ask("run", **asdict(run)))

    def saved(self, name: str) -> Made:
        """The checkpoint of that name in `SAVED`, with our conversion of it."""
        if name not in self.made:
            run = SAVED[name]
            folder = self.root / str(len(self.made))
            outcome = self.run(replace(run, save=str(folder)))
            assert (outcome.error, outcome.wrapper) == ("", run.wrapper)
            source, ours = folder / f"global_step{SAVED_AT}", folder / "ours"
            universal.convert(source, ours)
            self.made[name] = Made(run, source, ours, outcome.losses[SAVED_AT:])
        return self.made[name]

    def stock(self, made: Made) -> str:
        """Convert with DeepSpeed's own converter; its error, or "" if it worked."""
        return str(self.ask("stock", source=str(made.source), target=str(made.stock)))

    def differences(self, one: Path, other: Path) -> list[str]:
        """What is not the same in the results of two conversions."""
        folder = layout.universal_folder(f"global_step{SAVED_AT}")
        return list(self.ask("differences", one=str(one / folder), other=str(other / folder)))


@dataclass(frozen=True)
class Made:
    """A checkpoint by DeepSpeed, the losses of its run after saving, and where the two converters put theirs."""

    run: Run
    source: Path
    ours: Path
    losses: list[float]

    @property
    def stock(self) -> Path:
        return self.ours.with_name("stock")

    def resumed(self, **changes: Any) -> Run:
        """The same training, from our result, perhaps at other sizes."""
        return replace(self.run, load=str(self.ours), **changes)


@pytest.fixture(scope="module")
def deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeepSpeed]:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is missing: pip install -c constraints.txt -e '.[local,dev]'")
    root = tmp_path_factory.mktemp("deepspeed")
    command = [sys.executable, "-m", "tests.convert.deepspeed_runs.program"]
    with (
        (root / "deepspeed.log").open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | ON_CPU
        ) as program,
    ):
        yield DeepSpeed(program, root)
        assert program.stdin is not None
        program.stdin.close()


@pytest.mark.parametrize("name", [name for name in SAVED if name not in STOCK_FAILS])
def test_every_file_is_the_one_of_deepspeeds_own_converter(deepspeed: DeepSpeed, name: str) -> None:
    made = deepspeed.saved(name)
    assert deepspeed.stock(made) == ""
    assert deepspeed.differences(made.ours, made.stock) == []
    assert (made.ours / layout.POINTER).read_text() == (made.stock / layout.POINTER).read_text()


@pytest.mark.parametrize("name", STOCK_FAILS)
def test_where_deepspeeds_own_converter_stops(deepspeed: DeepSpeed, name: str) -> None:
    """Why the next tests compare losses instead. When a new DeepSpeed converts these, compare them above."""
    assert STOCK_FAILS[name] in deepspeed.stock(deepspeed.saved(name))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((f"{wrapper}, nested, DP 2", n) for wrapper in (BF16, ZERO) for n in (1, 2, 4)),
        *((f"{wrapper}, nested, DP 8", n) for wrapper in (BF16, ZERO) for n in (1, 4)),
        *((f"{wrapper}, Sophia", n) for wrapper in (BF16, ZERO) for n in (2, 4)),
    ],
)
def test_deepspeed_resumes_with_the_loss_it_would_have_had(deepspeed: DeepSpeed, name: str, data: int) -> None:
    made = deepspeed.saved(name)
    again = deepspeed.run(made.resumed(data=data))
    assert again.error == ""
    assert again.loaded == digests(made)
    if data == made.run.data:
        assert again.losses == made.losses
    else:
        assert again.losses == pytest.approx(made.losses, rel=ROUNDING)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (f"{BF16}, TP 2, DP 2", {"tensor": 2, "data": 2}),
        (f"{BF16}, TP 2, DP 2", {"tensor": 1, "data": 2}),
        (f"{ZERO}, TP 2, DP 2", {"tensor": 2, "data": 1}),
        (f"{ZERO}, PP 2, DP 2", {"pipeline": 2, "data": 2}),
        (f"{ZERO}, PP 2, DP 2", {"pipeline": 1, "data": 2, "staged": True}),
        (f"{BF16}, PP 2, DP 2", {"pipeline": 2, "data": 1}),
        (f"{BF16}, TP 2, PP 2", {"pipeline": 1, "tensor": 1, "data": 2, "staged": True}),
    ],
)
def test_deepspeed_resumes_at_other_ways_to_split_the_model(
    deepspeed: DeepSpeed, name: str, sizes: dict[str, Any]
) -> None:
    made = deepspeed.saved(name)
    again = deepspeed.run(made.resumed(**sizes))
    assert again.error == ""
    if made.resumed(**sizes) == made.resumed():
        assert again.losses == made.losses
    else:
        assert again.losses == pytest.approx(made.losses, rel=ROUNDING)


def params(made: Made, state: str) -> dict[str, torch.Tensor]:
    """Every parameter in our result."""
    found = (made.ours / layout.universal_folder(made.source.name) / "zero").glob(f"*/{state}.pt")
    return {path.parent.name: torch.load(path)["param"] for path in found}


def digests(made: Made) -> dict[str, dict[str, str]]:
    states = {state: params(made, state) for state in ("fp32", *made.run.moments)}
    return {name: {state: digest(found[name]) for state, found in states.items()} for name in states["fp32"]}


@pytest.mark.parametrize("state", ["exp_avg", "exp_avg_sq"])
def test_moments_lost_in_one_layer_would_show(deepspeed: DeepSpeed, state: str) -> None:
    """In the comparison of files, and in the loss: `ROUNDING` is not too wide."""
    made = deepspeed.saved(f"{BF16}, nested, DP 2")
    spoilt = made.ours.with_name(f"without-{state}")
    shutil.copytree(made.ours, spoilt)
    for path in spoilt.rglob(f"*.mlp.*/{state}.pt"):
        content = torch.load(path)
        torch.save({**content, "param": torch.zeros_like(content["param"])}, path)
    again = deepspeed.run(replace(made.resumed(), load=str(spoilt)))
    assert again.error == ""
    assert len(deepspeed.differences(made.ours, spoilt)) == 2
    assert again.losses != pytest.approx(made.losses, rel=ROUNDING)


@pytest.mark.parametrize("data", [1, 2, 4, 8])
def test_a_size_is_called_safe_exactly_where_deepspeed_can_load(deepspeed: DeepSpeed, data: int) -> None:
    """DeepSpeed's loader fails on a rank that owns nothing of an optimizer group, which no converter can mend."""
    made = deepspeed.saved(f"{ZERO}, nested, DP 2")
    groups = {1: 0, 2: 0}
    for tensor in params(made, "fp32").values():
        groups[tensor.dim()] += tensor.numel()
    safe = layout.universal_loads_at(groups.values(), data)
    error = deepspeed.run(made.resumed(data=data)).error
    assert safe == (error == "")
    assert safe or "IndexError: list index out of range" in error
