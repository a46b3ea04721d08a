"""The texts that job scripts are made from: those of the package, and those that a repository puts in their place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


class Unrenderable(ValueError):
    """No script can be made: a template is broken or missing, or a value must not get into a script."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix
        """What to write or do instead, where that is known."""


@dataclass(frozen=True, slots=True)
class Template:
    """One file."""

    text: str
    file: str
    """Its path, for people."""


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """All of them by name, such as `train.pbs` and `machine/aurora.sh`; none at all stands for the packaged ones."""

    files: Mapping[str, Template] = field(default_factory=dict)
    folder: str = ""
    """Folder of the repository whose files go first; empty if there is none."""

    @property
    def machines(self) -> tuple[str, ...]:
        """What `launcher.machine` may be."""
        names = (name for name in self.files if name.startswith("machine/") and name.endswith(".sh"))
        return tuple(sorted(name.removeprefix("machine/").removesuffix(".sh") for name in names))

    @property
    def digest(self) -> str:
        """SHA-256 over names and texts: a plan that was reviewed with other templates is another plan."""
        texts = {name: template.text for name, template in self.files.items()}
        return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()

    @property
    def told(self) -> str:
        """Where they come from, in words."""
        return f"the templates in {self.folder}/ and its own" if self.folder else "its own templates"
