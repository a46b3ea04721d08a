"""Views for people: values in, text out. Their machine-readable twins are in `reconciler.cli.machine`."""
