"""Where the tests find the default model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def smollm2_path() -> Path:
    """Path of SmolLM2's GGUF; skips the test, saying how to get it, where there is none."""
    named = os.environ.get("MESHNODE_TEST_MODEL")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "meshnode" / "models"
    path = Path(named) if named else cache / "smollm2-135m-instruct-q4_1.gguf"
    if not path.is_file():
        pytest.skip(f"no SmolLM2 at {path}: scripts/test fetches it, or set MESHNODE_TEST_MODEL")
    return path
