"""Hostile and damaged input, made by mutation: `python -m tests.fuzz TARGET` looks for what breaks a promise."""

from tests.fuzz import targets_cluster, targets_files, targets_text

TARGETS = {target.name: target for target in (*targets_text.TARGETS, *targets_cluster.TARGETS, *targets_files.TARGETS)}
