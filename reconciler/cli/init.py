"""`reconcile init`: manifests for a person's own model, data lists and cluster, valid at once."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

import click

from reconciler.cli import questions
from reconciler.cli.newfiles import must_be_free, unwrite, write_new
from reconciler.cli.problems import render as render_problems
from reconciler.cli.questions import Interview
from reconciler.cli.scripts import with_scripts_checked
from reconciler.cli.telling import fail
from reconciler.domain import loading
from reconciler.domain.loading import Loaded
from reconciler.model import schema as schemas
from reconciler.model.faults import Fault
from reconciler.model.fieldtypes import NAME_PATTERN, PATH_PATTERN
from reconciler.model.problems import Problem, Severity, harmless, one_of
from reconciler.model.quantities import counted
from reconciler.record import files
from reconciler.record.repository import working_tree_of
from reconciler.scaffold.answers import Answers, Checkpoint, Data
from reconciler.scaffold.campaign import manifests
from reconciler.scaffold.known import CLUSTERS, MODELS, TINY, KnownCluster, KnownModel

LOCAL_DATA: Final = ("prose=data/D0.txt:1.2M", "docs=data/D1.txt:0.6M")
"""Two of the datasets that `reconcile local` makes."""
NODE_HOURS: Final = 1000
ELSEWHERE: Final = "Name another folder: reconcile init DIR"


@dataclass(frozen=True, slots=True)
class Given:
    """The options as they were written; None or empty is to be asked, or has a default."""

    model: str | None
    cluster: str | None
    host: str | None
    account: str | None
    queue: str | None
    workspace: str | None
    checkout: str | None
    data: tuple[str, ...]
    validation: str | None
    checkpoint: str | None
    form: str
    nodes: int | None
    ranks: int | None
    lr_max: float | None
    node_hours: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the manifests go, and what lies there already."""

    folder: Path
    root: Path
    """Of the repository, or what would be one."""
    in_git: bool
    checked: tuple[Path, ...]
    """What `reconcile validate` reads to see the new manifests."""
    there: Loaded

    @property
    def real(self) -> Path:
        """The folder without links on the way, so that `..` leads where it seems to."""
        return Path(os.path.realpath(self.folder))

    @property
    def schema(self) -> Path:
        """The JSON Schema that editors are pointed to."""
        return self.root / "schemas" / schemas.COMBINED


