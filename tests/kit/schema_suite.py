"""The public test suite of JSON Schema, as the source package of jsonschema carries it, kept in the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest

_FOLDER = "json/tests/draft2020-12/"
_SECONDS = 120
"""For the download of one package of 400 kB."""


class Group(NamedTuple):
    """A schema, and the values that it takes and does not take. ``keyword`` names the suite's file."""

    keyword: str
    description: str
    schema: Any
    tests: list[dict[str, Any]]


def suite() -> list[Group]:
    """Every group of the current draft, the optional ones and formats too; skips the test where it cannot be had."""
    found = sorted(_groups(_package()))
    assert len(found) > 300, "the package has the suite where it always had it"
    return [group for _, group in found]


def _groups(package: Path) -> Iterator[tuple[tuple[str, int], Group]]:
    with tarfile.open(package) as archive:
        for member in archive:
            if _FOLDER not in member.name or not member.name.endswith(".json"):
                continue
            file = archive.extractfile(member)
            assert file is not None
            keyword = PurePosixPath(member.name.partition(_FOLDER)[2]).with_suffix("").as_posix()
            for index, group in enumerate(json.loads(file.read())):
                yield (keyword, index), Group(keyword, group["description"], group["schema"], group["tests"])


def _package() -> Path:
    pytest.importorskip("jsonschema", reason="jsonschema is of the development set: scripts/setup")
    name = f"jsonschema-{version('jsonschema')}"
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "meshnode" / "jsonschema"
    package = folder / f"{name}.tar.gz"
    if not package.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            "jsonschema",
            "-d",
            str(folder),
        ]
        done = subprocess.run(
            [*pip, name.replace("-", "==")], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode or not package.is_file():
            pytest.skip(f"JSON Schema's test suite cannot be had: pip download {name} failed: {done.stderr[-200:]}")
    return package
