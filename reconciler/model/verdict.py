"""A verdict: each gate's answer with every number it used. Written once, beside the checkpoints that it judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

VERDICT_CHARS_MAX: Final = 1024 * 1024
GATES_MAX: Final = 64
NUMBERS_MAX: Final = 4096

Line = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Told to people, on a terminal."""


class Level(StrEnum):
    """A gate's answer."""

    PASS = "pass"  # noqa: S105  # an answer, not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer."""

    gate: Line
    level: Level
    message: Line
    numbers: Annotated[Mapping[Line, float], Field(max_length=NUMBERS_MAX)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates of one attempt."""

    stage: Line
    attempt: Line
    strategy: Line
    iteration: Annotated[int, Field(ge=0, le=10**12)]
    gates: Annotated[tuple[GateResult, ...], Field(max_length=GATES_MAX)]

    @property
    def passed(self) -> bool:
        """No gate failed; warnings pass."""
        return all(gate.level is not Level.FAIL for gate in self.gates)

    @property
    def message(self) -> str:
        """The failures, or else the warnings, or else what every gate measured, in one line."""
        for level, says in (Level.FAIL, ""), (Level.WARN, "warning: "), (Level.PASS, ""):
            found = [gate for gate in self.gates if gate.level is level]
            if found:
                measured = [gate for gate in found if gate.numbers]
                return says + "; ".join(gate.message for gate in measured or found)
        return "no gate is on"

    def to_file(self) -> str:
        """The text of the verdict file."""
        return json.dumps({"passed": self.passed, **asdict(self)}, sort_keys=True, indent=2) + "\n"


_READER: Final = TypeAdapter(Verdict)


def read_verdict(text: str) -> Verdict | None:
    """Read a verdict file back; None for anything that is not one. `passed` is derived, whatever the file says."""
    if len(text) > VERDICT_CHARS_MAX:
        return None
    try:
        return _READER.validate_json(text, strict=True)
    except ValidationError:
        return None