@click.command(short_help="Write the manifests of a campaign of your own.")
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", metavar="|".join(MODELS), help="Sizes and tokenizer to begin from.")
@click.option("--cluster", metavar="|".join(CLUSTERS), help="Where it trains.  [default: local]")
@click.option("--account", metavar="PROJECT", help="Project that is charged there.")
@click.option("--workspace", metavar="PATH", help="Folder there for all that is made.")
@click.option("--data", multiple=True, metavar="NAME=PATH:TOKENS", help="A data list there; the oldest first.")
@click.option("--checkpoint", metavar="PATH", help="Folder of a checkpoint to go on from.  [default: random weights]")
@click.option("--checkpoint-format", "form", type=click.Choice(["universal", "zero"]), default="universal")
@click.option("--host", help="Host in your ssh configuration; none where this machine is a login node.")
@click.option("--queue", help="Queue of its PBS.")
@click.option("--checkout", metavar="PATH", help="Megatron-DeepSpeed there.")
@click.option("--validation", metavar="PATH", help="Folder there with the validation sets' lists.")
@click.option("--nodes", type=click.IntRange(1, 10**6), help="Nodes of a job.")
@click.option("--ranks", type=click.IntRange(1, 1000), help="GPUs or tiles of a node.")
@click.option("--lr-max", type=click.FloatRange(0, 1, min_open=True), help="Learning rate of the plateau.")
@click.option("--node-hours", type=click.IntRange(1, 10**9), help="What may be spent.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: take the defaults.")
def init(folder: Path | None, yes: bool, **options: object) -> int:
    """Write manifests for your own model, data lists and cluster: a campaign that is valid at once.

    DIR is made for them, and its last part is the campaign's name; without one it is manifests/ and the name of this
    folder. What is not given as an option is asked; without a terminal, or with --yes, defaults are taken, and options
    without one are named. The first data list is what the model was pretrained on, or will be; each other one gets a
    stage. The manifests say in comments what each field is and may be. No file is ever written over.

    \b
    Nothing of your own yet, on this machine:
        reconcile init --yes
    A checkpoint and two data lists on Polaris:
        reconcile init manifests/papers --cluster polaris --model llama-2-7b --account MyProject \\
            --checkpoint /eagle/MyProject/llama-2-7b-universal \\
            --data web=/eagle/MyProject/lists/web.txt:1T --data papers=/eagle/MyProject/lists/papers.txt:22B

    Exit status: 0 when written and valid, 1 when not (nothing is left behind), 2 when an option is missing or wrong.
    """
    given = Given(**options)  # type: ignore[arg-type]  # click calls with these names
    place = _place(folder)
    must_be_free(place.folder, FILES, ELSEWHERE)
    interview = Interview(asks=not yes and sys.stdin.isatty() and sys.stderr.isatty())
    answers = _answers(given, place, interview)
    schema = os.path.relpath(place.schema, place.real)
    texts = manifests(answers, schema)
    if not os.path.lexists(place.schema):
        texts[schema] = schemas.files()[schemas.COMBINED]
    made = write_new(place.folder, texts, ELSEWHERE)
    try:
        problems, loaded = _problems_of(made, place)
    except BaseException:
        unwrite(made)
        raise
    if any(problem.refuses for problem in problems):
        unwrite(made)
        click.echo(render_problems(problems, loaded.texts, colour=sys.stderr.isatty()) + "\n", err=True)
        fail(Fault.MANIFESTS_FAULTY, "these answers do not make a valid campaign; nothing was written")
    if problems:
        click.echo(render_problems(problems, loaded.texts, colour=sys.stderr.isatty()) + "\n", err=True)
    click.echo(_summary(answers, place, made, problems, said=given.cluster is not None or interview.asks))
    return 0


FILES: Final = ("model.yaml", "cluster.yaml", "datasets.yaml", "campaign.yaml", "stages.yaml")


# --- where


def _place(given: Path | None) -> Place:
    nearest = files.given_or_nearest(())[0]
    slug = re.sub(r"[^a-z0-9.]+", "-", Path.cwd().name.lower()).strip("-.")[:40].strip("-.")
    folder = given or nearest / (slug or "campaign")
    name = folder.name or Path(os.path.realpath(folder)).name
    if re.fullmatch(NAME_PATTERN, name) is None:
        fail(
            Fault.NOT_WRITTEN,
            f"{name!r} cannot be a campaign's name",
            "Name the folder with small letters, digits, - and dots.",
        )
    real = Path(os.path.realpath(folder))
    tree = working_tree_of(real)
    root = tree or (real.parent.parent if real.parent.name == files.DEFAULT else real)
    within = real.is_relative_to(os.path.realpath(nearest))
    contents, problems = files.read([nearest]) if within and nearest.is_dir() else ([], [])
    there = loading.load(contents, [problem for problem in problems if problem.code != "M003"])
    if name in there.catalog.campaigns:
        fail(
            Fault.NOT_WRITTEN, f"there is a campaign {name} already", f"Name another folder: reconcile init {folder}-2"
        )
    return Place(folder, root, tree is not None, (nearest if within else folder,), there)


# --- what


