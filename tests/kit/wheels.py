"""Wheels made on the spot, and an environment in which pip finds them and nothing else."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from meshnode.domain import ModelId
from meshnode.models.catalogue import PackagedModel


def write_wheel(folder: Path, members: Mapping[str, bytes], *, package: str = "llm-tiny", version: str = "0.1") -> Path:
    """A wheel of pure data that pip takes."""
    name = package.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**members, **described}.items():
            archive.writestr(member, content)
    return path


def packaged(wheel: Path, model: bytes, *, package: str = "llm-tiny", version: str = "0.1") -> PackagedModel:
    """The pinned entry of a model in ``wheel``."""
    content = wheel.read_bytes()
    return PackagedModel(
        id=ModelId("tiny-packaged:f32"),
        package=package,
        version=version,
        wheel=wheel.name,
        wheel_size=len(content),
        wheel_sha256=hashlib.sha256(content).hexdigest(),
        size=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        license="",
        note="",
    )


def offline_pip(folder: Path) -> dict[str, str]:
    """This process's environment, with ``folder`` as the only place pip looks in."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return others | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
