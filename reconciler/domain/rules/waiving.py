"""CPT090 and CPT091: waivers that do nothing. They look at the other rules' findings, so `check` finds them."""

from __future__ import annotations

from typing import Final

from reconciler.domain.rules.rule import rule
from reconciler.model.problems import Severity

_SOURCE: Final = "docs/rules.md: a rule that is broken knowingly is waived where it is broken, with a reason"


STALE: Final = rule(
    "CPT090",
    "stale-waiver",
    Severity.WARNING,
    "A waiver of a rule that is kept",
    why="""A waiver that outlives what it was for hides the next finding of its rule, which nobody has looked at.""",
    todo="Remove the waiver.",
    sources=(_SOURCE,),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: naive
              waive: [{rule: CPT020, reason: the recovery gate ends it early}]
              legs:
                - mixture: {D2: 1}
                  lr: {shape: constant}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          waive:
            - rule: CPT020    # <- no rung is naive
              reason: the recovery gate ends it early
        """,
)(lambda _: ())

UNKNOWN: Final = rule(
    "CPT091",
    "unknown-rule",
    Severity.ERROR,
    "A waiver of a rule that there is not",
    why="""A waiver with a misspelt code waives nothing, and whoever reads it believes that the rule was considered.""",
    todo="Write the code of a rule that `reconcile explain` lists.",
    sources=(_SOURCE,),
    good="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: naive
              legs:
                - mixture: {D2: 1}
                  lr: {shape: constant}
            - name: mix-a
              legs:
                - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
                  lr: {shape: constant}
          waive: [{rule: CPT020, reason: the recovery gate ends it early}]
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          waive:
            - rule: CPT120    # <-
              reason: the recovery gate ends it early
        """,
)(lambda _: ())

RULES: Final = (STALE, UNKNOWN)