def _answers(given: Given, place: Place, interview: Interview) -> Answers:
    campaign = place.real.name
    cluster = _cluster(given, interview)
    local = cluster.machine == "local"
    if local and re.search(r"\s", str(place.root)):
        fail(
            Fault.NO_LOCAL_CLUSTER,
            f"{place.root} has a blank in its path, which the launcher reads as two words",
            "Move the repository.",
        )
    model = _model(given, interview, local=local)
    host, account = _way(given, interview, cluster)
    of_path = questions.path if local else questions.absolute
    folder = cluster.folder.format(account=account)
    default = "workspace" if local else f"{folder}/cpt/{campaign}" if folder else None
    workspace = interview.put(given.workspace, "--workspace", "Folder there for all that is made", of_path, default)
    checkpoint = interview.put(
        given.checkpoint, "--checkpoint", "Checkpoint to go on from (empty: random weights)",
        (lambda text: of_path(text) if text.strip() else ""), "",
    )  # fmt: skip
    data = _data(given, interview, of_path, at_least=2 if checkpoint else 1, local=local)
    interview.require()
    if workspace is None:  # pragma: no cover - `require` has stopped
        raise AssertionError
    above = folder or workspace.rpartition("/")[0]
    checkout = given.checkout or ("launcher" if local else f"{above}/Megatron-DeepSpeed")
    validation = given.validation or ("data" if local else f"{workspace}/validation")
    taken = frozenset({*place.there.catalog.models, *place.there.catalog.dataset_names, *place.there.catalog.clusters})
    name = cluster.name if cluster.machine else re.sub(r"[^a-z0-9.-]+", "-", host.lower()).strip("-.")[:40] or "own"
    answers = Answers(
        campaign=campaign,
        model=model,
        cluster=cluster,
        cluster_name=f"{campaign[:20]}-{name}" if name in taken else name,
        data=data,
        checkpoint=Checkpoint(checkpoint, cast(Literal["zero", "universal"], given.form)) if checkpoint else None,
        host=host,
        account=account,
        queue=given.queue or cluster.queue,
        filesystems=cluster.filesystems,
        workspace=workspace,
        checkout=questions.given(checkout, "--checkout", of_path),
        validation=questions.given(validation, "--validation", of_path),
        ranks=given.ranks or cluster.ranks,
        nodes=given.nodes or cluster.nodes,
        rate=given.lr_max or model.rate,
        node_hours=given.node_hours or (5 if local else NODE_HOURS),
        templates="" if cluster.machine else _templates(place),
        taken=taken,
    )
    questions.given(answers.queue, "--queue", questions.word)
    return answers


def _cluster(given: Given, interview: Interview) -> KnownCluster:
    told = "".join(f"\n  {cluster.name:12}{cluster.what}" for cluster in CLUSTERS.values())
    read = questions.choice(CLUSTERS)
    return CLUSTERS[
        interview.put(given.cluster, "--cluster", f"Where does it train?{told}\nCluster", read, "local") or ""
    ]


def _model(given: Given, interview: Interview, *, local: bool) -> KnownModel:
    """The embedded cluster's trainer is for the smallest model, and that one is for nothing else."""
    known = {TINY.name: TINY} if local else {name: model for name, model in MODELS.items() if model is not TINY}
    told = "".join(f"\n  {model.name:12}{model.what}" for model in known.values())
    read = questions.choice(known)
    question = f"Which model? Sizes of your own are written into model.yaml afterwards.{told}\nModel"
    default = TINY.name if local else None
    if local and given.model is None:
        return TINY
    return known[interview.put(given.model, "--model", question, read, default) or next(iter(known))]


def _way(given: Given, interview: Interview, cluster: KnownCluster) -> tuple[str, str]:
    """(host, account)."""
    if cluster.machine == "local":
        return "", ""
    if cluster.machine:
        host = questions.given(given.host or cluster.host, "--host", questions.word)
        return host, interview.put(given.account, "--account", "Project that is charged", questions.word) or ""
    asked = "Its login node, a Host of your ssh configuration (empty: this machine is one)"
    host = interview.put(given.host, "--host", asked, questions.word_or_none, "") or ""
    asked = "Project that is charged (empty: none)"
    return host, interview.put(given.account, "--account", asked, questions.word_or_none, "") or ""


