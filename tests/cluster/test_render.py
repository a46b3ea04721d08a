"""Scripts: golden ones for every rung of the shipped campaigns, and hostile values that are refused or stay inert.

`SNAP_UPDATE=1 pytest tests/cluster/test_render.py` rewrites the golden scripts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.cluster.render import Unrenderable, render, templates_folder
from reconciler.domain.loading import load
from reconciler.domain.resolve import Unresolved
from reconciler.model.plan import Action, ActionKind, JobRequest
from reconciler.planner.desired import Desired, Site
from reconciler.planner.sketch import sketch
from tests.planner.world import after

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent.parent / "golden" / "scripts"
SITE = Site("/workspace", "/root", "/launcher", "# the converter\n")


def desired_of(campaign: str) -> Desired:
    files = [(path.name, path.read_bytes()) for path in sorted((ROOT / "manifests" / campaign).glob("*.yaml"))]
    loaded = load(files)
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    return Desired(loaded.catalog, campaign, "0" * 40, False, SITE)


def script_of(action: Action) -> str:
    assert action.job is not None
    return render(action.job, f"/workspace/{action.job.log}")


def sketches() -> Mapping[str, str]:
    """File name → script, for the first and a later job of every leg of every rung."""
    found: dict[str, str] = {}
    for campaign in sorted(path.name for path in (ROOT / "manifests").iterdir() if path.is_dir()):
        desired = desired_of(campaign)
        for stage in desired.stages:
            for strategy in stage.spec.strategies:
                for leg in range(len(strategy.legs)):
                    for later in (False, True):
                        made = sketch(desired, stage, strategy, leg, later=later)
                        assert not isinstance(made, Unresolved), made
                        which = f"{stage.metadata.name}.{strategy.name}.leg-{leg}.{'later' if later else 'first'}"
                        found[f"{campaign}/{which}.pbs"] = script_of(made.action)
    for kind in (ActionKind.CONVERT, ActionKind.EVALUATE):
        found[f"{kind}.pbs"] = script_of(after(1).until(kind))
    return found


SCRIPTS = sketches()


def compared(path: Path, text: str) -> str:
    """The golden text, rewritten first if that is asked for."""
    if os.environ.get("SNAP_UPDATE") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path.read_text() if path.exists() else "(there is no such golden script; run with SNAP_UPDATE=1)\n"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_the_golden_one(name: str) -> None:
    assert SCRIPTS[name] == compared(GOLDEN / name, SCRIPTS[name])


def test_no_golden_script_is_left_over() -> None:
    there = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.pbs")}
    assert there == set(SCRIPTS), "remove the scripts of rungs that are no more"


def test_every_script_is_bash() -> None:
    for name, text in SCRIPTS.items():
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), name


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_s_directives_come_first_and_its_lines_have_no_loose_ends(name: str) -> None:
    lines = SCRIPTS[name].splitlines()
    assert lines[0] == "#!/bin/bash -l"
    directives = [index for index, line in enumerate(lines) if line.startswith("#PBS ")]
    assert directives == list(range(1, len(directives) + 1))
    assert not any(line.endswith((" ", "\t")) for line in lines)
    assert SCRIPTS[name].endswith("\n")
    first = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    assert lines[first].startswith("attempt=")


def test_directives_of_a_shared_machine() -> None:
    name = "auroragpt-v1/stage-1.pretrain.leg-0.first.pbs"
    text = SCRIPTS.get(name) or next(text for key, text in SCRIPTS.items() if key.startswith("auroragpt-v1/stage-1"))
    assert "#PBS -A " in text
    assert "#PBS -l filesystems=" in text
    assert "#PBS -l select=256\n" in text
    assert "#PBS -l walltime=06:00:00\n" in text
    assert "module load frameworks" in text


# --- hostile values

JOB = JobRequest(
    name="stage-1.train.0",
    template="train",
    nodes=1,
    walltime_s=3661,
    queue="workq",
    account=None,
    filesystems=(),
    script="s.pbs",
    log="s.log",
    values={
        "machine": "local",
        "checkout": "/launcher",
        "attempt_folder": "/w/a",
        "key": "c/s/0/l0/n0/train",
        "ranks_per_node": 1,
        "launches": [{"environment": {"LR": "1e-3"}, "arguments": ["--seed=1"]}],
    },
    header={"campaign": "c", "stage": "s", "strategy": "t", "attempt": "a", "what": "train", "commit": "0"},
)
HOSTILE = [
    "'; touch pwned; '",
    "$(touch pwned)",
    "`touch pwned`",
    "a\ntouch pwned",
    "a\rtouch pwned",
    "\x00",
    "a\x1b[2Jb",
    "--checkpoint-activations",
    "-rf",
    "a b  c",
    '"quoted"',
    "back\\slash\\",
    "ünï — 漢字",
    "\u2028touch pwned",
    "~/x $HOME *",
    "!!",
    "#",
    "",
    "{{ 7 * 7 }}{% raw %}",
]


def with_value(text: str) -> JobRequest:
    """A job that holds a text wherever text goes in its body and header."""
    values = dict(JOB.values) | {
        "checkout": text,
        "attempt_folder": text,
        "key": text,
        "launches": [{"environment": {"LR": text}, "arguments": [text]}],
    }
    return replace(JOB, values=values, header=dict.fromkeys(JOB.header, text))


def as_bash_sees_it(script: str, folder: Path) -> tuple[list[str], list[str]]:
    """(values of attempt, LR and checkout, arguments of the launcher) when the script runs with harmless commands."""
    shim = (
        'flock() { :; }; exec() { :; }; cd() { printf "%s\\0" "$1" >>seen; }\n'
        'bash() { printf "%s\\0" "$attempt" "$LR" >>seen; printf "%s\\0" "$@" >>told; }\n'
    )
    script = script.replace('exec 9>>"$attempt/writer.lock"', ":")
    command = ["/bin/bash", "--norc", "--noprofile", "-c", shim + script]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=20, check=True, env={"PATH": os.environ["PATH"]})
    seen, told = ((folder / name).read_bytes().decode().split("\0")[:-1] for name in ("seen", "told"))
    return seen, told


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_a_hostile_value_is_refused_or_arrives_as_it_is(text: str, tmp_path: Path) -> None:
    try:
        script = render(with_value(text), "/w/log")
    except Unrenderable as refused:
        assert any(ord(character) < 32 for character in text), "only control characters are refused"
        assert "control character" in str(refused)
        return
    seen, told = as_bash_sees_it(script, tmp_path)
    assert seen == [text, text, text]
    assert told == ["train_alcf.sh", text]
    assert {path.name for path in tmp_path.iterdir()} == {"seen", "told"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), max_size=30))
@example("\x7f")
def test_any_text_is_refused_or_arrives_as_it_is(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("job")
    try:
        script = render(with_value(text), "/w/log")
    except Unrenderable:
        assert any(ord(character) < 32 or ord(character) == 127 for character in text)
        return
    seen, told = as_bash_sees_it(script, folder)
    assert (seen, told) == ([text] * 3, ["train_alcf.sh", text])


@pytest.mark.parametrize("place", ["name", "queue", "account", "filesystems", "log", "header"])
@pytest.mark.parametrize("text", ["a\n#PBS -l select=999", "a\x00b", "a\r\nb", "a\tb"], ids=repr)
def test_no_value_adds_a_directive(place: str, text: str) -> None:
    log = "/w/log"
    match place:
        case "name":
            job = replace(JOB, name=text)
        case "queue":
            job = replace(JOB, queue=text)
        case "account":
            job = replace(JOB, account=text)
        case "filesystems":
            job = replace(JOB, filesystems=(text,))
        case "log":
            job, log = JOB, text
        case _:
            job = replace(JOB, header=dict(JOB.header) | {"campaign": text})
    with pytest.raises(Unrenderable, match="control character"):
        render(job, log)


@pytest.mark.parametrize("name", ["lr", "LR=1; x", "A B", "", "1A", "A\n", "Ä", "LR$(x)"])
def test_a_variable_s_name_is_one(name: str) -> None:
    launches = [{"environment": {name: "1"}, "arguments": []}]
    with pytest.raises(Unrenderable, match="not the name of an environment variable"):
        render(replace(JOB, values=dict(JOB.values) | {"launches": launches}), "/w/log")


def test_directives_in_full() -> None:
    job = replace(JOB, account="acct", filesystems=("flare", "home"), nodes=3)
    directives = [line for line in render(job, "/w/log").splitlines() if line.startswith("#PBS")]
    assert directives == [
        "#PBS -N stage-1.train.0",
        "#PBS -A acct",
        "#PBS -q workq",
        "#PBS -l filesystems=flare:home",
        "#PBS -l select=3",
        "#PBS -l walltime=01:01:01",
        "#PBS -j oe",
        "#PBS -k doe",
        "#PBS -o /w/log",
        "#PBS -r n",
    ]


def test_a_template_that_prints_unquoted_text_is_a_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.cluster import render as module

    (tmp_path / "train.pbs").write_text("{{ checkout }}\n")
    monkeypatch.setattr(module, "_CHECKED_OUT", tmp_path)
    monkeypatch.setattr(module, "_PACKAGED", tmp_path)
    module._environment.cache_clear()
    try:
        with pytest.raises(Unrenderable, match="without the filter"):
            render(JOB, "/w/log")
    finally:
        module._environment.cache_clear()


def test_every_template_of_the_folder_is_rendered_here() -> None:
    bodies = {path.stem for path in templates_folder().glob("*.pbs")} - {"header", "guard"}
    assert bodies == {"train", "convert", "evaluate"}
