"""The cookbook as rules CPT001 …: what a campaign's manifests do that it advises against, and why it does.

`M…` is what cannot be read or carried out; it cannot be waived. `CPT…` is what the cookbook, a paper it follows or the
launcher's contract advises against; a person may waive it in the manifest with a reason, which every plan then shows.
"""

from reconciler.domain.rules.check import RULES, findings, observed

__all__ = ["RULES", "findings", "observed"]