def _data(
    given: Given, interview: Interview, of_path: questions.Reader, *, at_least: int, local: bool
) -> tuple[Data, ...]:
    read = questions.data(of_path)
    written = given.data or (LOCAL_DATA if local and not interview.asks else ())
    found = [interview.put(text, "--data", "", read) for text in written]
    data = [each for each in found if each is not None]
    asked = "Data list of what it was pretrained on" if at_least > 1 else "Data list to begin with"
    while interview.asks and not given.data:
        if len(data) >= at_least:
            more = f"The next one (empty: no more), {questions.DATA_FORM}"
            text = click.prompt(more, default="", show_default=False, value_proc=_or_none(read), err=True)
            if text is None:
                break
            data.append(text)
        else:
            default = LOCAL_DATA[len(data)] if local and len(data) < len(LOCAL_DATA) else None
            question = asked if not data else "Data list of the new data"
            each = interview.put(None, "--data", f"{question}, {questions.DATA_FORM}", read, default)
            data += [each] if each is not None else []
    if not data:
        interview.put(None, "--data", "", read)
    elif len(data) < at_least:
        raise click.UsageError(
            "a second --data is missing: the first is what the checkpoint was trained on, the next what is new."
        )
    names = [each.name for each in data]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise click.UsageError(f"two --data are called {twice}; write another NAME=")
    return tuple(data)


def _or_none(read: questions.DataReader) -> questions.DataOrNone:
    return lambda text: read(text) if text.strip() else None


def _templates(place: Place) -> str:
    """Where a machine template is looked for, from the repository's root."""
    if not place.in_git:
        fail(
            Fault.NO_REPOSITORY,
            f"{place.folder} is in no git repository, where a cluster of your own has its job templates",
            "git init",
        )
    found = os.path.relpath(place.real / "templates", place.root)
    if re.fullmatch(PATH_PATTERN, found) is None:
        fail(Fault.NOT_WRITTEN, f"{harmless(found)!r} has characters that no manifest takes in a path", ELSEWHERE)
    return found


# --- checked and told


def _problems_of(made: Sequence[Path], place: Place) -> tuple[list[Problem], Loaded]:
    """What `reconcile validate` says of the new manifests."""
    loaded = with_scripts_checked(files.load(place.checked), place.checked)
    ours = {os.path.realpath(file) for file in made}
    mine = [p for p in loaded.problems if os.path.realpath(p.where.file) in ours and p.waived is None]
    return mine, loaded


def _summary(answers: Answers, place: Place, made: Sequence[Path], problems: Sequence[Problem], *, said: bool) -> str:
    """What was written and what comes next; `said`: somebody has said where it trains."""
    warnings = sum(problem.severity is not Severity.NOTE for problem in problems)
    checked = f"valid, with {counted(warnings, 'warning')}" if warnings else "valid"
    lines = [f"{counted(len(made), 'file')} for campaign {answers.campaign}, {checked}:"]
    lines += [f"    {os.path.relpath(file)}" for file in made]
    lines += ["", *_to_do(answers, said=said), "Read them, then:", ""]
    named = " ".join(shlex.quote(os.path.relpath(path)) for path in _roots(place, made))
    begin = "" if place.in_git else "git init && "
    where = "" if place.checked[0] != place.folder else f" -f {shlex.quote(str(place.folder))}"
    campaign = answers.campaign
    ready = f"local {campaign}" if answers.cluster.machine == "local" else f"doctor {answers.cluster_name}"
    lines += [
        f"    {begin}git add {named} && git commit -m 'Begin {campaign}'",
        f"    reconcile {ready}{where}",
        f"    reconcile plan {campaign}{where}",
        "",
    ]
    return "\n".join(lines)


def _roots(place: Place, made: Sequence[Path]) -> list[Path]:
    outside = [file for file in made if not Path(os.path.realpath(file)).is_relative_to(place.real)]
    return [place.folder, *outside]


def _to_do(answers: Answers, *, said: bool) -> list[str]:
    """What no program can know."""
    if answers.cluster.machine == "local":
        others = one_of([name for name in CLUSTERS if name != "local"])
        return [] if said else [f"It trains on this machine; --cluster names another: {others}.", ""]
    told = [
        "To be made on the cluster, of documents held out of each dataset:",
        *(f"    {p}" for p in answers.held_out),
    ]
    if answers.templates:
        told += ["To be written, for the modules and the Python of a job:"]
        told += [f"    {answers.templates}/machine/{answers.cluster_name}.sh"]
    return [*told, ""]
