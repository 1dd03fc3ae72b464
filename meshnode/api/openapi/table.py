"""Every path of the API: the table that its description is made from. A test holds it against what is registered."""

from __future__ import annotations

from typing import Final

from meshnode.api.openapi.endpoint import Endpoint
from meshnode.api.openapi.generating import GENERATING
from meshnode.api.openapi.kept import KEPT
from meshnode.api.openapi.node import NODE
from meshnode.api.openapi.owner import OWNER

ENDPOINTS: Final[tuple[Endpoint, ...]] = (*GENERATING, *KEPT, *NODE, *OWNER)
