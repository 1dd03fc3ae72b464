"""Find the models that other programs have on this machine already, without copying them.

    Ollama        manifests/<host>/<namespace>/<model>/<tag> name a blob of blobs/sha256-<digest>
    LM Studio     models/<publisher>/<repository>/<file>.gguf
    hub cache     models--<owner>--<repo>/snapshots/<revision>/<file>.gguf, a link to blobs/<digest>
    llama.cpp     <file>.gguf in one folder

Walks are bounded and never enter a linked folder; a linked file counts only where it leads to a file of the same place.
What cannot be read is reported, and the rest is still found. Blocks: callers use a thread.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from meshnode.models.quantisation import split_label

MAX_DEPTH = 8
MAX_ENTRIES = 20_000
"""Directory entries looked at in one place."""
MAX_MANIFEST = 1 << 20
_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_HEX = re.compile(r"[0-9a-f]{64}")
_LATER_SHARD = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)

Layout = Literal["ollama", "files"]


class Place(NamedTuple):
    """A folder in which a program keeps models; ``source`` is how its cards are marked."""

    source: str
    root: Path
    layout: Layout


class Found(NamedTuple):
    """A file that seems to be a model; ``name`` as its program calls it, ``sha256`` '' where that does not say."""

    path: Path
    name: str
    sha256: str
    source: str


class Problem(NamedTuple):
    """Something that could not be read, and why."""

    path: Path
    reason: str


def places(user_home: Path, environ: Mapping[str, str]) -> list[Place]:
    """Where to look, in order, each folder once. Pure."""
    cache = Path(environ.get("XDG_CACHE_HOME") or user_home / ".cache")
    hub = Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"
    candidates = [
        Place("ollama", Path(environ.get("OLLAMA_MODELS") or user_home / ".ollama" / "models"), "ollama"),
        Place("ollama", Path("/usr/share/ollama/.ollama/models"), "ollama"),
        Place("lm-studio", user_home / ".lmstudio" / "models", "files"),
        Place("lm-studio", user_home / ".cache" / "lm-studio" / "models", "files"),
        Place("hub-cache", Path(environ.get("HF_HUB_CACHE") or hub), "files"),
        Place("llama.cpp", Path(environ.get("LLAMA_CACHE") or cache / "llama.cpp"), "files"),
        Place("llama.cpp", user_home / "Library" / "Caches" / "llama.cpp", "files"),
    ]
    return list({place.root: place for place in reversed(candidates)}.values())[::-1]


def find_models(looked_in: list[Place]) -> tuple[list[Found], list[Problem]]:
    """Everything the places hold, each file once, and what could not be read."""
    problems: list[Problem] = []
    found: dict[str, Found] = {}
    for place in looked_in:
        if not place.root.is_dir():
            continue
        look = _ollama if place.layout == "ollama" else _files
        for item in look(place, problems):
            found.setdefault(os.path.realpath(item.path), item)
    return list(found.values()), problems


def _walk(root: Path, problems: list[Problem]) -> Iterator[Path]:
    """Files below ``root`` (linked ones too), bounded in depth and number; linked folders are not entered."""
    left = MAX_ENTRIES
    folders = [(root, 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            problems.append(Problem(folder, os.strerror(error.errno or 0)))
            continue
        for entry in entries:
            left -= 1
            if left < 0:
                problems.append(Problem(root, f"more than {MAX_ENTRIES} entries; the rest was not looked at"))
                return
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    folders.append((Path(entry.path), depth + 1))
            elif not (entry.is_symlink() and Path(entry.path).is_dir()) and _is_text(Path(entry.path), problems):
                yield Path(entry.path)


def _inside(path: Path, root: Path, problems: list[Problem]) -> Path | None:
    """Where ``path`` really lies, if that is a plain file beneath ``root``."""
    try:
        real = Path(os.path.realpath(path, strict=True))
        mode = real.stat().st_mode
    except OSError as error:
        problems.append(Problem(path, os.strerror(error.errno or 0)))
        return None
    if not _is_text(real, problems):
        return None
    if not stat.S_ISREG(mode) or not real.is_relative_to(os.path.realpath(root)):
        problems.append(Problem(path, "leads out of its folder"))
        return None
    return real


def _is_text(path: Path, problems: list[Problem]) -> bool:
    """Whether index and API, which are JSON, can hold this path."""
    shown = str(path).encode(errors="backslashreplace").decode()
    if shown != str(path):
        problems.append(Problem(Path(shown), "its name is not UTF-8 text"))
    return shown == str(path)


def _files(place: Place, problems: list[Problem]) -> Iterator[Found]:
    for path in _walk(place.root, problems):
        name = path.name
        if not name.lower().endswith(".gguf") or _LATER_SHARD.search(name):
            continue
        if name.lower().startswith(("mmproj", "imatrix")):
            continue
        real = _inside(path, place.root, problems)
        if real is None:
            continue
        if place.source == "llama.cpp":
            name = re.sub(r"^.*GGUF_", "", name, flags=re.IGNORECASE)
        yield Found(real, name, real.name if _HEX.fullmatch(real.name) else "", place.source)


def _ollama(place: Place, problems: list[Problem]) -> Iterator[Found]:
    manifests = place.root / "manifests"
    if not manifests.is_dir():
        return
    for path in _walk(manifests, problems):
        digest = _model_digest(path, problems)
        if digest is None:
            continue
        blob = _inside(place.root / "blobs" / f"sha256-{digest}", place.root, problems)
        if blob is not None:
            yield Found(blob, _ollama_name(path.relative_to(manifests)), digest, place.source)


def _model_digest(path: Path, problems: list[Problem]) -> str | None:
    """The digest of the model layer of a manifest; ``None`` where it has none (a remote model)."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST:
            raise ValueError
        layers = json.loads(path.read_bytes())["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == _MODEL_LAYER]
        found = [_DIGEST.fullmatch(digest) for digest in digests]
    except OSError as error:
        problems.append(Problem(path, os.strerror(error.errno or 0)))
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        problems.append(Problem(path, "not a manifest"))
        return None
    if len(found) > 1 or None in found:
        problems.append(Problem(path, "split over several blobs" if len(found) > 1 else "names no sha256"))
        return None
    return found[0][1] if found and found[0] is not None else None


def _ollama_name(path: Path) -> str:
    """``llama3.2-3b`` of ``registry/library/llama3.2/3b``; a quantisation at the tag's end stays apart."""
    *_, model, tag = ("", "", *path.parts)
    if tag == "latest":
        return model
    base, label = split_label(f"-{tag}")
    return f"{model}{base.rstrip('-')}" + (f"-{label}" if label else "")
