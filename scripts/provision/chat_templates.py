"""The chat templates that llama.cpp is tested with, for the tests: taken out of the engine's own source package."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from provision.faults import ModelFetchFailed
from provision.lockfile import held
from provision.places import Places
from provision.process import child_environment, last_words, run
from provision.screen import Progress

_INSIDE = re.compile(r"[^/]+/vendor/llama\.cpp/models/templates/([A-Za-z0-9._-]+\.jinja)")


def fetch(places: Places, environ: Mapping[str, str]) -> Path:
    """Puts the templates into the cache, once; returns their folder. Raises ModelFetchFailed.

    An interrupted fetch leaves nothing.
    """
    folder = places.templates
    with held(places.cache / "locks" / "templates.lock", "fetching the tests' chat templates"):
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            Progress("Fetching the chat templates for the tests", clock=time.monotonic),
            tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
        ):
            _download(places, Path(scratch), environ)
            unpack(next(Path(scratch).glob("*.tar.gz")), folder, Path(scratch, "templates"))
    return folder


def _download(places: Places, folder: Path, environ: Mapping[str, str]) -> None:
    log = places.cache / "logs" / "templates.log"
    log.unlink(missing_ok=True)
    pip = [str(places.python), "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command = [*pip, "--no-binary", "llama-cpp-python", "-d", str(folder), "-r", str(places.lock_file("engine"))]
    status = run(command, log=log, environ=child_environment(environ))
    if status != 0:
        raise ModelFetchFailed(
            f"The tests' chat templates could not be fetched (exit status {status}):",
            *(f"    {line}" for line in last_words(log)),
            f"The whole log: {log}. Mend the cause (often: no network).",
        )


def unpack(package: Path, target: Path, draft: Path) -> None:
    """Takes the templates out of the source package, and renames their folder to ``target`` when it is whole."""
    draft.mkdir()
    with tarfile.open(package) as members:
        for member in members:
            found = _INSIDE.fullmatch(member.name)
            content = members.extractfile(member) if found and member.isfile() else None
            if found and content:
                with content, Path(draft, found[1]).open("wb") as copy:
                    shutil.copyfileobj(content, copy)
    if not any(draft.iterdir()):
        raise ModelFetchFailed(f"{package.name} holds no chat templates.", "Nothing was kept of it.")
    draft.rename(target)
