"""What may be done to a conversation that is longer than the model's context ⇄ the domain, and how it is told. Pure.

Source: OpenRouter's API: ``transforms: ["middle-out"]``, or the same as a plugin, ``{"id": "context-compression"}``.
Nothing is ever left out unasked, and how much was stands in a header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.fields import check_names, convert, unsupported
from meshnode.events import Event, Started

MIDDLE_OUT: Final = "middle-out"
HEADER: Final = "x-mesh-transform"

Transforms = Annotated[
    list[Literal["middle-out"]], msgspec.Meta(max_length=1, description='an array that is empty or holds "middle-out"')
]
Plugins = Annotated[list[dict[str, Any]], msgspec.Meta(max_length=8, description="an array of at most 8 plugins")]


class PluginFields(msgspec.Struct, kw_only=True):
    """``plugins[]``."""

    id: str
    enabled: bool | None = None
    engine: Literal["middle-out"] | None = None


def transforms(named: Sequence[str] | None, plugins: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...]:
    """The domain's transforms. Raises InvalidField, UnknownField or UnsupportedParameter, which name the plugin."""
    found = [_plugin(plugin, f"plugins[{at}]") for at, plugin in enumerate(plugins or ())]
    return (MIDDLE_OUT,) if named or any(found) else ()


def transform_headers(events: Iterable[Event | None]) -> dict[str, str]:
    """The header of an answer that begins so: what was done to its conversation, if anything was."""
    dropped = sum(event.dropped for event in events if isinstance(event, Started))
    return {HEADER: f"{MIDDLE_OUT}; dropped={dropped}"} if dropped else {}


def _plugin(raw: Mapping[str, Any], path: str) -> bool:
    """Whether it asks for the one transform there is."""
    kind = raw.get("id")
    if isinstance(kind, str) and kind != "context-compression":
        raise unsupported(f"{path}.id", 'Served: "context-compression".', what=f" {kind[:32]!r}")
    check_names(raw, PluginFields, {}, path=path)
    return convert(raw, PluginFields, path=path).enabled is not False
