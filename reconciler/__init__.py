"""The CPT reconciler: continual pre-training stages as manifests, reconciled with a PBS cluster."""
