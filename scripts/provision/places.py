"""Where setting up reads and writes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.faults import SetupFault


@dataclass(frozen=True)
class Places:
    """The two folders everything lies under: this checkout, and a cache that outlives it."""

    checkout: Path
    cache: Path

    @property
    def venv(self) -> Path:
        """The checkout's own environment."""
        return self.checkout / ".venv"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.venv / "bin" / "python"

    @property
    def program(self) -> Path:
        """The installed command."""
        return self.venv / "bin" / "meshnode"

    @property
    def stamp(self) -> Path:
        """What was installed into the environment; written last, so that it never promises too much."""
        return self.venv / "setup.json"

    @property
    def mutex(self) -> Path:
        """Held by whoever is changing .venv; outside the checkout, so that a checkout holds nothing but itself."""
        return self.cache / "locks" / f"venv-{hashlib.sha256(os.fsencode(self.checkout)).hexdigest()[:16]}.lock"

    def lock_file(self, name: str) -> Path:
        """One of the hash-locked requirement sets: base, run, test, engine-build, engine, model."""
        return self.checkout / "scripts" / "requirements" / f"{name}.lock"

    @property
    def model(self) -> Path:
        """SmolLM2 as the tests use it."""
        return self.cache / "models" / "smollm2-135m-instruct-q4_1.gguf"

    @property
    def templates(self) -> Path:
        """The chat templates of llama.cpp's source, as of the engine that is locked."""
        lock = self.lock_file("engine").read_text(encoding="utf-8")
        return self.cache / "templates" / hashlib.sha256(lock.encode()).hexdigest()[:12]


def find_places(checkout: Path, environ: Mapping[str, str]) -> Places:
    """Places of ``checkout``, with the cache where the XDG rules put it.

    Raises SetupFault where the cache cannot be made.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(os.path.expanduser("~")) / ".cache"
    cache = root / "meshnode"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupFault(
            f"The cache folder {cache} cannot be made: {error.strerror}.",
            "Point XDG_CACHE_HOME at a folder you can write to.",
        ) from None
    return Places(checkout, cache)
