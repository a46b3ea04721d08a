"""Texts of manifests → objects that were checked one by one and against each other, or all that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.domain import references, rules
from reconciler.domain.catalog import Catalog, Object
from reconciler.domain.references import Unread
from reconciler.model import source
from reconciler.model.fieldtypes import NAME_PATTERN
from reconciler.model.manifests import KINDS
from reconciler.model.problems import Problem, Severity, near, ordered
from reconciler.model.validation import manifest_of


@dataclass(frozen=True, slots=True)
class Loaded:
    """What reading manifests comes to."""

    catalog: Catalog
    """Every object that parsed, and what is left of those that did not. References hold only when `ok`."""
    problems: tuple[Problem, ...]
    texts: Mapping[str, str]
    """File → its text, for showing lines; a file that was not read is absent."""
    files: tuple[str, ...] = field(default=())
    """Names of all files, read or not."""

    @property
    def sound(self) -> int:
        """How many objects there are that nothing is wrong with by themselves."""
        return sum(not item.doubtful for item in self.catalog.objects)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong but warnings, notes and what is waived."""
        return not any(problem.refuses for problem in self.problems)


def load(files: Iterable[tuple[str, bytes]], found: Iterable[Problem] = ()) -> Loaded:
    """Read, validate and cross-check files, given as (name shown to people, content). Raises nothing on any content.

    `found` holds problems met before (files that could not be read); they are reported together.
    """
    problems = list(found)
    names: list[str] = []
    texts: dict[str, str] = {}
    objects: list[Object] = []
    # A file that could not be opened may have held anything.
    unread = [Unread(kinds=frozenset(KINDS)) for problem in problems if problem.severity is Severity.ERROR]
    for name, content in files:
        names.append(name)
        read = source.read(name, content)
        problems += read.problems
        if read.text is not None:
            texts[name] = read.text
        if read.lost:
            unread.append(_lost_in(read.text or ""))
        for document in read.documents:
            judged = manifest_of(document)
            problems += judged.problems
            if judged.manifest is not None:
                objects.append(Object(judged.manifest, document))
            elif judged.mended is not None:
                objects.append(Object(judged.mended.manifest, document, judged.mended.doubtful))
            else:
                unread.append(_unread(document.data))
    catalog = Catalog(objects)
    unread += [_unread(item.document.data) for item in objects if not catalog.is_named(item.manifest)]
    problems += references.check(catalog, Unread.all(unread))
    problems += _strayed(catalog, problems)
    return Loaded(catalog, ordered(problems), texts, tuple(names))


def _strayed(catalog: Catalog, problems: Iterable[Problem]) -> list[Problem]:
    """What the cookbook's rules find in each campaign that nothing else is wrong with."""
    wrong = [problem for problem in problems if problem.refuses]
    faulty = {where.file for problem in wrong for where in (problem.where, *(there for there, _ in problem.related))}
    found: list[Problem] = []
    for name in catalog.campaigns:
        if references.holds_together(catalog, name):
            objects = catalog.of_campaign(name)
            if not any(item.doubtful or item.file in faulty for item in objects):
                found += rules.findings(catalog, name)
    return found


def _unread(data: object) -> Unread:
    """What a faulty document may have been: the object of its name, or where it has none any object of its kind."""
    fields = data if isinstance(data, dict) else {}
    metadata, kind = fields.get("metadata"), fields.get("kind")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name):
        return Unread(names=frozenset({name}))
    meant = near(kind, KINDS) if isinstance(kind, str) else None
    return Unread(kinds=frozenset({meant} if meant else KINDS))


def _lost_in(text: str) -> Unread:
    """What a document that is no YAML may have been: its words may be names; where it shows none, anything."""
    kinds = re.findall(r"""^kind:[ \t]*["']?([A-Za-z]{1,20})""", text, re.MULTILINE)
    named = re.findall(r"\bname:[ \t]*\S", text)
    if not kinds or not KINDS.keys() >= set(kinds):
        return Unread(kinds=frozenset(KINDS))
    if len(named) < len(kinds):
        return Unread(kinds=frozenset(kinds))
    return Unread(names=frozenset(re.findall(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", text[:1_000_000])))
