"""Planting one deliberate bug (`bugs.py`) in the real code, and looking for a seed that catches it.

A bug of the agent is an edit of the text that is sent; one of the reconciler replaces a function with its own source,
edited. An edit whose old text is not there, or not exactly once, is an error: the table follows the code.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reconciler.cluster import observe
from reconciler.cluster.observe import agent_source
from reconciler.cluster.render import packaged
from reconciler.model.templates import Template, Templates
from tests.sim import speed
from tests.sim.checkers import Broken
from tests.sim.run import simulate
from tests.sim.stories import STORIES


@dataclass(frozen=True)
class Bug:
    """One edit."""

    name: str
    where: str
    """`agent`, `template NAME`, or `module:function` of the reconciler."""
    old: str
    new: str
    seeds: int = 60
    """How many seeds may be tried."""
    likely: tuple[str, ...] = ()
    """Faults that the seeds have often: what it takes is rare otherwise."""
    hint: int = 0
    """The seed that caught it last is tried first, to save time."""
    story: str = ""
    """The one that is about it; no seed is tried."""


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The bug is in the code."""
    if bug.where == "agent":
        yield from _in_agent(bug)
    elif bug.where.startswith("template "):
        yield from _in_template(bug)
    else:
        yield from _in_function(bug)


def replaced(text: str, bug: Bug) -> str:
    assert text.count(bug.old) == 1, f"{bug.name}: its old text stands {text.count(bug.old)} times in {bug.where}"
    return text.replace(bug.old, bug.new)


def _in_agent(bug: Bug) -> Iterator[None]:
    source = replaced(agent_source().decode(), bug).encode()
    modules = [observe, sys.modules["reconciler.cluster.execute"]]
    for module in modules:
        module.agent_source = lambda: source  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.agent_source = agent_source  # type: ignore[attr-defined]


def _in_template(bug: Bug) -> Iterator[None]:
    files, name = packaged().files, bug.where.removeprefix("template ")
    was = files[name]
    edited = Templates({**files, name: Template(replaced(was.text, bug), was.file)})
    render = sys.modules["reconciler.cluster.render"]
    render.packaged = lambda: edited  # type: ignore[attr-defined]
    speed.forget()
    try:
        yield
    finally:
        render.packaged = packaged  # type: ignore[attr-defined]
        speed.forget()


def _in_function(bug: Bug) -> Iterator[None]:
    module_name, _, path = bug.where.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    was = owner.__dict__[name] if classes else getattr(owner, name)
    scope: dict[str, Any] = {}
    exec(compile(replaced(textwrap.dedent(inspect.getsource(was)), bug), module_name, "exec"), vars(module), scope)
    places = [(owner, name)]
    if not classes:  # it may have been imported by name
        places += [(m, name) for m in list(sys.modules.values()) if m is not module and vars(m).get(name) is was]
    for place, called in places:
        setattr(place, called, scope[name])
    speed.forget()
    try:
        yield
    finally:
        for place, called in places:
            setattr(place, called, was)
        speed.forget()


def catch(bug: Bug) -> str:
    """How it was caught: by its story or by which seed; "" if it was not."""
    with planted(bug):
        if bug.story:
            return told(bug.story)
        for seed in dict.fromkeys((bug.hint, *range(bug.seeds))):
            found = simulate(seed, likely=bug.likely)
            if found.kind:
                return f"seed {seed}: {found.kind}: {found.failure}"
    return ""


def told(story: str) -> str:
    """How a story ends otherwise than it should; "" if it ends as it should."""
    try:
        STORIES[story]()
    except Broken as broken:
        return f"{story}: {broken}"
    except Exception as failed:
        return f"{story}: {type(failed).__name__}: {failed}"
    return ""
