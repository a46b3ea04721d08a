"""Whether what is on record can be made again from the manifests: the recipe's digest, the scripts byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff

from reconciler import loop
from reconciler.cli.onrecord import OnRecord
from reconciler.convert.layout import program_text
from reconciler.domain import loading
from reconciler.model.problems import clip
from reconciler.model.recipe import Recipe
from reconciler.model.templates import Template, Templates, Unrenderable
from reconciler.planner import facts
from reconciler.planner.desired import Desired, Site
from reconciler.planner.jobs import Workshop
from reconciler.planner.recalled import Done, Origin, Recalled
from reconciler.planner.reproduced import candidates, reproduced
from reconciler.record.commits import NoSuchRevision, files_at, is_shallow, resolved
from reconciler.record.git import Git, GitFailed
from reconciler.record.reading import NoRecord


@dataclass(frozen=True, slots=True)
class Script:
    """One job's script on record, and whether the manifests come to it."""

    job: str
    digest: str
    """SHA-256; empty where it is not on record."""
    same: bool
    told: str
    """From where it goes on, or how the script that is made now differs."""


@dataclass(frozen=True, slots=True)
class Again:
    """What the manifests of one commit come to."""

    commit: str
    manifests: str
    """How those on record stand to the commit."""
    recipe: str
    """Empty if they come to the recipe; else why not."""
    scripts: tuple[Script, ...]

    @property
    def same(self) -> bool:
        """All of it, byte for byte."""
        return not self.recipe and all(script.same for script in self.scripts)


def again(record: OnRecord, recalled: Recalled, recipe: Recipe) -> tuple[Again, ...]:
    """Make an attempt's recipe and scripts again, from the manifests of each commit that its jobs were submitted at."""
    jobs = [done for done in recalled.of(recipe.attempt) if done.key.kind.submits and done.receipt.job_id]
    groups: dict[tuple[str, bool, str, str], list[Done]] = {}
    for done in jobs:
        if done.origin is not None:
            key = (done.origin.commit, done.origin.dirty, done.origin.manifests, done.origin.templates)
            groups.setdefault(key, []).append(done)
    found = [_again(record, recalled, recipe, of) for of in groups.values()]
    return tuple(found)


def _again(record: OnRecord, recalled: Recalled, recipe: Recipe, jobs: Sequence[Done]) -> Again:
    origin = jobs[0].origin
    assert origin is not None  # noqa: S101  # as they were grouped
    try:
        texts = record.reading.folder(facts.MANIFESTS, origin.manifests)
        told = _against_git(record, origin, texts)
        desired = _desired(record, recalled, origin, texts)
        if isinstance(desired, str):
            return Again(origin.commit, told, desired, ())
        made = reproduced(
            desired, recalled.observed(record.reading.lists(origin), origin.folders), recipe, recalled.recipes
        )
        if isinstance(made, str):
            return Again(origin.commit, told, made, ())
        return Again(origin.commit, told, "", tuple(_scripts(record, recalled, desired, made, jobs)))
    except NoRecord as missing:
        return Again(origin.commit, "", str(missing), ())


def _desired(record: OnRecord, recalled: Recalled, origin: Origin, texts: Mapping[str, bytes]) -> Desired | str:
    """What was wanted when the job was submitted, with the templates of then."""
    if not texts:
        return "its manifests are not on record"
    loaded = loading.load(sorted(texts.items()))
    if not loaded.ok or recalled.campaign not in loaded.catalog.campaigns:
        first = next((problem for problem in loaded.problems if problem.refuses), None)
        return "its manifests cannot be read by this version" + (f": {first.code} {first.detail}" if first else "")
    launcher = loaded.catalog.cluster_of(recalled.campaign).spec.launcher
    kept = record.reading.folder(facts.TEMPLATES, origin.templates)
    templates = Templates(
        {name: Template(text.decode("utf-8", "replace"), name) for name, text in kept.items()}, launcher.templates or ""
    )
    site = Site(origin.site.workspace, origin.site.root, origin.site.checkout, program_text(), templates)
    return Desired(loaded.catalog, recalled.campaign, origin.commit, origin.dirty, site)


def _against_git(record: OnRecord, origin: Origin, texts: Mapping[str, bytes]) -> str:
    """How the manifests on record stand to the commit that they are said to be of."""
    git = Git(record.root)
    if origin.dirty or not origin.commit:
        return "applied with changes that no commit holds; they are on record"
    try:
        there = dict(files_at(git, resolved(git, origin.commit), texts, ("",)))
    except (NoSuchRevision, GitFailed):
        why = "a shallow clone" if is_shallow(git) else "rewritten, or never pushed"
        return f"this clone does not have commit {origin.commit[:9]} ({why}); its manifests are on record"
    other = [path for path, text in texts.items() if there.get(path) != text]
    return f"commit {origin.commit[:9]} has others: {', '.join(other[:3])}" if other else ""


def _scripts(
    record: OnRecord, recalled: Recalled, desired: Desired, made: Workshop, jobs: Sequence[Done]
) -> Iterator[Script]:
    there = record.reading.texts([done.script for done in jobs if done.script])
    for done in jobs:
        name = facts.action_folder(done.key).rsplit("/", 1)[1]
        text = there.get(done.script)
        if text is None:
            yield Script(name, "", False, "its script is not on record")
            continue
        legs = next((seen.legs for seen in recalled.attempts if seen.attempt == done.key.attempt), ())
        saved = {c.iteration for leg in legs if leg.index == done.key.leg for c in leg.checkpoints}
        saved |= {at for leg in legs if leg.index == done.key.leg for log in leg.logs for at in log.saved}
        yield _script(name, text, done, desired, made, sorted(saved))


def _script(name: str, text: bytes, done: Done, desired: Desired, made: Workshop, saved: Sequence[int]) -> Script:
    digest = facts.sha256(text)
    closest = ""
    for origin, action in candidates(made, done.key, saved):
        try:
            (now,) = loop.scripts(desired, (action,)).values()
        except Unrenderable as problem:
            return Script(name, digest, False, f"its templates cannot be rendered now: {problem}")
        if now.encode() == text:
            return Script(name, digest, True, f"from {origin}")
        closest = closest or _differs(text.decode("utf-8", "replace"), now)
    return Script(name, digest, False, closest or "this version makes no such job")


def _differs(then: str, now: str) -> str:
    """The first line that differs."""
    lines = [line for line in unified_diff(then.splitlines(), now.splitlines(), n=0, lineterm="")][3:5]
    return "now: " + clip(" / ".join(lines), 200)
