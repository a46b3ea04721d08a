"""The campaigns that a seed may draw: the small one, and what else a manifest can say, one thing at a time.

A commit is a letter; its edits are exact replacements in the texts of `manifests/`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from reconciler.domain.loading import load
from reconciler.planner.desired import Desired, Site
from tests.sim.chance import Chance
from tests.sim.declared import Declared, declared, texts_of

MANIFESTS = Path(__file__).parent / "manifests"
EXTERNAL = "elsewhere/base"
"""Folder of a checkpoint that was made elsewhere, below the root."""
EXTERNAL_ITERATION = 8
Edits = tuple[tuple[str, str], ...]
PLAIN = 0.45
"""How many of the seeds have the small campaign as it is."""
LISTS = {f"data/D{n}.txt": f"0.75 /data/D{n}-a text\n0.25 /data/D{n}-b more\n" for n in range(3)} | {
    f"data/val-D{n}.txt": f"1.0 /data/val-D{n} text\n" for n in range(3)
}
"""Data lists by path below the root."""

WALLTIMES = (("resources: {nodes: 4, walltime: 1m}", "resources: {nodes: 4, walltime: 2m}"),)
"""Which no recipe holds."""
BUDGET = (("tokens: 22528                      # 5", "tokens: 24576                      # 5"),)
"""Another budget for stage 3, which is another recipe."""

NAIVE = """    - name: naive
      legs:
        - mixture: {D1: 1}
          lr: {shape: constant}
"""
REPLAY = """    - name: replay-5
      legs:
        - mixture: {D0: 0.05, D1: 0.95}
          lr: {shape: constant}
"""
MIX_A = """    - name: cooldown-mix-a
      legs:
        - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
          tokens: 10240
          lr: {shape: constant}
        - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
          lr: {shape: cooldown, decay: 1-sqrt}
"""
MIX_B = """    - name: cooldown-mix-b
      legs:
        - mixture: {D0: 0.05, D2: 0.47, buffer: 0.48}
          lr: {shape: cooldown, decay: 1-sqrt}
"""
TURNED = {"stage-2": ((NAIVE + REPLAY, REPLAY + NAIVE),), "stage-3": ((MIX_A + MIX_B, MIX_B + MIX_A),)}
"""The second rung moved to the top."""
TURNS = {"a": frozenset[str](), "d": frozenset({"stage-2"}), "e": frozenset({"stage-3"}), "f": frozenset(TURNED)}
"""Which ladders a commit has turned."""
LADDERS = {"a": (), "d": TURNED["stage-2"], "e": TURNED["stage-3"], "f": TURNED["stage-2"] + TURNED["stage-3"]}
WINDOWS = (("{kind: openpbs, queue: workq, maxWalltime: 1h}", """
    kind: openpbs
    queue: workq
    maxWalltime: 1h
    submitWindows:                                    # a simulation begins at 14:13
      - {from: "00:00", to: "14:22"}
      - {from: "14:30", to: "14:44"}
      - {from: "14:49", to: "24:00"}"""),)  # fmt: skip
SUSPENDED = (("  shift: weak\n", "  shift: weak\n  suspend: true\n"),)
REWARMED = (("          lr: {shape: constant}\n    - name: replay-5",
              "          lr: {shape: constant, warmup: 30%, rewarm: true}\n    - name: replay-5"),)  # fmt: skip
SPLIT = ((MIX_A, """    - name: cooldown-mix-a
      legs:
        - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
          lr: {shape: cooldown, decay: 1-sqrt, until: lrMax/3}
        - mixture: {D0: 0.05, D2: 0.47, buffer: 0.48}
          lr: {shape: continue}
"""),)  # fmt: skip
"""The data is switched in the middle of a decay."""
TRIAL = ((NAIVE, """    - name: mixes
      legs:
        - mixture: {D1: 1}
          lr: {shape: constant}
      trial:
        tokens: 6144
        matrix:
          mixture:
            naive: {D1: 1}
            lean: {D0: 0.05, D1: 0.95}
        compare: [val-D0, val-D1]
        atOnce: 2
"""),)  # fmt: skip
HARNESS = (("      grace: 10%\n", """      grace: 10%
    external:
      - {name: harness, metric: [results, score], atLeast: 0.5}
