"""Who signed a commit, and whether a branch was at it: real keys, real git, and repositories that would like to say so
themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.authority import Authority, Demand, OnBranch, Signature, Signed
from reconciler.record.vouching import BadRule, Vouching
from tests.record.keys import Person
from tests.record.repositories import bare, clone, git, head, repository


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "repository")


def signature(root: Path, commit: str = "") -> Signature:
    return Vouching(root, fetching=False).signature(commit or head(root))


# --- signatures


def test_a_commit_that_is_not_signed_is_told_to_be_none(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    assert signature(root) == Signature(Signed.NONE)


def test_a_signature_by_a_key_on_the_list_is_good_and_names_the_signer(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    person.commits(root, "ada")
    found = signature(root)
    assert (found.state, found.signer) == (Signed.GOOD, "ada@example.org")
    assert found.key.startswith("SHA256:")


def test_a_key_that_is_not_on_the_list_does_not_count(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    person.commits(root, "mallory")
    assert signature(root).state is Signed.UNTRUSTED


def test_a_key_of_another_purpose_does_not_count(person: Person, root: Path) -> None:
    person.trusts(f'ada@example.org namespaces="file" {person.public("ada")}')
    person.commits(root, "ada")
    assert signature(root).state is Signed.BAD


def test_a_key_that_had_expired_when_it_signed_does_not_count(person: Person, root: Path) -> None:
    person.trusts(f'ada@example.org valid-before="20200101" {person.public("ada")}')
    person.commits(root, "ada")
    assert signature(root).state is Signed.EXPIRED


def test_a_key_that_was_revoked_does_not_count(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    person.commits(root, "ada")
    revoked = person.home / "revoked"
    revoked.write_text(person.public("ada"))
    person.says("gpg.ssh.revocationFile", str(revoked))
    assert signature(root).state is Signed.BAD


def test_a_list_of_revoked_keys_that_is_not_there_is_not_an_empty_one(person: Person, root: Path) -> None:
    """git itself warns, and takes the key for good."""
    person.trusts(f"ada@example.org {person.public('ada')}")
    person.commits(root, "ada")
    person.says("gpg.ssh.revocationFile", str(person.home / "gone"))
    found = signature(root)
    assert found.state is Signed.UNCHECKED
    assert "which is not there" in found.told


def test_a_merge_that_a_forge_made_counts_as_far_as_the_forge_s_own_key_does(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    git(root, "switch", "-q", "-c", "change")
    person.commits(root, "ada")
    git(root, "switch", "-q", "main")
    git(root, "merge", "-q", "--no-ff", "-m", "Merge pull request #1", "change")
    assert signature(root).state is Signed.NONE
    person.commits(root, "forge", "Merge pull request #1", "--amend")
    assert signature(root).state is Signed.UNTRUSTED
    person.trusts(f"noreply@forge.example {person.public('forge')}")
    assert signature(root).signer == "noreply@forge.example"


def test_a_signature_of_another_commit_does_not_hold(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    person.commits(root, "ada", "Weights of before")
    text = git(root, "cat-file", "commit", "HEAD").replace("Weights of before", "Weights of mine")
    forged = git(root, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text).strip()
    assert signature(root, forged).state is Signed.BAD


def test_a_signature_that_is_put_into_the_message_is_none(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    signed = git(root, "cat-file", "commit", person.commits(root, "ada"))
    git(root, "commit", "-q", "--allow-empty", "-m", signed)
    assert signature(root).state is Signed.NONE


def test_what_a_replacement_says_is_not_believed(person: Person, root: Path) -> None:
    """`git replace` shows another object under a commit's name."""
    person.trusts(f"ada@example.org {person.public('ada')}")
    plain = head(root)
    git(root, "replace", plain, person.commits(root, "ada"))
    assert signature(root, plain).state is Signed.NONE


