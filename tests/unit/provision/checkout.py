"""A small checkout with stand-ins for the programs that setting up runs."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from provision.places import Places

LOCK = "llama-cpp-python==1.2.3 \\\n    --hash=sha256:00\n"


def script(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + textwrap.dedent(body))
    path.chmod(0o755)
    return path


def small_checkout(root: Path) -> Places:
    """A checkout, with a space in its path, that has the files setting up reads."""
    places = Places(root / "check out", root / "ca che")
    places.cache.mkdir(parents=True)
    for name in ("base", "run", "test", "engine", "engine-build", "model"):
        lock = places.lock_file(name)
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_text(LOCK if name == "engine" else f"{name}==1 \\\n    --hash=sha256:00\n")
    (places.checkout / "pyproject.toml").write_text("[project]\n")
    return places


def path_with(folder: Path) -> dict[str, str]:
    """An environment whose PATH begins with ``folder``."""
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
