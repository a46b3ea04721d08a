"""What is wrong with manifests, all of it at once, each with its place.

A problem's summary belongs to its code and names nothing of the reader's, so that it becomes familiar; `detail`,
`found`, `expected` and `fix` name theirs. Rendering is the command line's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Path = tuple[str | int, ...]
"""Keys and list indexes from the top of a document, as written: `("spec", "stages", 0)`."""


class Severity(StrEnum):
    """An error makes the manifests unusable; a warning does not, and a note only says what should be known."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue."""

    summary: str
    explanation: str
    severity: Severity = Severity.ERROR


CATALOGUE: Final[dict[str, Kind]] = {
    # --- files and text
    "M001": Kind("File cannot be read", "The file or directory named, or one found in it, could not be opened."),
    "M002": Kind("File too large", "Manifests are written by people; a file above 5 MB is refused before it is read."),
    "M003": Kind("No manifests here", "A directory was named in which no *.yaml or *.yml file lies, at any depth."),
    "M004": Kind("Not UTF-8", "Manifests are UTF-8 text, with or without a byte order mark."),
    "M005": Kind(
        "Control character", "YAML text may hold tab, line feed and carriage return, no other control character."
    ),
    "M006": Kind("Empty file", "The file holds no document: nothing, or only comments."),
    # --- YAML
    "M010": Kind("Not YAML", "The text does not follow YAML's syntax; nothing in this document could be checked."),
    "M011": Kind("Tab as indentation", "YAML is indented with spaces; a tab has no agreed width."),
    "M012": Kind("Duplicate key", "YAML lets the last of two equal keys win silently in many tools, so it is refused."),
    "M013": Kind(
        "Alias or merge key",
        "`*alias` and `<<` hide where a value comes from and can expand without bound; write the value out.",
    ),
    "M014": Kind("Tag", "Tags such as !!python/name or !!binary have no meaning in a manifest and are never followed."),
    "M015": Kind("Document too deep or too large", "More nesting or more values than any manifest has."),
    "M016": Kind("Key is not text", "Keys of a manifest are plain names; quote one that looks like a number."),
    "M017": Kind(
        "Number that tools read differently", "Not-a-number, infinity, a leading zero, or absurdly many digits."
    ),
    "M018": Kind("Not a manifest", "A document is a mapping with apiVersion, kind, metadata and spec."),
    "M019": Kind("More problems", "So much is wrong in one document that the rest is not listed.", Severity.WARNING),
    # --- shape and values of one document
    "M020": Kind("Other apiVersion", "The document is written for another version of these manifests."),
    "M021": Kind("Unknown kind", "The kinds are Campaign, Cluster, Dataset, Model and Stage."),
    "M022": Kind("Unknown field", "Unknown fields are refused, since a misspelt one would otherwise be ignored."),
    "M023": Kind("Missing field", "A field without a default is absent."),
    "M024": Kind("Wrong type", "For example text where a number is expected."),
    "M025": Kind("Not one of the allowed values", "The field takes one of a few fixed words."),
    "M026": Kind("Not readable", "The text does not have the form that the field takes."),
    "M027": Kind("Out of bounds", "The value is below the least or above the greatest that makes sense."),
    "M028": Kind("Values disagree", "Two values of one object cannot hold together."),
    # --- between documents
    "M040": Kind(
        "Two objects of one name", "A name stands for one object of a kind; a stage's name within its campaign."
    ),
    "M041": Kind("No such object", "A reference names an object that no manifest defines."),
    "M042": Kind(
        "Campaign and stage disagree", "A campaign lists its stages in order, and each stage names its campaign."
    ),
    "M043": Kind("Source is not an earlier stage", "A stage continues from a checkpoint of a stage before it."),
    "M044": Kind(
        "Unknown term in a mixture",
        "A mixture is over the campaign's dataset symbols (D0, D1, …), the names of earlier stages, and `buffer`.",
    ),
    "M045": Kind(
        "Data not yet introduced", "A mixture may use the data of its own and earlier stages, not of later ones."
    ),
    "M046": Kind(
        "Buffer is empty",
        "The buffer holds data of earlier stages after D0; data joins it after its stage (cookbook, data centric "
        "strategy).",
    ),
    "M047": Kind(
        "Weights do not sum to 1", "Weights are exact and are never renormalised, so they must sum to exactly 1."
    ),
    "M048": Kind("Legs do not fill the stage", "The tokens of a strategy's legs must make up the stage's tokens."),
    "M049": Kind(
        "No data list on this cluster", "Every dataset and validation set of a campaign needs a list on its cluster."
    ),
    "M050": Kind(
        "Other tokenizer", "All data of a campaign must be tokenised as its model expects; the trainer checks nothing."
    ),
    "M051": Kind("Two parts of one name", "Names within an object must differ: strategies, stages, validation sets."),
    "M052": Kind("One symbol for two datasets", "A symbol such as D1 stands for one dataset within a campaign."),
    "M053": Kind(
        "Undeclared rewarm",
        "An infinite schedule never raises the learning rate again; where that is wanted, say `rewarm: true` "
        "(cookbook, AuroraGPT V1).",
    ),
    "M054": Kind("Walltime above the queue's", "The scheduler refuses such a job."),
    "M056": Kind(
        "Learning rate jumps", "A leg begins at the rate where what it continues from ended, unless it rewarms."
    ),
    "M057": Kind("Later stage starts from random", "Only the first stage may start from random weights."),
    "M058": Kind("Decay that rises", "`to` of a cooldown or cosine must not be above `at`."),
    "M059": Kind(
        "Batch does not divide",
        "The global batch is split over the data-parallel ranks into micro batches; the launcher refuses a remainder.",
    ),
    "M060": Kind(
        "No usable template",
        "Job scripts are made from templates: those of the package, and those in the cluster's `launcher.templates`.",
    ),
    "M061": Kind(
        "Unusually high learning rate",
        "Above 0.1 AdamW leaves any known minimum of a language model within a few steps.",
        Severity.WARNING,
    ),
    "M062": Kind("Less than one step", "Training advances in steps of global batch × sequence length tokens."),
    "M063": Kind(
        "Not as the launcher has it",
        "The launcher knows architectures by name. Some have a sequence length, depth and width that it sets itself.",
    ),
    "M064": Kind(
        "Variable that nothing reads",
        "Neither the launcher nor the trainer looks at it, so the setting that its name suggests is not made.",
        Severity.WARNING,
    ),
    "M065": Kind(
        "No time to train",
        "The cluster's `startup` is taken off a job's walltime twice: before the first iteration, for the last save.",
    ),
    "M066": Kind(
        "Never in the buffer",
        "The buffer holds datasets of earlier stages after D0; a weight or selection of another is read by nothing.",
    ),
    "M067": Kind(
        "Buffer without weights",
        "With `composition: declared` every dataset that joins the buffer has a relative weight, and one that is drawn "
        "from has one above 0.",
    ),
    "M070": Kind(
        "Condition that never holds",
        "A rung with `if: forgetting`, `no-recovery` or `divergence` is tried after a rung before it failed that gate, "
        "so there must be one, and the gate must be on; `if: {stage, used}` asks about an earlier stage.",
    ),
    "M071": Kind(
        "Trial that cannot be carried out",
        "A trial varies the mixture of the last leg, the end of the last decay (`divisor`) or the rate of the last "
        "rewarm (`rate`), in at most 12 variants, each with fewer tokens than the stage.",
    ),
    "M072": Kind(
        "Policy contradicts itself",
        "A policy has the fields that its shape reads: `constant` has no `to`, `until`, `over` or `decay`, `continue` "
        "only `until`, `cosine` no `decay`. A leg ends by its `tokens` or by its rate (`until`), not by both.",
    ),
    "M073": Kind(
        "Decay that nothing continues",
        "`until` ends a leg in the middle of its decay, where the data is switched; the next leg goes on along the "
        "same decay with `{shape: continue}` (cookbook, Strategy 4).",
    ),
    "M074": Kind(
        "Nothing to continue",
        "`continue` goes on along the decay of the leg before it, or as a first leg along that of the stage's source: "
        "a `final` checkpoint of a stage whose last decay takes longer (`over`) than the stage.",
    ),
    "M075": Kind(
        "Rate of the source is not known",
        "`lrSource` is the rate at which the source checkpoint stands; an outside one has to say its `rate`.",
    ),
    "M076": Kind(
        "Rate outside the decay", "`until` lies below the rate at which its leg begins and above the decay's `to`."
    ),
    "M077": Kind(
        "Exponential that never arrives",
        "An exponential falls by the same factor over every step, so it has a `to` above 0 and below `at`.",
    ),
    "M078": Kind(
        "Legs and decay do not fit",
        "The legs of a decay take its tokens: `over`, or the stage's less those of its other legs.",
    ),
}


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file; line and column count from 1, 0 where a file has none."""

    file: str
    line: int = 0
    column: int = 0
    path: Path = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault, said so that it can be mended without opening the documentation."""

    code: str
    where: Where
    detail: str
    """What is wrong with what, in a phrase."""
    found: str | None = None
    expected: str | None = None
    fix: str | None = None
    """What to write or do instead."""
    related: tuple[tuple[Where, str], ...] = ()
    """Other places that matter, each with what is there."""
    rule: Kind | None = None
    """What a code of the cookbook's rules (`reconciler.domain.rules`) stands for; the catalogue has all others."""
    waived: str | None = None
    """Why a person let it stand; it is shown and stops nothing."""

    @property
    def kind(self) -> Kind:
        """What the code stands for."""
        return self.rule or CATALOGUE[self.code]

    @property
    def summary(self) -> str:
        """The code's fixed words."""
        return self.kind.summary

    @property
    def severity(self) -> Severity:
        """The code's severity, waived or not."""
        return self.kind.severity

    @property
    def refuses(self) -> bool:
        """Whether the manifests cannot be used because of it."""
        return self.severity is Severity.ERROR and self.waived is None


def ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By file, line and column; equal ones once."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda p: (p.where.file, p.where.line, p.where.column, p.code, p.detail)))


def path_text(path: Path) -> str:
    """`("spec", "legs", 0, "lr")` → `spec.legs[0].lr`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{clip(part, 60)}" for part in path)
    return "".join(parts).removeprefix(".")


def harmless(text: str) -> str:
    """Text that a terminal only shows: whatever it would obey, or that would turn a line around, is a replacement
    character. Job comments, logs and error messages of a cluster hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def clip(text: str, width_max: int = 80) -> str:
    """Someone else's text, made safe and short enough to print in one line."""
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: width_max + 1])
    return safe if len(text) <= width_max else safe[: width_max - 1] + "…"


def _folded(word: str) -> str:
    return re.sub(r"[-_. ]", "", word).lower()


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word most likely meant: equal but for case and separators, else close in spelling; None if neither."""
    if not word or len(word) > 100:
        return None
    words = list(known)
    folded = {_folded(candidate): candidate for candidate in reversed(words)}
    if _folded(word) in folded:
        return folded[_folded(word)]
    close = difflib.get_close_matches(_folded(word), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`, at most a dozen."""
    listed = list(words)
    if len(listed) > 12:
        return ", ".join(listed[:12]) + f" or {len(listed) - 12} more"
    return " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
