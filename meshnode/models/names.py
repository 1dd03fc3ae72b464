"""What models are called: one canonical id per file, found again by whatever part of it people type. Pure.

An id is ``name:quantisation`` in lower case, such as ``smollm2-135m-instruct:q4_1``. Names never become path
components: managed files are named by their hash (:mod:`meshnode.models.store`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from meshnode.domain import ModelCard, ModelId
from meshnode.errors import ModelNotFound
from meshnode.models.gguf import GgufMetadata
from meshnode.models.quantisation import is_label, normal_label, refines, split_label

MAX_NAME = 96
_UNSAFE = re.compile(r"[^a-z0-9._-]+")
_VAGUE = {"", "model", "ggml-model", "gguf", "main", "unknown", "llama"}
_SHOWN = 3


def slug(text: str) -> str:
    """``text`` in lower case with only ``a-z 0-9 . _ -``, neither beginning nor ending in punctuation."""
    return _UNSAFE.sub("-", text.lower()).strip("-._")[:MAX_NAME].strip("-._")


def split_name(text: str) -> tuple[str, str | None]:
    """What a user typed, as ``(name, quantisation)``, both lower case.

    Only a known label after the last colon is a quantisation: Ollama's ``llama3.2:3b`` is the name ``llama3.2-3b``,
    and ``:latest`` says nothing.
    """
    base, colon, tag = text.strip().rpartition(":")
    if not colon:
        return slug(text), None
    if is_label(tag):
        return slug(base), normal_label(tag)
    return slug(base) if tag.lower() == "latest" else slug(f"{base}-{tag}"), None


def canonical_id(name: str, metadata: GgufMetadata) -> ModelId:
    """The id of a file that is called ``name`` (a file stem, an Ollama tag, what a user chose).

    The name's own label is kept where the file bears it out; a vague name gives way to the file's metadata.
    """
    base, label = split_name(name) if ":" in name else split_label(name.removesuffix(".gguf"))
    if ":" in name and label is None:
        base, label = split_label(base)
    base = slug(base)
    if base in _VAGUE:
        base = _described(metadata) or "model"
    quantisation = label if label is not None and refines(label, metadata.quantisation) else metadata.quantisation
    return ModelId(f"{base}:{quantisation}")


def distinct_id(wanted: ModelId, sha256: str, taken: Mapping[ModelId, str]) -> ModelId:
    """``wanted``, or with a piece of the hash in it where ``taken`` (id to hash) gives that id to other weights."""
    if taken.get(wanted, sha256) == sha256:
        return wanted
    base, _, quantisation = wanted.rpartition(":")
    return ModelId(f"{base[: MAX_NAME - 7]}-{sha256[:6]}:{quantisation}")


def match(
    name: str,
    cards: Sequence[ModelCard],
    aliases: Mapping[str, str] | None = None,
    *,
    default: ModelId | None = None,
) -> ModelCard:
    """The card a user means. Raises ModelNotFound with the nearest names.

    Rules, in order: an alias stands for its target; a whole id is itself; a name without quantisation is the
    ``default`` model where that has this name, else the largest file of that name (then the first by id).
    Case never counts.
    """
    wanted = unaliased(name, aliases or {})
    base, label = split_name(wanted)
    exact = [card for card in cards if card.id == f"{base}:{label}" or card.id == wanted.strip().lower()]
    if exact:
        return exact[0]
    if label is None:
        named = sorted((card for card in cards if card.id.rpartition(":")[0] == base), key=lambda c: (-c.size, c.id))
        for card in named:
            if card.id == default:
                return card
        if named:
            return named[0]
    raise _not_found(name, cards, aliases or {})


def unaliased(name: str, aliases: Mapping[str, str]) -> str:
    """Follow aliases (of aliases) to the end; a ring of them ends where it closes."""
    folded = {alias.strip().lower(): target for alias, target in aliases.items()}
    seen: set[str] = set()
    while (key := name.strip().lower()) in folded and key not in seen:
        seen.add(key)
        name = folded[key]
    return name


def _not_found(name: str, cards: Sequence[ModelCard], aliases: Mapping[str, str]) -> ModelNotFound:
    shown = repr(name if len(name) <= MAX_NAME else name[:MAX_NAME] + "...")
    if not cards:
        return ModelNotFound(f"no model {shown}: there are no models here.", hint="Fetch one: meshnode pull default")
    ids = [str(card.id) for card in cards]
    near = nearest(name, [*ids, *(id_.rpartition(":")[0] for id_ in ids), *aliases])
    if near:
        return ModelNotFound(f"no model {shown}.", hint=f"Did you mean {' or '.join(near)}?", param="model")
    some = ", ".join(sorted(ids)[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
    return ModelNotFound(f"no model {shown}.", hint=f"There are: {some}", param="model")


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """Up to three of ``known`` that look most like ``name``, best first."""
    folded = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.strip().lower()[:MAX_NAME], list(folded), n=_SHOWN, cutoff=0.5)
    return [folded[item] for item in close]


def _described(metadata: GgufMetadata) -> str:
    parts = [part for part in (metadata.basename, metadata.size_label, metadata.finetune) if part]
    return slug("-".join(parts) if metadata.basename else metadata.name) or slug(metadata.architecture)