"""),)  # fmt: skip
PERSON = (*TRIAL, ("        atOnce: 2\n", "        atOnce: 2\n        choose: person\n"))
CHOSEN = {
    letter: (("        atOnce: 2\n", f"        atOnce: 2\n        chosen: mixes.{variant}\n"),)
    for letter, variant in (("t", "lean"), ("u", "naive"))
}
"""By a person, who is asked, or where the pilots' losses were lost."""
ON_THE_WAY = (
    (
        "strong: {warn: 0.15, fail: 0.30}\n",
        "strong: {warn: 0.15, fail: 0.30}\n      every: 25%\n      consecutive: 1\n",
    ),
    ("walltime: 1m", "walltime: 40s"),
)
"""Jobs so short that there is something between them."""


PRUNES = (("    nodeHours: 3\n", "    nodeHours: 3\n  retention: {prune: true, newest: 1, settle: 2m}\n"),)


def external(form: str) -> Edits:
    """The first stage goes on from a checkpoint that was made elsewhere."""
    ranks = ", dataParallel: 4" if form == "zero" else ""
    source = f"source: {{path: {EXTERNAL}, checkpoint: {{iteration: {EXTERNAL_ITERATION}}}, format: {form}{ranks}}}"
    return (("source: random", source), ("lr: {shape: constant, warmup: 10%}", "lr: {shape: constant}"))


def pinned() -> Edits:
    """Each list with the digest of its bytes."""
    return tuple(
        (f"{{path: {path}}}", f"{{path: {path}, sha256: {hashlib.sha256(text.encode()).hexdigest()}}}")
        for path, text in LISTS.items()
    )


@dataclass(frozen=True)
class Campaign:
    """One, and the commits that people may be at."""

    name: str
    edits: Edits = ()
    commits: dict[str, Edits] = field(default_factory=lambda: {"a": (), "b": WALLTIMES})
    drawn: str = "aaaaab"
    """What a person begins with."""
    taken: str = "aab"
    """What a person may take later."""
    stands_for: str = ""
    """The campaign half of whose seeds are this one's: it came later, and so all other seeds stay as they were."""


CAMPAIGNS = {
    campaign.name: campaign
    for campaign in (
        Campaign("plain", (), {"a": (), "b": WALLTIMES, "c": BUDGET}, "a" * 15 + "bbbc", "aabbbc"),
        Campaign("suspends", (), {"a": (), "s": SUSPENDED}, "aas", "ass"),
        Campaign("submit windows", WINDOWS),
        Campaign("holds", (("onFailedGate: advance", "onFailedGate: hold"),), LADDERS, "aaaf", "aadef"),
        Campaign("proposes", (("onFailedGate: advance", "onFailedGate: propose"),), LADDERS, "aaa", "aadef"),
        Campaign("external zero", external("zero")),
        Campaign("external universal", external("universal")),
        Campaign("rewarms", REWARMED),
        Campaign("pins its lists", pinned()),
        Campaign("splits a decay", SPLIT),
        Campaign("tries two mixes", TRIAL, {"a": (), **CHOSEN}, "a", "a"),
        Campaign("asks for a choice", PERSON, {"a": (), **CHOSEN}, "a", "a", stands_for="tries two mixes"),
        Campaign("evaluates on the way", ON_THE_WAY, {"a": ()}, "a", "a"),
        Campaign("few jobs", (("jobsPerAttempt: 8", "jobsPerAttempt: 2"),)),
        Campaign("few tokens", (("    nodeHours: 3\n", "    nodeHours: 3\n    tokens: 66000\n"),)),
        Campaign("asks a harness", HARNESS),
        Campaign("prunes", PRUNES),
        Campaign("few node-hours", (("    nodeHours: 3\n", "    nodeHours: 0.2\n"),)),
    )
}


def drawn(chance: Chance) -> str:
    """The campaign of a seed."""
    dice = chance.of("campaign")
    names = [name for name, campaign in CAMPAIGNS.items() if not campaign.stands_for]
    name = "plain" if dice.random() < PLAIN else dice.choice(names)
    others = [other.name for other in CAMPAIGNS.values() if other.stands_for == name]
    return dice.choice([name, *others])


def commit(campaign: str, letter: str) -> tuple[Desired, Declared]:
    """One commit of a campaign, as the reconciler and as the checkers read it."""
    chosen = CAMPAIGNS[campaign]
    return edited((*chosen.edits, *chosen.commits[letter]), letter)


@cache
def edited(edits: Edits, letter: str) -> tuple[Desired, Declared]:
    """The manifests with these edits, each of something that is there."""
    texts = texts_of(MANIFESTS)
    for old, new in edits:
        assert any(old in text for text in texts.values()), old
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    loaded = load([(name, text.encode()) for name, text in texts.items()])
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    site = Site("/w", "/r", "/launcher", "# the converter\n")
    return Desired(loaded.catalog, "small", letter * 40, False, site), declared(texts)
