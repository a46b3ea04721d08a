"""`reconcile validate` and `reconcile schema` as a person meets them.

Most cases are files. `tests/cases/validate/alone/CASE` holds manifests and the `expected.txt` that validating that
folder prints; a case in `over-campaign` holds files that replace those of the valid campaign in `campaign`. To add a
case, add files; to write what is printed now into every `expected.txt`, run this module with SNAP_UPDATE=1 and
read the difference.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from reconciler.cli.problems import as_data, render
from reconciler.cli.validate import schema, validate
from reconciler.model.problems import CATALOGUE, Problem, Where

CASES = Path(__file__).parents[1] / "cases" / "validate"
ALONE = sorted(path.name for path in (CASES / "alone").iterdir())
OVER = sorted(path.name for path in (CASES / "over-campaign").iterdir())


def run(command: click.Command, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def expect(case: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = run(validate, ".")
    golden = case / "expected.txt"
    printed = f"{result.output}exit {result.exit_code}\n"
    if os.environ.get("SNAP_UPDATE") == "1":
        golden.write_text(printed, encoding="utf-8")
    assert printed == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALONE)
def test_file_case(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES / "alone" / name
    expect(case, case, monkeypatch)


@pytest.mark.parametrize("name", OVER)
def test_campaign_case(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES / "over-campaign" / name
    for folder in (CASES / "campaign", case):
        for file in folder.glob("*.yaml"):
            shutil.copy(file, tmp_path / file.name)
    expect(case, tmp_path, monkeypatch)


def test_every_code_of_the_catalogue_is_shown_by_some_case() -> None:
    """The ones left out need a file system in a certain state, or long files, and have tests of their own."""
    shown = "\n".join(path.read_text(encoding="utf-8") for path in CASES.rglob("expected.txt"))
    assert [code for code in CATALOGUE if code not in shown] == ["M001", "M002", "M003", "M019"]


def test_a_directory_without_manifests_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no manifest")
    (tmp_path / ".hidden.yaml").write_text("a: 1")
    result = run(validate, tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}: M003 No manifests here: no *.yaml or *.yml file" in result.output
    assert result.output.endswith("1 problem in 1 file\n")


def test_a_path_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    result = run(validate, tmp_path / "gone.yaml")
    assert result.exit_code == 1
    assert "M001 File cannot be read: no such file or directory" in result.output


def test_a_100_mb_file_is_refused_by_its_size_without_being_read(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    with big.open("wb") as stream:
        stream.truncate(100_000_000)
    (tmp_path / "small.yaml").write_text("kind: 1\n")
    start = time.perf_counter()
    result = run(validate, tmp_path)
    assert time.perf_counter() - start < 2
    assert "big.yaml: M002 File too large: 100.0 MB" in result.output
    assert "small.yaml:1:7: M021" in result.output, "the other files are still checked"
    assert result.exit_code == 1


def test_an_alias_bomb_is_refused_in_milliseconds() -> None:
    bomb = CASES / "alone" / "alias-bomb"
    run(validate, bomb)
    start = time.perf_counter()
    assert run(validate, bomb).exit_code == 1
    assert time.perf_counter() - start < 0.25


def test_links_that_lead_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("secret: 1\n")
    inside = tmp_path / "manifests"
    inside.mkdir()
    (inside / "link.yaml").symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path)
    (inside / "gone.yaml").symlink_to(inside / "nowhere.yaml")
    result = run(validate, inside)
    assert "link.yaml: M001 File cannot be read: a link that leads out of the directory" in result.output
    assert "gone.yaml: M001 File cannot be read: no such file or directory" in result.output
    assert "secret" not in result.output
    assert run(validate, inside / "link.yaml").output.startswith(f"{inside}/link.yaml:1:1: M018"), "named is meant"


def test_a_link_within_the_directory_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: 1\n")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "a.yaml")
    assert run(validate, tmp_path, tmp_path / "a.yaml").output.endswith("1 problem in 1 file\n")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert stat.S_ISFIFO((tmp_path / "pipe.yaml").stat().st_mode)
    result = run(validate, tmp_path)
    assert "pipe.yaml: M001 File cannot be read: neither a file nor a directory" in result.output


def test_without_a_path_the_folder_manifests_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CASES / "campaign", tmp_path / "manifests")
    result = run(validate)
    assert (result.exit_code, result.output) == (0, "9 manifests valid in 7 files\n")


def test_the_committed_campaigns_are_valid() -> None:
    result = run(validate, Path(__file__).parents[2] / "manifests")
    assert result.exit_code == 0, result.output
    assert re.search(r"^[0-9]+ manifests valid in [0-9]+ files(, [0-9]+ waived)?$", result.output, re.MULTILINE)


@pytest.mark.parametrize("campaign", ["quickstart", "auroragpt-v1", "agpt-7b"])
def test_each_committed_campaign_is_valid_by_itself(campaign: str) -> None:
    folder = Path(__file__).parents[2] / "manifests" / campaign
    assert run(validate, folder).exit_code == 0
    for file in folder.glob("*.yaml"):
        first = file.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=../../schemas/cpt-v1.json", "editors complete by this line"


def test_json_holds_everything_that_the_text_says(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: cpt/v1\nkind: Stag\nkind: Stage\n")
    result = run(validate, "--json", tmp_path)
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert (report["formatVersion"], report["valid"], report["files"], report["manifests"]) == (1, False, 1, 0)
    by_code = {problem["code"]: problem for problem in report["problems"]}
    assert by_code["M021"] == {
        "code": "M021",
        "severity": "error",
        "waived": None,
        "file": f"{tmp_path}/a.yaml",
        "line": 2,
        "column": 7,
        "path": "kind",
        "summary": "Unknown kind",
        "detail": '"Stag"',
        "found": 'text "Stag"',
        "expected": "Campaign, Cluster, Dataset, Model or Stage",
        "fix": "Did you mean Stage?",
        "related": [],
    }
    assert by_code["M012"]["related"] == [
        {"file": f"{tmp_path}/a.yaml", "line": 2, "column": 1, "what": "first set here"}
    ]


def test_wrong_usage_exits_2() -> None:
    assert run(validate, "--nonsense").exit_code == 2
    assert run(schema, "Job").exit_code == 2


def test_schema_prints_one_kind_or_all() -> None:
    assert json.loads(run(schema, "stage").output)["title"] == "Stage"
    assert json.loads(run(schema).output)["properties"]["kind"]["enum"] == [
        "Campaign",
        "Cluster",
        "Dataset",
        "Model",
        "Stage",
    ]


def test_schema_writes_every_file(tmp_path: Path) -> None:
    result = run(schema, "--write", tmp_path / "new")
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["campaign.json", "cluster.json", "cpt-v1.json", "dataset.json", "model.json", "stage.json"]
    assert result.exit_code == 0
    assert run(schema, "Stage", "--write", tmp_path).exit_code == 2


def test_schema_says_why_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(schema, "--write", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "cannot be written: Not a directory" in result.output


def test_colour_is_for_terminals_only() -> None:
    problem = Problem("M022", Where("a.yaml", 1, 1, ("x",)), '"x"')
    plain = render([problem], {"a.yaml": "x: 1"})
    painted = render([problem], {"a.yaml": "x: 1"}, colour=True)
    assert "\x1b" not in plain
    assert click.unstyle(painted) == plain and painted != plain


def test_what_a_file_holds_cannot_steer_the_terminal() -> None:
    """Names and lines come from the file; escape sequences in them must not reach the terminal."""
    where = Where("a\x1b[2J.yaml", 1, 1, ("\x1b[31m",))
    shown = render([Problem("M022", where, "x")], {"a\x1b[2J.yaml": "x: \x9b31m"})
    assert "\x1b" not in shown and "\x9b" not in shown
    assert as_data(Problem("M022", where, "x"))["line"] == 1


def test_validate_starts_without_what_it_does_not_need() -> None:
    """Start-up is most of the time of a small check."""
    program = (
        "import sys, reconciler.cli.validate;"
        "print(sorted({'torch', 'numpy', 'paramiko', 'git', 'rich', 'jinja2', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def campaign_in_a_repository(folder: Path, *replaced: tuple[str, str, str]) -> Path:
    """The valid campaign in a git working tree, with a text replaced in each file named."""
    (folder / ".git").mkdir()
    manifests = shutil.copytree(CASES / "campaign", folder / "manifests")
    for name, old, new in replaced:
        text = (manifests / name).read_text(encoding="utf-8")
        assert old in text
        (manifests / name).write_text(text.replace(old, new), encoding="utf-8")
    return manifests


@pytest.mark.parametrize(
    ("template", "line", "told"),
    [
        ("train.pbs", "{{ chekpoint | sh }}", "ops/train.pbs:2: 'chekpoint' is undefined"),
        ("train.pbs", "echo {{ machine }}", "ops/train.pbs:2: a template prints "),
        ("evaluate.pbs", "{{ launches[0].lgo | sh }}", "ops/evaluate.pbs:2: "),
        ("convert.pbs", "{{ toll | sh }}", "ops/convert.pbs:2: 'toll' is undefined"),
        ("machine/local.sh", "cd {{ checkout }}", "ops/machine/local.sh:2: a template prints "),
    ],
)
def test_a_template_that_no_job_could_be_made_from_is_told(tmp_path: Path, template: str, line: str, told: str) -> None:
    """Parsing shows neither a value that no job has nor one that is not quoted for the shell."""
    manifests = campaign_in_a_repository(tmp_path, ("cluster.yaml", "machine: local", "machine: local, templates: ops"))
    file = tmp_path / "ops" / template
    file.parent.mkdir(parents=True)
    file.write_text(f"# ours\n{line}\n", encoding="utf-8")
    result = run(validate, manifests)
    assert result.exit_code == 1
    assert f"M060 No usable template: {told}" in result.output


def test_templates_that_jobs_can_be_made_from_are_fine(tmp_path: Path) -> None:
    manifests = campaign_in_a_repository(tmp_path, ("cluster.yaml", "machine: local", "machine: local, templates: ops"))
    packaged = Path(__file__).parents[2] / "templates"
    shutil.copytree(packaged, tmp_path / "ops")
    assert run(validate, manifests).output == "9 manifests valid in 7 files\n"


def test_a_file_that_could_not_be_read_is_the_only_problem(tmp_path: Path) -> None:
    """What refers to what it may hold is not called dangling."""
    manifests = campaign_in_a_repository(tmp_path)
    with (manifests / "two.yaml").open("wb") as stream:
        stream.truncate(6_000_000)
    result = run(validate, manifests)
    assert "two.yaml: M002 File too large" in result.output
    assert result.output.endswith("1 problem in 1 file\n")
