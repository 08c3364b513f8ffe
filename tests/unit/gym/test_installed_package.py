"""An author who changed the code and did not install it again would publish what it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.cli.environments import load_spec
from marketplace.cli.scaffold import scaffold
from marketplace.protocol.errors import EnvironmentMismatch


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new package's folder, installed as pip would."""
    folder, site = tmp_path / "tidy", tmp_path / "site"
    scaffold("tidy", "package", folder)
    info = site / "tidy-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidy\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("tidy.py,,\ntidy-0.1.0.dist-info/METADATA,,\n")
    (site / "tidy.py").write_bytes((folder / "tidy.py").read_bytes())
    monkeypatch.syspath_prepend(str(site))
    return folder


def test_what_is_installed_is_what_the_folder_has(package: Path) -> None:
    assert load_spec(str(package)).name == "tidy"


@pytest.mark.parametrize("layout", ["flat", "src"])
def test_changed_code_has_to_be_installed(package: Path, layout: str) -> None:
    code = package / "tidy.py"
    if layout == "src":
        (package / "src").mkdir()
        code = code.rename(package / "src" / "tidy.py")
        assert load_spec(str(package)).name == "tidy"
    code.write_text(code.read_text() + "\n")
    with pytest.raises(EnvironmentMismatch, match=r"tidy\.py is not what is installed") as caught:
        load_spec(str(package))
    assert caught.value.fix == f"pip install {package}"


def test_a_package_that_was_never_installed_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    """Its name may be somebody else's on an index of packages."""
    folder = tmp_path / "untidy"
    scaffold("untidy", "package", folder)
    with pytest.raises(EnvironmentMismatch, match="untidy is not installed") as caught:
        load_spec(str(folder))
    assert caught.value.fix == f"pip install {folder}"
