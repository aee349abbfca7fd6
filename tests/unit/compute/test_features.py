"""What a node offers follows from its owner's settings and from the sandbox that holds."""

from __future__ import annotations

from typing import Any

import pytest

from cyxwiz.compute.features import features_of
from cyxwiz.config import NodeSection


@pytest.mark.parametrize(
    ("settings", "sandbox", "features"),
    [
        ({}, "bubblewrap", {"job_types", "scripts", "requirements"}),
        ({}, "rlimits", {"job_types"}),
        ({"network": "on"}, "bubblewrap", {"job_types", "scripts", "requirements", "network"}),
        ({"network": "on"}, "rlimits", {"job_types"}),
        ({"scripts": "on"}, "rlimits", {"job_types", "scripts"}),
        ({"scripts": "on", "requirements": "on"}, "none", {"job_types", "scripts", "requirements"}),
        ({"requirements": "off"}, "bubblewrap", {"job_types", "scripts"}),
        ({"scripts": "off", "requirements": "on", "network": "on"}, "bubblewrap", {"job_types"}),
    ],
)
def test_features(settings: dict[str, Any], sandbox: str, features: set[str]) -> None:
    assert set(features_of(NodeSection.model_validate(settings), sandbox)) == features
