"""Texts of manifests → objects that were checked one by one and against each other, or all that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.domain import references
from reconciler.domain.catalog import Catalog, Object
from reconciler.model import source
from reconciler.model.problems import Problem, Severity, ordered
from reconciler.model.validation import manifest_of


@dataclass(frozen=True, slots=True)
class Loaded:
    """What reading manifests comes to."""

    catalog: Catalog
    """Every object that parsed. References hold only when `ok`."""
    problems: tuple[Problem, ...]
    texts: Mapping[str, str]
    """File → its text, for showing lines; a file that was not read is absent."""
    files: tuple[str, ...] = field(default=())
    """Names of all files, read or not."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong but warnings."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)


def load(files: Iterable[tuple[str, bytes]], found: Iterable[Problem] = ()) -> Loaded:
    """Read, validate and cross-check files, given as (name shown to people, content). Raises nothing on any content.

    `found` holds problems met before (files that could not be read); they are reported together.
    """
    problems = list(found)
    names: list[str] = []
    texts: dict[str, str] = {}
    objects: list[Object] = []
    unparsed: list[str] = []
    broken: set[str] = set()
    for name, content in files:
        names.append(name)
        read = source.read(name, content)
        problems += read.problems
        if read.text is not None:
            texts[name] = read.text
        if read.lost:
            unparsed.append(read.text or "")
        for document in read.documents:
            manifest, faults = manifest_of(document)
            problems += faults
            if manifest is not None:
                objects.append(Object(manifest, document))
            else:
                broken |= _names_in(document.data)
    catalog = Catalog(objects)
    problems += references.check(catalog, frozenset(broken | _words(unparsed)))
    return Loaded(catalog, ordered(problems), texts, tuple(names))


def _names_in(data: object) -> set[str]:
    """The name of an object that could not be read further, so that references to it are not called dangling."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return {name} if isinstance(name, str) else set()


def _words(texts: Iterable[str]) -> set[str]:
    """Every word of a text that is no YAML: one of them may be the name of an object that is in fact there."""
    return {word for text in texts for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", text[:1_000_000])}
