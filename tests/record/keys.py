"""Whoever applies, with real keys: of theirs, and of others whose signatures they trust or do not."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.record.repositories import git, head


@dataclass(frozen=True)
class Person:
    """Whoever applies: a home with a git configuration, and ssh keys of theirs and of others."""

    home: Path

    def key(self, name: str) -> Path:
        """A key by its name, made when it is first asked for."""
        path = self.home / f"{name}.key"
        if not path.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
        return path

    def public(self, name: str) -> str:
        """Type and text of its public half."""
        return self.key(name).with_suffix(".key.pub").read_text()

    def trusts(self, *signers: str) -> None:
        """Lines of an allowed signers file of their own."""
        file = self.home / "allowed_signers"
        file.write_text("".join(f"{line}\n" for line in signers))
        self.says("gpg.ssh.allowedSignersFile", str(file))

    def says(self, name: str, value: str) -> None:
        """A setting of their own configuration."""
        subprocess.run(["git", "config", "--global", name, value], check=True)

    def commits(self, root: Path, name: str, text: str = "Approve", *more: str) -> str:
        """A signed commit, by somebody's key."""
        how = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.key(name)}")
        git(root, *how, "commit", "-q", "-S", "--allow-empty", "-m", text, *more)
        return head(root)
