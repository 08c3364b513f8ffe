"""Training settings are parsed once and refuse what makes no sense."""

from __future__ import annotations

import pytest

from marketplace.protocol.errors import ConfigError
from trainer.config import TrainSettings, load_settings, parse_settings


def test_file_overrides_defaults(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text("learning_rate = 2e-5\nbetas = [0.9, 0.99]\nseed = 4\n")
    settings = load_settings(path)
    assert (settings.learning_rate, settings.betas, settings.seed) == (2e-5, (0.9, 0.99), 4)
    assert settings.groups_per_step == TrainSettings().groups_per_step
    assert parse_settings(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", "1e-5"),
        ("betas", [0.9]),
        ("betas", [0.9, 1.0]),
        ("epochs", 0),
        ("epochs", 1.5),
        ("ratio_low", 1.1),
        ("ratio_high", 0.9),
        ("groups_per_step", True),
        ("learing_rate", 1e-5),
    ],
)
def test_values_that_are_refused(key, value):
    with pytest.raises(ConfigError, match=key) as caught:
        parse_settings({key: value}, source="train.toml")
    assert "train.toml" in str(caught.value)


def test_files_that_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="can't read"):
        load_settings(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("learning_rate = ")
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(tmp_path / "bytes.toml")