def test_without_a_list_of_signers_nothing_counts_and_the_way_to_one_is_told(person: Person, root: Path) -> None:
    person.commits(root, "ada")
    found = signature(root)
    assert found.state is Signed.UNCHECKED
    assert "no list of allowed signers" in found.told
    assert found.fix.startswith("git config --global gpg.ssh.allowedSignersFile")


@pytest.mark.parametrize("place", ["relative", "inside", "by a link"])
def test_a_list_of_signers_that_a_commit_could_change_is_none(person: Person, root: Path, place: str) -> None:
    (root / "allowed_signers").write_text(f"mallory@example.org {person.public('mallory')}\n")
    git(root, "add", ".")
    person.commits(root, "mallory")
    linked = person.home / "linked"
    linked.symlink_to(root / "allowed_signers")
    named = {"relative": "allowed_signers", "inside": str(root / "allowed_signers"), "by a link": str(linked)}
    person.says("gpg.ssh.allowedSignersFile", named[place])
    found = signature(root)
    assert found.state is Signed.UNCHECKED
    assert "where a commit could say whose key counts" in found.told


def test_a_program_that_is_not_there_is_told(person: Person, root: Path) -> None:
    person.trusts(f"ada@example.org {person.public('ada')}")
    person.commits(root, "ada")
    person.says("gpg.ssh.program", "/nowhere/ssh-keygen")
    assert signature(root) == Signature(Signed.UNCHECKED, told="there is no /nowhere/ssh-keygen here")


def test_a_commit_that_this_clone_does_not_have_is_told(person: Person, root: Path) -> None:
    assert signature(root, "1" * 40).told == "this clone does not have the commit"


HOSTILE = {
    "gpg.program": "{bait}",
    "gpg.openpgp.program": "{bait}",
    "gpg.x509.program": "{bait}",
    "gpg.ssh.program": "{bait}",
    "gpg.ssh.defaultKeyCommand": "{bait}",
    "gpg.ssh.allowedSignersFile": "{signers}",
    "gpg.minTrustLevel": "undefined",
    "log.showSignature": "true",
    "core.pager": "{bait}",
    "pager.log": "true",
}


def test_the_repository_s_own_configuration_names_no_program_and_no_signer(person: Person, root: Path) -> None:
    canary, bait, signers = person.home / "ran", person.home / "bait", person.home / "theirs"
    bait.write_text(f"#!/bin/sh\ntouch {canary}\necho GOODSIG\n")
    bait.chmod(0o755)
    signers.write_text(f"mallory@example.org {person.public('mallory')}\n")
    person.commits(root, "mallory")
    for name, value in HOSTILE.items():
        git(root, "config", name, value.format(bait=bait, signers=signers))
    assert signature(root).state is Signed.UNCHECKED
    person.trusts(f"ada@example.org {person.public('ada')}")
    assert signature(root).state is Signed.UNTRUSTED
    assert not canary.exists()
    # The attack is real: plain git runs it.
    subprocess.run(["git", "verify-commit", "HEAD"], cwd=root, capture_output=True, check=False)
    assert canary.exists()


