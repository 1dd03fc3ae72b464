"""Values in JSON: bytes as ``hex:…``, records with the names of their fields."""

from __future__ import annotations

from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """A decoded MessagePack value (lists, dicts, scalars) as JSON can hold it."""
    if isinstance(value, bytes):
        return f"hex:{value.hex()}"
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def named(value: Any) -> Any:
    """A record as a dict of its fields, by name, and what they hold likewise."""
    if isinstance(value, msgspec.Struct):
        fields = {name: named(getattr(value, name)) for name in value.__struct_fields__}
        return {"record": type(value).__name__} | fields
    if isinstance(value, dict):
        return {str(key): named(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [named(inner) for inner in value]
    return plain(value)
