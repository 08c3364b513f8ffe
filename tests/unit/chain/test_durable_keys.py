"""Keys and addresses of a market survive a power cut: money may be sent to them at once."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

from durable import Disk
from test_deployment_file import DEPLOYMENT

from marketplace.chain.deployment import save_deployment
from marketplace.chain.keystore import create_keystore


def test_what_is_saved_is_on_disk_when_the_call_returns(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    key, market = tmp_path / "key.json", tmp_path / "market.json"
    create_keystore(key, "secret", kdf="pbkdf2", iterations=1)
    assert disk.survives(key)
    save_deployment(DEPLOYMENT, market)
    save_deployment(DEPLOYMENT, market)
    assert disk.survives(market)
    assert {one.name for one in tmp_path.iterdir()} == {"key.json", "market.json"}
