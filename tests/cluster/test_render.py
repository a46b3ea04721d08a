"""Scripts: golden ones for every rung of the shipped campaigns, and templates that a repository puts in their place.

`SNAP_UPDATE=1 pytest tests/cluster/test_render.py` rewrites the golden scripts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from reconciler.cli.render import render as render_command
from reconciler.cli.validate import validate
from reconciler.cluster.render import JOBS, packaged, render, templates_of
from reconciler.domain.loading import load
from reconciler.domain.resolve import Unresolved
from reconciler.model.cluster import MACHINES
from reconciler.model.plan import Action, ActionKind, JobRequest
from reconciler.model.templates import Templates, Unrenderable
from reconciler.planner.desired import Desired, Site
from reconciler.planner.sketch import sketch
from reconciler.record.repository import revision_of
from tests.planner.world import after

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent.parent / "golden" / "scripts"
SITE = Site("/workspace", "/root", "/launcher", "# the converter\n")


def desired_of(campaign: str) -> Desired:
    """All manifests together: `ladder` and `decay` take their data and cluster from the quickstart."""
    files = [(str(path.relative_to(ROOT)), path.read_bytes()) for path in sorted((ROOT / "manifests").rglob("*.yaml"))]
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
    found["evaluate.polaris.pbs"] = script_of(on(after(1).until(ActionKind.EVALUATE), "polaris"))
    return found


def on(action: Action, machine: str) -> Action:
    """The same action on another machine."""
    assert action.job is not None
    return replace(action, job=replace(action.job, values={**action.job.values, "machine": machine}))


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


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="apt-get install shellcheck")
def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    for name, text in SCRIPTS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    command = ["shellcheck", "--severity=style", "--norc", *SCRIPTS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


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


# --- directives

JOB = JobRequest(
    name="stage-1.train.0",
    template="train",
    nodes=3,
    walltime_s=3661,
    queue="workq",
    account="acct",
    filesystems=("flare", "home"),
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
    header={
        **dict.fromkeys(("campaign", "stage", "strategy", "attempt", "what", "commit"), "x"),
        "templates": "its own templates",
    },
)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (", account: AuroraGPT", "scheduler.account missing"),
        ('  filesystems: ["flare:home"]\n', "filesystems missing"),
    ],
)
def test_what_alcf_refuses_a_job_without_is_missed_before_it_is_submitted(field: str, told: str) -> None:
    path = ROOT / "manifests/auroragpt-v1/cluster.yaml"
    text = path.read_text()
    assert field in text
    (problem,) = (p for p in load([("cluster.yaml", text.replace(field, "").encode())]).problems if p.code == "M028")
    assert problem.detail.startswith(told) or told in problem.detail


def test_directives_in_full() -> None:
    directives = [line for line in render(JOB, "/w/log").splitlines() if line.startswith("#PBS")]
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


# --- templates of one's own


def own(folder: Path, **files: str) -> Templates:
    """The packaged templates with these files in front; `machine__x` stands for machine/x.sh."""
    for name, text in files.items():
        path = folder / "ops" / (f"machine/{name[9:]}.sh" if name.startswith("machine__") else f"{name}.pbs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return templates_of(folder, "ops")


def test_a_file_of_the_repository_replaces_the_packaged_one_of_its_name(tmp_path: Path) -> None:
    templates = own(tmp_path, secrets="# our site has none\n", machine__frontier="module load rocm\n")
    job = replace(JOB, values={**JOB.values, "machine": "frontier"})
    script = render(job, "/w/log", templates)
    assert "module load rocm" in script
    assert "# our site has none" in script
    assert "compgen" not in script
    assert "flock" in script, "what is not replaced stays as packaged"
    assert templates.machines == (*MACHINES[:1], "frontier", *MACHINES[1:])
    assert templates.digest != packaged().digest


def test_the_packaged_machines_are_those_that_a_manifest_may_name_without_more() -> None:
    assert packaged().machines == MACHINES


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": "#!/bin/bash\n{% if %}\n"}, r"^ops/train\.pbs:2: Expected an expression"),
        ({"machine__local": "{{ open"}, r"^ops/machine/local\.sh:1: unexpected end of template"),
        ({"train": "a\nb\n{{ nowhere | sh }}\n"}, r"^ops/train\.pbs:3: 'nowhere' is undefined"),
        ({"guard": "\n{{ 1 / 0 }}\n"}, r"^ops/guard\.pbs:2: ZeroDivisionError"),
        ({"train": "{{ checkout }}\n"}, r"^ops/train\.pbs:1: a template prints '/launcher' without the filter"),
        ({"train": "{{ 'a' ~ checkout }}\n"}, r"without the filter"),
        ({"train": '{% include "../../etc/passwd" %}\n'}, r"^ops/train\.pbs:1: there is no template \.\./"),
        ({"train": '{% include "/etc/passwd" %}\n'}, r"there is no template /etc/passwd"),
        ({"trian": "x\n"}, r"^ops/trian\.pbs would be used by nothing"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_a_broken_template_is_one_message_with_file_and_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(Unrenderable, match=message):
        render(JOB, "/w/log", own(tmp_path, **files))


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() | sh }}",
        "{{ cycler.__init__.__globals__.os.system('touch pwned') }}",
        "{{ self._TemplateReference__context.environment.filters.update(sh=none) | sh }}",
        "{{ lipsum.__globals__['os'].popen('touch pwned').read() | sh }}",
        "{{ launches.append(1) | sh }}",
        "{{ launches[0].environment.update(LR='9') | sh }}",
        "{{ header.__class__.__base__ | sh }}",
        "{% for x in (1).__class__.mro() %}{% endfor %}",
        "{% import 'os' as os %}",
    ],
)
def test_a_template_from_a_stranger_runs_no_code_and_changes_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    monkeypatch.chdir(tmp_path)
    templates = own(tmp_path, secrets=attack + "\n")
    with pytest.raises(Unrenderable, match=r"^ops/secrets\.pbs:1: "):
        render(JOB, "/w/log", templates)
    assert not (tmp_path / "pwned").exists()
    assert render(JOB, "/w/log") == render(JOB, "/w/log", packaged())
    assert JOB.values["launches"] == [{"environment": {"LR": "1e-3"}, "arguments": ["--seed=1"]}]


@pytest.mark.parametrize("which", ["file", "folder", "dangling", "machine folder"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "secret.pbs").write_text("theirs\n")
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine/local.sh").write_text("theirs\n")
    repository = tmp_path / "repository"
    (repository / "ops").mkdir(parents=True)
    match which:
        case "file":
            (repository / "ops/train.pbs").symlink_to(tmp_path / "secret.pbs")
        case "dangling":
            (repository / "ops/train.pbs").symlink_to("/nowhere/at.pbs")
        case "machine folder":
            (repository / "ops/machine").symlink_to(tmp_path / "machine")
        case _:
            (repository / "ops").rmdir()
            (repository / "ops").symlink_to(tmp_path)
    if which == "machine folder":  # a linked folder is not gone into
        assert "theirs" not in render(JOB, "/w/log", templates_of(repository, "ops"))
        return
    with pytest.raises(Unrenderable, match="link that leads out"):
        templates_of(repository, "ops")


def test_every_template_of_the_package_is_rendered_here() -> None:
    assert {f"{Path(name).name}" for name in SCRIPTS} >= {"convert.pbs", "evaluate.pbs"}
    text = "".join(template.text for template in packaged().files.values())
    includes = {f"{name}.pbs" for name in ("header", "guard", "secrets", "launcher")}
    assert {name for name in packaged().files if "/" not in name} == includes | set(JOBS)
    assert all(f'{{% include "{name}" %}}' in text for name in includes)


# --- docs/templates.md


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart campaign on the machine that docs/templates.md adds, with the files that it shows, committed."""
    text = (ROOT / "docs/templates.md").read_text()
    shown = dict(re.findall(r"`(ops/[^`]+)`:\n\n```bash\n(.*?)```", text, re.DOTALL))
    assert set(shown) == {"ops/templates/machine/frontier.sh", "ops/templates/secrets.pbs"}
    for name, content in shown.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    shutil.copytree(ROOT / "manifests/quickstart", tmp_path / "manifests")
    cluster = tmp_path / "manifests/cluster.yaml"
    named = "machine: frontier\n    templates: ops/templates"
    cluster.write_text(cluster.read_text().replace("machine: local", named))
    monkeypatch.chdir(tmp_path)
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "quickstart on Frontier"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def told(command: click.Command, *arguments: str) -> str:
    return CliRunner().invoke(command, arguments).output


