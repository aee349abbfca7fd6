from __future__ import annotations

from pathlib import Path

import pytest

from cyxwiz.config import ConfigError, check_role, load


@pytest.mark.parametrize(
    ("root", "bad"), [("data", True), (".", True), ("data/node", True), ("link", True), ("sets", False)]
)
def test_no_data_root_shows_jobs_the_nodes_keys(tmp_path: Path, root: str, bad: bool) -> None:
    own = tmp_path / "data"
    own.mkdir()
    (tmp_path / "link").symlink_to(own)
    loaded = load(environ={}, flags=[f"node.data_roots={tmp_path / 'sets'},{tmp_path / root}"])
    check_role(loaded, "central", own)
    if not bad:
        check_role(loaded, "node", own)
        return
    with pytest.raises(ConfigError, match=r"node\.data_roots = .*must not lie in each other \(from flag --set\)"):
        check_role(loaded, "node", own)
