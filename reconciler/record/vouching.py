"""What git says of the commit that is to be applied: who signed it, and whether a branch of the remote was at it.

Whose signature counts, and which program checks it, is said by the configuration of whoever applies, never by that of
the repository, which may be a stranger's.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from reconciler.model.authority import Authority, Demand, OnBranch, Signature, Signed, Vouched
from reconciler.model.fieldtypes import BRANCH_PATTERN
from reconciler.model.problems import clip
from reconciler.record.commits import is_shallow
from reconciler.record.git import Git, GitFailed
from reconciler.record.objects import contents
from reconciler.record.remote import QUIET_FETCH, REMOTE_TIMEOUT_S, pulled_from, speaking

OWN: Final = "this machine's git configuration"
"""Who asks, where `git config --global reconcile.signed` or `reconcile.reviewed` does."""
_OWN_SCOPES: Final = ("system", "global")
_SIGNERS, _REVOKED, _TRUST = "gpg.ssh.allowedsignersfile", "gpg.ssh.revocationfile", "gpg.mintrustlevel"
_PROGRAMS: Final = {"ssh": "ssh-keygen", "openpgp": "gpg", "x509": "gpgsm"}
_FORMATS: Final = {
    "SSH SIGNATURE": "ssh",
    "PGP SIGNATURE": "openpgp",
    "PGP MESSAGE": "openpgp",
    "SIGNED MESSAGE": "x509",
}
_ARMOUR: Final = re.compile(rb"^gpgsig(?:-sha256)? -----BEGIN ([A-Z ]+)-----$", re.MULTILINE)
_TOLD: Final = "%G?%x00%GS%x00%GF%x00%GT%x00%GG"
_LEVELS: Final = ("undefined", "never", "marginal", "fully", "ultimate")
_STATES: Final = {
    "N": Signed.NONE,
    "G": Signed.GOOD,
    "B": Signed.BAD,
    "R": Signed.BAD,
    "U": Signed.UNTRUSTED,
    "X": Signed.EXPIRED,
    "Y": Signed.EXPIRED,
}
_HOW: Final = "git config --global gpg.ssh.allowedSignersFile FILE      (a file outside of this repository)"


class BadRule(Exception):
    """The configuration of whoever applies says something of `reconcile.signed` or `.reviewed` that makes no sense."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Vouching:
    """Asks git about commits of one repository; each thing once."""

    def __init__(self, root: Path, *, fetching: bool) -> None:
        """`fetching`: ask the remote where its branches are now, as `apply` does. What only looks takes them as they
        were last fetched: a remote is spoken to by whatever the repository's configuration names."""
        self._git, self._fetching = Git(root), fetching
        self._own: Mapping[str, str] | None = None
        self._signatures: dict[str, Signature] = {}
        self._places: dict[tuple[str, str], OnBranch] = {}

    def rules(self) -> list[tuple[str, Authority]]:
        """What whoever applies asks of every commit on this machine: who, in words; the rule.

        Raises:
            BadRule: it makes no sense.
        """
        own = self._owned()
        signed, reviewed = own.get("reconcile.signed", "false").lower(), own.get("reconcile.reviewed") or None
        if signed not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
            raise BadRule(
                f"reconcile.signed is {clip(signed, 60)!r} in {OWN}", "git config --global reconcile.signed true"
            )
        if reviewed is not None and (len(reviewed) > 200 or re.fullmatch(BRANCH_PATTERN, reviewed) is None):
            raise BadRule(
                f"reconcile.reviewed is {clip(reviewed, 60)!r} in {OWN}", "git config --global reconcile.reviewed main"
            )
        wants = signed in ("true", "yes", "on", "1")
        return [(OWN, Authority(signed=wants, reviewed=reviewed))] if wants or reviewed is not None else []

    def vouched(self, commit: str, asked: Demand) -> Vouched:
        """What is known of a commit, of what is asked."""
        return Vouched(
            self.signature(commit) if asked.signed else None,
            {branch: self.on_branch(commit, branch) for branch in asked.reviewed},
        )

    # --- signatures

    def signature(self, commit: str) -> Signature:
        """Who signed a commit, by the keys of whoever applies."""
        if commit not in self._signatures:
            try:
                self._signatures[commit] = self._signature(commit)
            except GitFailed as failed:
                self._signatures[commit] = Signature(Signed.UNCHECKED, told=str(failed))
        return self._signatures[commit]

    def _signature(self, commit: str) -> Signature:
        (found,) = contents(self._git, [commit])
        if found is None or found[0] != "commit":
            return Signature(Signed.UNCHECKED, told="this clone does not have the commit")
        armour = _ARMOUR.search(found[1].partition(b"\n\n")[0])
        if armour is None:
            return Signature(Signed.NONE)
        kind = _FORMATS.get(armour[1].decode("ascii"))
        if kind is None:
            return Signature(Signed.UNCHECKED, told="it is of no kind that git checks")
        own = self._owned()
        settings = self._settings(own)
        program = settings["gpg.ssh.program" if kind == "ssh" else f"gpg.{kind}.program"]
        if shutil.which(os.path.expanduser(program)) is None:  # noqa: PTH111  # git takes `~` and searches PATH, too
            return Signature(Signed.UNCHECKED, told=f"there is no {program} here")
        if kind == "ssh" and (unusable := self._unusable(own)):
            return Signature(Signed.UNCHECKED, told=unusable, fix=_HOW)
        return self._checked(commit, settings, own.get(_TRUST, ""))

    def _checked(self, commit: str, settings: Mapping[str, str], least: str) -> Signature:
        git = replace(self._git, settings={**self._git.settings, **settings})
        told = git.text("log", "-1", "--no-show-signature", f"--format={_TOLD}", commit, "--").split("\0", 4)
        state, signer, key, trust, said = (part.strip() for part in told)
        says = "; ".join(line.strip() for line in said.splitlines() if line.strip())
        found = Signature(_STATES.get(state, Signed.UNCHECKED), signer, key, says)
        if found.state is Signed.GOOD and _level(trust) < max(_level("marginal"), _level(least.lower())):
            return replace(found, state=Signed.UNTRUSTED, told=f"your keyring trusts it {trust or 'not at all'}")
        if found.state is Signed.UNTRUSTED and "expired" in says:
            return replace(found, state=Signed.EXPIRED)
        return found

    def _settings(self, own: Mapping[str, str]) -> dict[str, str]:
        """Every setting by which a repository could name a program or say whose key counts, as its owner has it."""
        gpg = own.get("gpg.program", _PROGRAMS["openpgp"])
        return {
            "gpg.program": gpg,
            "gpg.openpgp.program": own.get("gpg.openpgp.program", gpg),
            "gpg.ssh.program": own.get("gpg.ssh.program", _PROGRAMS["ssh"]),
            "gpg.x509.program": own.get("gpg.x509.program", _PROGRAMS["x509"]),
            "gpg.ssh.allowedSignersFile": own.get(_SIGNERS, ""),
            "gpg.ssh.revocationFile": own.get(_REVOKED, ""),
        }

    def _unusable(self, own: Mapping[str, str]) -> str:
        """What keeps the lists of ssh keys from being relied on; git goes on without a list of revoked ones."""
        if not own.get(_SIGNERS):
            return (
                "your git has no list of allowed signers (what this repository's own configuration says does not count)"
            )
        for name in (_SIGNERS, _REVOKED):
            if not own.get(name):
                continue
            file = Path(os.path.expanduser(own[name]))  # noqa: PTH111  # `~` of a name that is no user's stays
            if not file.is_absolute() or _within(file, self._git.root):
                return (
                    f"{name} names {clip(str(file), 200)}: in the repository, where a commit could say whose key counts"
                )
            if not file.is_file():
                return f"{name} names {clip(str(file), 200)}, which is not there"
        return ""

    def _owned(self) -> Mapping[str, str]:
        """What the configuration of the person and of the machine says, and the repository's does not: name → value."""
        if self._own is None:
            try:
                told = self._git.text("config", "--show-scope", "-z", "--get-regexp", r"^(gpg|reconcile)\.").split("\0")
            except GitFailed as failed:
                if failed.status != 1:
                    raise
                told = []
            self._own = {}
            for scope, entry in zip(told[::2], told[1::2], strict=False):
                name, _, value = entry.partition("\n")
                if scope in _OWN_SCOPES:
                    self._own = {**self._own, name: value if "\n" in entry else "true"}
        return self._own

    # --- branches

    def on_branch(self, commit: str, branch: str) -> OnBranch:
        """Whether a branch of the remote was at a commit."""
        if (commit, branch) not in self._places:
            try:
                self._places[commit, branch] = self._on_branch(commit, branch)
            except GitFailed as failed:
                told = clip(" ".join(str(failed).split()), 300)
                self._places[commit, branch] = OnBranch(branch, None, told, f"git fetch      (and look at {branch})")
        return self._places[commit, branch]

    def _on_branch(self, commit: str, branch: str) -> OnBranch:
        remote = pulled_from(self._git, branch)
        if remote is None:
            return OnBranch(branch, None, "this clone has no remote to ask", f"git config branch.{branch}.remote NAME")
        place, tracking = f"{branch} of {remote}", f"refs/remotes/{remote}/{branch}"
        fetch = f"git fetch {remote} {branch}"
        if self._fetching and (failed := self._fetch(remote, branch, tracking)):
            return OnBranch(place, None, failed, fetch)
        try:
            tip = self._git.text("rev-parse", "--verify", "--quiet", f"{tracking}^{{commit}}").strip()
        except GitFailed:
            return OnBranch(place, None, "it was never fetched", fetch)
        told = f"it is at {tip[:9]}" + ("" if self._fetching else " as last fetched")
        # What a merge brought in is no state that the branch was ever in: somebody may have pushed a bad commit and one
        # that takes it back, and only what both come to was looked at.
        line = self._git.text("rev-list", "--first-parent", tip).split()
        if commit in line:
            return OnBranch(place, True, told)
        if is_shallow(self._git):
            return OnBranch(place, None, f"{told}, and this clone is a shallow one", "git fetch --unshallow")
        return OnBranch(place, False, told)

    def _fetch(self, remote: str, branch: str, tracking: str) -> str:
        """What was in the way; empty for nothing."""
        # The branch may have been rewritten: then what it was at before no longer counts.
        words = (*QUIET_FETCH, "--no-auto-maintenance", "--", remote, f"+refs/heads/{branch}:{tracking}")
        try:
            speaking(self._git).run(*words, timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            if "couldn't find remote ref" in str(failed):
                return f"{remote} has no branch {branch}"
            return f"{remote} cannot be asked: {clip(' '.join(str(failed).split()), 300)}"
        return ""


def _level(trust: str) -> int:
    return _LEVELS.index(trust) if trust in _LEVELS else 0


def _within(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
