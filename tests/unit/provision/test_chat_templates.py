"""The templates come out of the engine's source package, whole or not at all."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from provision.chat_templates import unpack
from provision.faults import ModelFetchFailed


def package(folder: Path, *names: str) -> Path:
    """A source package with these files."""
    path = folder / "engine.tar.gz"
    with tarfile.open(path, "w:gz") as members:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            members.addfile(member, io.BytesIO(b"{}"))
    return path


def test_takes_the_templates_and_nothing_else(tmp_path: Path) -> None:
    inside = "engine-1.0/vendor/llama.cpp/models/templates"
    made = package(tmp_path, f"{inside}/a.jinja", f"{inside}/README.md", f"{inside}/../../../b.jinja", "c.jinja")
    unpack(made, tmp_path / "target", tmp_path / "draft")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["a.jinja"]
    assert (tmp_path / "target" / "a.jinja").read_text() == "{}"


def test_a_package_without_templates_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFetchFailed, match="no chat templates"):
        unpack(package(tmp_path, "other"), tmp_path / "target", tmp_path / "draft")
    assert not (tmp_path / "target").exists()
