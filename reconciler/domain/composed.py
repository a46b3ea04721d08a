"""What a campaign says of its buffer, against what the buffer will hold: weights, selections, score files."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.domain.catalog import Catalog
from reconciler.model.manifests import BUFFER, CampaignManifest
from reconciler.model.problems import Path, Problem, one_of

AT: Path = ("spec", "buffer")


def buffer(catalog: Catalog, name: str) -> Iterator[Problem]:
    """All problems of the campaign's buffer; every reference of the campaign must hold."""
    campaign = catalog.campaign(name)
    if catalog.doubts(campaign, *AT):
        return
    spec = campaign.spec
    held = catalog.buffer_at(name, spec.stages[-1])
    for field, symbols in (("weights", spec.buffer.weights), ("select", spec.buffer.select)):
        for symbol in symbols:
            if symbol not in held:
                yield Problem(
                    "M066",
                    catalog.where(campaign, *AT, field, symbol, key=True),
                    f"{field} of {symbol} in campaign {name}",
                    symbol,
                    one_of(held) if held else "no dataset: no stage of this campaign has a buffer",
                    f"Leave {symbol} out.",
                )
    if spec.buffer.composition == "declared":
        yield from _weights(catalog, campaign, held)
    for symbol, selection in spec.buffer.select.items():
        if selection.scores is not None and spec.cluster not in selection.scores:
            what = f"the scores of {symbol} on cluster {spec.cluster} (campaign {name})"
            where = catalog.where(campaign, *AT, "select", symbol, "scores", key=True)
            yield Problem("M049", where, what, one_of(selection.scores), f"{spec.cluster}: {{path: …}}")


def _weights(catalog: Catalog, campaign: CampaignManifest, held: tuple[str, ...]) -> Iterator[Problem]:
    """Every dataset that joins the buffer has a weight, and whenever it is drawn from one of them is above 0."""
    name, weights = campaign.metadata.name, campaign.spec.buffer.weights
    where = catalog.where(campaign, *AT, "weights" if weights else "composition", key=True)
    missing = [symbol for symbol in held if symbol not in weights]
    if missing:
        expected = f"a weight of {one_of(held) if len(held) == 1 else 'each of ' + ', '.join(held)}; 0 leaves one out"
        detail = f"{', '.join(missing)} of campaign {name} without a weight"
        yield Problem("M067", where, detail, ", ".join(weights) or "no weights", expected)
        return
    for stage in catalog.stages(name):
        symbols = catalog.buffer_at(name, stage.metadata.name)
        drawn = any(leg.mixture.get(BUFFER) for strategy in stage.spec.strategies for leg in strategy.legs)
        if drawn and symbols and not any(weights[symbol] for symbol in symbols):
            detail = f"the buffer of stage {stage.metadata.name} holds {', '.join(symbols)}, all of weight 0"
            yield Problem("M067", where, detail, expected="one of them above 0")
            return
