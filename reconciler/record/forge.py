"""The forge that a pipeline belongs to: whom it says that it runs for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PERSON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(\[bot\])?")


def claimed(environment: Mapping[str, str]) -> str:
    """Whom a forge's pipeline says that it runs for, as ` (for ada by GitHub)`; empty elsewhere. Those are words of the
    environment: whoever may set it may claim to be anybody."""
    for forge, running, names in (
        ("GitHub", "GITHUB_ACTIONS", ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR")),
        ("GitLab", "GITLAB_CI", ("GITLAB_USER_LOGIN",)),
    ):
        person = next((environment[name] for name in names if environment.get(name)), "")
        if environment.get(running) == "true" and _PERSON.fullmatch(person):
            return f" (for {person} by {forge})"
    return ""
