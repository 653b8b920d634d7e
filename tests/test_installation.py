"""The commands that install an extra and update descend work for the installation at hand."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from descend import installation
from descend.installation import checkout, install_command, update_command

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout in a folder whose name a shell would split."""
    found = tmp_path / "my checkout"
    found.mkdir()
    (found / "pyproject.toml").write_text('[project]\nname = "descend"\n')
    return found


@pytest.fixture(autouse=True)
def active(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment of this Python be active, so that a shell finds its pip."""
    monkeypatch.setattr(shutil, "which", lambda name: str(Path(sys.executable).parent / name))


def installed(monkeypatch: pytest.MonkeyPatch, record: str | None) -> None:
    """Let descend be installed as pip records it in direct_url.json, away from its sources."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return record

    monkeypatch.setattr(installation, "_SOURCE", Path("/usr/lib/python3"))
    monkeypatch.setattr(metadata, "distribution", lambda _: Distribution())


def test_the_tests_run_from_a_checkout_with_constraints() -> None:
    assert checkout() == ROOT
    command = f"cd {shlex.quote(str(ROOT))} && pip install -c constraints.txt -e '.[onnx]'"
    assert install_command("onnx") == command
    assert update_command() == f"git -C {shlex.quote(str(ROOT))} pull"


def test_a_package_from_an_index_is_installed_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    assert checkout() is None
    assert install_command("onnx") == "pip install 'descend[onnx]'"
    assert update_command() == "pip install --upgrade descend"


@pytest.mark.parametrize("elsewhere", [None, "/usr/bin/pip"])
def test_pip_of_an_environment_that_is_not_active_is_named_by_its_python(
    elsewhere: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, None)
    monkeypatch.setattr(shutil, "which", lambda _: elsewhere)
    assert install_command("onnx") == f"{shlex.quote(sys.executable)} -m pip install 'descend[onnx]'"


@pytest.mark.parametrize("editable", [True, False])
def test_a_folder_that_was_installed_is_named(
    editable: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, json.dumps({"dir_info": {"editable": editable}, "url": folder.as_uri()}))
    assert checkout() == folder
    assert install_command("search") == f"cd '{folder}' && pip install -e '.[search]'"
    assert shlex.split(install_command("search")) == [
        "cd",
        str(folder),
        "&&",
        "pip",
        "install",
        "-e",
        ".[search]",
    ]
    (folder / "constraints.txt").touch()
    assert install_command("search").endswith("pip install -c constraints.txt -e '.[search]'")


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        "{}",
        '{"url": 3}',
        '{"url": "https://example.org/descend.whl"}',
        '{"url": "file:///removed/descend"}',
    ],
)
def test_other_records_name_the_package(record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, record)
    assert install_command("onnx") == "pip install 'descend[onnx]'"


def test_a_checkout_of_another_package_is_not_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "other"\n')
    installed(monkeypatch, json.dumps({"url": folder.as_uri()}))
    assert checkout() is None


def test_a_package_that_is_not_installed_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(installation, "_SOURCE", Path("/usr/lib/python3"))
    monkeypatch.setattr(metadata, "distribution", absent)
    assert checkout() is None
