"""What a rule of the cookbook is, and what one finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from textwrap import dedent
from typing import Final

from reconciler.domain.rules.view import CampaignView
from reconciler.model.manifests import Manifest
from reconciler.model.problems import Kind, Path, Severity
from reconciler.model.quantities import format_decimal

PLATEAU: Final = "cookbook, Strategy 1 and 2: USE A CHECKPOINT AT LR=LR_max, i.e. BEFORE COOLING DOWN"
INFINITE: Final = "cookbook, AuroraGPT V1: the infinite schedule avoids rewarming"


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where the manifests stray from a rule, in that place's own words and numbers."""

    of: Manifest
    path: Path
    detail: str
    found: str | None = None
    expected: str | None = None
    fix: str | None = None
    related: tuple[tuple[Manifest, Path, str], ...] = ()
    key: bool = False
    """The key of the path is meant, not its value."""


Check = Callable[[CampaignView], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it says, why, where that comes from, and how it looks when it is kept and when it is not."""

    code: str
    name: str
    """For people who talk about it: a few words with hyphens."""
    severity: Severity
    summary: str
    """One sentence, shown with every finding."""
    why: str
    todo: str
    """What to write or do instead."""
    sources: tuple[str, ...]
    """Section of the cookbook, number at arXiv, section of the launcher's contract."""
    good: str
    """What keeps to the rule: parts of manifests, laid over a campaign of the cookbook's four stages."""
    bad: str
    """What does not; the line is marked with `# <-`."""
    check: Check
    observed: bool = False
    """It is judged by what was logged, so only a look at the cluster can find it."""

    @property
    def kind(self) -> Kind:
        """The rule as the catalogue of problems has its entries."""
        return Kind(self.summary, self.why, self.severity)


def rule(
    code: str,
    name: str,
    severity: Severity,
    summary: str,
    *,
    why: str,
    todo: str,
    sources: tuple[str, ...],
    good: str,
    bad: str,
    observed: bool = False,
) -> Callable[[Check], Rule]:
    """Make a rule of the function that looks for what strays from it."""

    def made(check: Check) -> Rule:
        examples = dedent(good).strip() + "\n", dedent(bad).strip() + "\n"
        return Rule(code, name, severity, summary, _one_line(why), _one_line(todo), sources, *examples, check, observed)

    return made


def percent(share: Fraction) -> str:
    """0.05 → `5 %`."""
    return f"{float(share * 100):.3g} %"


def rate(value: float) -> str:
    """A learning rate as people write it: 2e-4, 0.002."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else format_decimal(Decimal(mantissa))


def _one_line(text: str) -> str:
    return " ".join(text.split())
