"""A reasoning item's ``encrypted_content``, by which a client without a store sends a thought back. Pure.

OpenAI seals its models' thoughts; an open model's stand in the item's ``content`` for everybody to read. Some clients
send back only the sealed form, so the thought goes into it once more: opaque, but no secret. What another service has
sealed cannot be read here and counts as nothing.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

_MARK: Final = "mnr1."


def sealed(text: str) -> str:
    """The thought as ``encrypted_content``."""
    return _MARK + base64.urlsafe_b64encode(text.encode()).decode("ascii")


def unsealed(content: str) -> str:
    """The thought that :func:`sealed` put in; empty where somebody else did."""
    if not content.startswith(_MARK):
        return ""
    try:
        return base64.b64decode(content[len(_MARK) :].encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        return ""
