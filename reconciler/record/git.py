"""git as a process that runs nothing of a repository: the one way in which it is asked anything.

What a configuration could have run (a file monitor, hooks, filters) is switched off, and what the environment says of
another repository is left out: this program may be started by a hook of one.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

QUIET: Final = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "safe.bareRepository": "explicit",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
"""Settings that a repository could have made otherwise, to have a program run."""
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # an object that is missing may be fetched, by any command the remote names
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",  # no write of the index, so no hook after it
    "GIT_TERMINAL_PROMPT": "0",
}
_OF_ANOTHER: Final = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
    }
)
"""What git tells its hooks of the repository that they are of."""
TIMEOUT_S: Final = 120.0


class GitFailed(Exception):
    """git ended with another status than 0, or not at all."""

    def __init__(self, said: str, status: int = -1, printed: bytes = b"") -> None:
        super().__init__(said)
        self.status = status
        self.printed = printed


@dataclass(frozen=True, slots=True)
class Git:
    """git in one working tree."""

    root: Path
    """The folder that holds `.git`, itself a folder or, in a worktree or a submodule, a file."""
    settings: Mapping[str, str] = field(default_factory=lambda: QUIET)
    environment: Mapping[str, str] = field(default_factory=dict)

    def having(self, **environment: str) -> Git:
        """The same with further variables."""
        return replace(self, environment={**self.environment, **environment})

    def run(self, *arguments: str, stdin: bytes = b"", timeout_s: float = TIMEOUT_S) -> bytes:
        """What a command printed.

        Raises:
            GitFailed: it ended with another status than 0, took too long, or there is no git.
        """
        import git  # here, not above: it costs a quarter of a status command's time

        another = sorted((_OF_ANOTHER & os.environ.keys()) - self.environment.keys())
        unset = [word for name in another for word in ("-u", name)]
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            try:
                status, printed, said = git.Git(self.root).execute(
                    [*(["env", *unset] if unset else []), "git", *arguments],
                    env=self._variables(),
                    istream=given,
                    kill_after_timeout=timeout_s,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                )
            except (git.GitCommandNotFound, OSError) as error:
                raise GitFailed(f"git cannot be run: {error}") from error
        if status == -signal.SIGKILL and said.startswith("Timeout:"):
            raise GitFailed(f"git {arguments[0]} did not end within {timeout_s:.0f} s")
        if status != 0:
            raise GitFailed(said.strip() or f"git {arguments[0]} ended with {status}", status, bytes(printed))
        return bytes(printed)

    def text(self, *arguments: str, stdin: bytes = b"") -> str:
        """The same as text; what is no UTF-8 in it is told apart from what is."""
        return self.run(*arguments, stdin=stdin).decode("utf-8", "surrogateescape")

    def _variables(self) -> dict[str, str]:
        """In the environment a setting's name cannot be taken for anything else, and goes before what any file says."""
        variables = _ENVIRONMENT | {
            "GIT_CEILING_DIRECTORIES": str(self.root.parent),
            "GIT_WORK_TREE": str(self.root),
            "GIT_CONFIG_COUNT": str(len(self.settings)),
        }
        for number, (name, value) in enumerate(self.settings.items()):
            variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return variables | dict(self.environment)
