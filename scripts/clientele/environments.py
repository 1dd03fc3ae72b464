"""Environments of the clients under test: made once from their locks in the cache folder, outside the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
READY: Final = "ready"
INSTALL_S: Final = 1800.0
OLDEST_NODE: Final = 20


class Unavailable(Exception):
    """An environment cannot be set up here; the message says why, for the table."""


def cache() -> Path:
    """Where environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshnode" / "clients"


def python(name: str) -> Path:
    """The interpreter of the environment that ``requirements/NAME.lock`` describes. Raises Unavailable."""
    lock = HERE / "requirements" / f"{name}.lock"

    def fill(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(_interpreter(folder)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run([*pip, "--no-compile", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)])

    return _interpreter(_made(name, [lock], fill))


def npm(name: str) -> Path:
    """The folder whose ``node_modules`` hold what ``NAME/package-lock.json`` names. Raises Unavailable."""
    node()
    files = [HERE / name / "package.json", HERE / name / "package-lock.json"]

    def fill(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], folder)

    return _made(f"npm-{name}", files, fill)


def node() -> str:
    """The version of Node. Raises Unavailable where there is none, no npm, or one that is too old."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise Unavailable("no node and npm on this machine")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if int(version.lstrip("v").partition(".")[0] or 0) < OLDEST_NODE:
        raise Unavailable(f"node {version} is older than {OLDEST_NODE}")
    return version


def _made(name: str, sources: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    """The folder for ``name``, filled once for each content of ``sources``; what was made for another goes."""
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = cache() / f"{name}-{digest}"
    if (folder / READY).exists():
        return folder
    for old in cache().glob(f"{name}-*"):
        shutil.rmtree(old)
    folder.mkdir(parents=True)
    print(f"Setting up {name} in {folder} …", file=sys.stderr, flush=True)
    fill(folder)
    (folder / READY).touch()
    return folder


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a step; raises Unavailable with its last words."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{Path(command[0]).name} failed: {error}") from error
    if done.returncode:
        words = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-3:]
        raise Unavailable(f"{Path(command[0]).name} ended with status {done.returncode}: {' '.join(words)[-300:]}")
