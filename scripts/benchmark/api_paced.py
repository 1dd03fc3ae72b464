"""The command line of a node whose engine computes nothing and keeps time: what is left is the API's own work."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmark.mesh_engine import FixedRate, open_fixed_rate
from meshnode import node
from meshnode.cli.main import main
from meshnode.domain import ModelCard

STEP: Final = "BENCH_STEP_S"
"""The environment variable with the seconds from one token to the next."""


@asynccontextmanager
async def _open_engine(
    _settings: object, _spawn: object, _note: object, card: ModelCard, progress: Callable[[float], None], **_: Any
) -> AsyncIterator[FixedRate]:
    async with open_fixed_rate(card, progress, float(os.environ[STEP])) as engine:
        yield engine


if __name__ == "__main__":
    vars(node)["open_engine"] = _open_engine
    main()