def test_the_example_of_the_documentation_works(repository: Path) -> None:
    assert "5 files" in told(validate)
    script = told(render_command, "quickstart/stage-1")
    assert "module load rocm || exit 72\n" in script
    assert f"export PYTHON_HOME={repository}/.local/quickstart/launcher/venv\n" in script
    assert "CPT_KEY | HF_TOKEN) ;;" in script
    assert "# Rendered by `reconcile` from the templates in ops/templates/ and its own;" in script
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_or_broken_template_is_told_at_the_manifest(repository: Path) -> None:
    template = repository / "ops/templates/machine/frontier.sh"
    template.write_text("# Frontier\nmodule load {{ nothing\n")
    for text in (told(validate), told(render_command, "quickstart/stage-1")):
        assert "manifests/cluster.yaml:16:16: M060 No usable template: ops/templates/machine/frontier.sh:2: " in text
        assert "Traceback" not in text
    template.unlink()
    assert "manifests/cluster.yaml:15:14: M060 No usable template: there is no template machine/frontier.sh" in told(
        validate
    )


def test_a_stranger_s_template_puts_nothing_on_the_terminal_but_text(repository: Path) -> None:
    (repository / "ops/templates/\x1b[2J.pbs").write_text("x\n")
    assert "\\x1b[2J.pbs would be used by nothing" in told(validate)
    (repository / "ops/templates/guard.pbs").write_text("{{ '\x1b[2J' \x1b }}\n")
    assert "\x1b" not in told(validate)


def test_a_template_that_fails_when_it_is_rendered_is_told_at_the_manifest(repository: Path) -> None:
    (repository / "ops/templates/guard.pbs").write_text("# no guard\n{{ nowhere | sh }}\n")
    for text in (told(validate), told(render_command, "quickstart/stage-1")):
        assert "cluster.yaml:16:16: M060 No usable template: ops/templates/guard.pbs:2: 'nowhere' is undefined" in text
        assert "Traceback" not in text


def test_a_template_that_is_not_committed_counts_as_loose(repository: Path) -> None:
    manifests = [repository / "manifests"]
    assert revision_of(manifests, ["ops/templates"]).loose == ()
    (repository / "ops/templates/guard.pbs").write_text("# none\n")
    assert revision_of(manifests, ["ops/templates"]).loose == ("ops/templates/guard.pbs",)
    assert "(with uncommitted changes)" in told(render_command, "quickstart/stage-1")


def test_a_plan_that_was_reviewed_with_other_templates_is_another_plan(tmp_path: Path) -> None:
    mine = after(1)
    site = replace(mine.desired.site, templates=own(tmp_path, secrets="# none\n"))
    assert mine.wanting(replace(mine.desired, site=site)).plan().digest != mine.plan().digest
