from __future__ import annotations

from pathlib import Path

import pytest

from cyxwiz.app.node import check_data_roots
from cyxwiz.config import ConfigError


@pytest.mark.parametrize(
    ("root", "bad"), [("data", True), (".", True), ("data/node", True), ("link", True), ("sets", False)]
)
def test_no_data_root_shows_jobs_the_nodes_keys(tmp_path: Path, root: str, bad: bool) -> None:
    own = tmp_path / "data"
    own.mkdir()
    (tmp_path / "link").symlink_to(own)
    if not bad:
        check_data_roots([str(tmp_path / root)], own)
        return
    with pytest.raises(ConfigError, match="data_roots"):
        check_data_roots([str(tmp_path / "sets"), str(tmp_path / root)], own)