@pytest.fixture
def gnupg(person: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A keyring with a key of Ada's, which is trusted as one's own."""
    if shutil.which("gpg") is None:
        pytest.skip("needs gpg: apt-get install gnupg")
    home = person.home / "g"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    made = ("--batch", "--passphrase", "", "--quick-gen-key", "Ada <ada@example.org>", "ed25519", "sign", "never")
    subprocess.run(["gpg", *made], check=True, capture_output=True)
    yield home
    subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)


def test_an_openpgp_key_counts_as_far_as_the_keyring_trusts_it(person: Person, root: Path, gnupg: Path) -> None:
    git(root, "commit", "-q", "-S", "--allow-empty", "-m", "Approve")
    found = signature(root)
    assert (found.state, found.signer) == (Signed.GOOD, "Ada <ada@example.org>")
    (gnupg / "trustdb.gpg").unlink()
    assert signature(root).state is Signed.UNTRUSTED
    exported = subprocess.run(["gpg", "--import-ownertrust"], input=f"{found.key}:5:\n".encode(), check=False)
    assert exported.returncode == 0
    assert signature(root).state is Signed.UNTRUSTED, "its own trust is not that of a key that one has certified"
    person.says("gpg.minTrustLevel", "ultimate")
    subprocess.run(["gpg", "--import-ownertrust"], input=f"{found.key}:6:\n".encode(), check=True)
    assert signature(root).state is Signed.GOOD


def test_an_openpgp_key_that_is_in_no_keyring_cannot_be_checked(
    root: Path, gnupg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(root, "commit", "-q", "-S", "--allow-empty", "-m", "Approve")
    empty = gnupg / "e"
    empty.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(empty))
    assert signature(root).state is Signed.UNCHECKED


# --- a rule of one's own


def test_whoever_applies_may_ask_for_more_and_the_repository_s_configuration_may_not(
    person: Person, root: Path
) -> None:
    git(root, "config", "reconcile.signed", "true")
    assert Vouching(root, fetching=False).rules() == []
    person.says("reconcile.signed", "true")
    person.says("reconcile.reviewed", "main")
    git(root, "config", "reconcile.signed", "false")
    ((who, rule),) = Vouching(root, fetching=False).rules()
    assert (who, rule) == ("this machine's git configuration", Authority(signed=True, reviewed="main"))


@pytest.mark.parametrize(("name", "value"), [("reconcile.signed", "maybe"), ("reconcile.reviewed", "a..b")])
def test_a_rule_of_one_s_own_that_makes_no_sense_is_told(person: Person, root: Path, name: str, value: str) -> None:
    person.says(name, value)
    with pytest.raises(BadRule, match=f"{name} is '{value}'"):
        Vouching(root, fetching=False).rules()


# --- branches


@pytest.fixture
def hub(root: Path, tmp_path: Path) -> Path:
    """The team's remote."""
    return bare(tmp_path / "hub.git", root)


def on_main(root: Path, commit: str = "", *, fetching: bool = True) -> OnBranch:
    vouched = Vouching(root, fetching=fetching).vouched(commit or head(root), Demand(reviewed={"main": ("me",)}))
    return vouched.branches["main"]


def merged(root: Path, *subjects: str) -> list[str]:
    """A branch of so many commits, merged into main by a commit of its own; the branch's commits."""
    git(root, "switch", "-q", "-c", "change")
    made = []
    for subject in subjects:
        git(root, "commit", "-q", "--allow-empty", "-m", subject)
        made.append(head(root))
    git(root, "switch", "-q", "main")
    git(root, "merge", "-q", "--no-ff", "-m", "Merge", "change")
    return made


def test_a_commit_of_a_branch_is_not_reviewed_before_main_is_at_it(root: Path, hub: Path, tmp_path: Path) -> None:
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(mine, "switch", "-q", "-c", "change")
    git(mine, "commit", "-q", "--allow-empty", "-m", "A change")
    git(mine, "push", "-q", "origin", "change")
    assert on_main(mine).was is False
    git(mine, "push", "-q", "origin", "HEAD:main")
    assert on_main(mine).was is True


def test_main_is_asked_for_then_and_not_as_the_clone_remembers_it(root: Path, hub: Path, tmp_path: Path) -> None:
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(mine, "commit", "-q", "--allow-empty", "-m", "Not pushed")
    git(mine, "update-ref", "refs/remotes/origin/main", "HEAD")
    found = on_main(mine, fetching=False)
    assert (found.was, found.told) == (True, f"it is at {head(mine)[:9]} as last fetched")
    assert on_main(mine).was is False


def test_a_commit_that_main_no_longer_holds_is_not_reviewed(root: Path, hub: Path, tmp_path: Path) -> None:
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(mine, "commit", "-q", "--allow-empty", "-m", "Taken back")
    git(mine, "push", "-q", "origin", "main")
    assert on_main(mine).was is True
    git(mine, "push", "-q", "--force", "origin", "HEAD~1:main")
    assert on_main(mine).was is False


def test_an_older_commit_of_main_was_reviewed(root: Path, hub: Path, tmp_path: Path) -> None:
    mine = clone(tmp_path / "mine", f"file://{hub}")
    merged(mine, "A change")
    git(mine, "push", "-q", "origin", "main")
    assert on_main(mine).was is True
    assert on_main(mine, head(mine)).was is True
    assert on_main(mine, git(mine, "rev-parse", "main~1").strip()).was is True


def test_a_commit_that_a_merge_brought_in_was_no_state_of_main(root: Path, hub: Path, tmp_path: Path) -> None:
    """A branch may hold a bad commit and one that takes it back: a reviewer sees what both come to."""
    mine = clone(tmp_path / "mine", f"file://{hub}")
    bad, _ = merged(mine, "Something bad", "Something bad taken back")
    git(mine, "push", "-q", "origin", "main")
    assert on_main(mine, bad).was is False


def test_a_detached_shallow_checkout_as_a_runner_has_it_is_enough_for_the_tip(
    root: Path, hub: Path, tmp_path: Path
) -> None:
    runner = clone(tmp_path / "runner", f"file://{hub}", "--depth", "1")
    git(runner, "checkout", "-q", "--detach")
    was = head(runner)
    assert on_main(runner).was is True
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(mine, "commit", "-q", "--allow-empty", "-m", "Newer")
    git(mine, "push", "-q", "origin", "main")
    assert on_main(runner, was).was is True


def test_in_a_shallow_clone_what_is_not_reached_is_not_known(root: Path, hub: Path, tmp_path: Path) -> None:
    first = head(root)
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(mine, "commit", "-q", "--allow-empty", "-m", "Newer")
    git(mine, "push", "-q", "origin", "main")
    runner = clone(tmp_path / "runner", f"file://{hub}", "--depth", "1")
    found = on_main(runner, first)
    assert (found.was, found.fix) == (None, "git fetch --unshallow")


def test_a_remote_that_is_down_or_has_no_such_branch_vouches_for_nothing(root: Path, hub: Path, tmp_path: Path) -> None:
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(hub, "branch", "-m", "main", "trunk")
    assert (on_main(mine).was, on_main(mine).told) == (None, "origin has no branch main")
    shutil.rmtree(hub)
    found = on_main(mine)
    assert found.was is None
    assert found.told.startswith("origin cannot be asked: ")


def test_a_copy_of_one_s_own_that_is_pushed_to_reviews_nothing(root: Path, hub: Path, tmp_path: Path) -> None:
    fork = bare(tmp_path / "fork.git", root)
    mine = clone(tmp_path / "mine", f"file://{hub}")
    git(mine, "remote", "add", "fork", f"file://{fork}")
    git(mine, "config", "remote.pushDefault", "fork")
    git(mine, "config", "reconcile.remote", "fork")
    git(mine, "commit", "-q", "--allow-empty", "-m", "Only there")
    git(mine, "push", "-q", "fork", "main")
    assert on_main(mine).was is False
    git(mine, "config", "branch.main.remote", "fork")
    assert on_main(mine).place == "main of fork", "who says that main is pulled from there has it"


def test_a_clone_without_a_remote_says_so(root: Path) -> None:
    assert on_main(root).told == "this clone has no remote to ask"


def test_what_only_looks_speaks_to_no_remote(root: Path, hub: Path, tmp_path: Path) -> None:
    """A remote is spoken to by whatever the repository's configuration names."""
    mine = clone(tmp_path / "mine", f"file://{hub}")
    canary = tmp_path / "ran"
    git(mine, "config", "remote.origin.uploadpack", f"touch {canary}; git-upload-pack")
    assert on_main(mine, fetching=False).was is True
    assert not canary.exists()
    assert os.listdir(mine / ".git/refs/remotes/origin")
