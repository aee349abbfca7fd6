"""TimeDistributed: a layer of one input on every step of a sequence.

`layer` names the inner type, whose parameters stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

from cyxwiz.graph.params import Param, needed
from cyxwiz.graph.rule import Cost, Rule, Shape, Site


def inner_site(site: Site) -> Site:
    """What the inner layer of a TimeDistributed reads: one step."""
    if len(site.given) < 2:
        raise site.refuse("(T, …)", site.given)
    return Site(site.id, site.word("layer"), site.params, (site.given[1:],))


def rules(inner: Mapping[str, Rule]) -> dict[str, Rule]:
    def shape(site: Site) -> Shape:
        return site.given[:1] + inner[site.word("layer")].shape(inner_site(site))

    def cost(site: Site, made: Shape) -> Cost:
        one = inner[site.word("layer")].cost(inner_site(site), made[1:])
        return Cost(one.parameters, site.given[0] * one.forward_flops)

    # Not a wrapper in a wrapper: their parameters stand beside each other under one name.
    single = (name for name, rule in inner.items() if rule.inputs == (1, 1) and "layer" not in rule.params)
    may = tuple(name for name in single if name not in ("Split", "Output"))
    layer = needed(Param("layer", choices=may, aliases=("inner", "layer_type", "wrapped")))
    return {"TimeDistributed": Rule("(T, …)", "(T, what the inner layer gives)", shape, cost, {"layer": layer})}
