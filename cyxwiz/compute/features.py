"""What a node offers beyond the least, by its owner's settings and the sandbox that holds here."""

from __future__ import annotations

from cyxwiz.config import NodeSection
from cyxwiz.domain.node import JOB_TYPES, NETWORK, REQUIREMENTS, SCRIPTS


def features_of(node: NodeSection, sandboxed: str) -> tuple[str, ...]:
    """The features that central is told of. `sandboxed` is the sandbox's mode."""

    def wanted(setting: str) -> bool:
        return setting == "on" or (setting == "auto" and sandboxed == "bubblewrap")

    found = [JOB_TYPES]
    if wanted(node.scripts):
        found.append(SCRIPTS)
        found += [REQUIREMENTS] if wanted(node.requirements) else []
        found += [NETWORK] if node.network == "on" else []
    return tuple(found)
