"""Alice, Bob and Carol: three peers whose keys are always the same."""

from __future__ import annotations

from meshnode.identity import Identity


def identity(name: str) -> Identity:
    """The identity that belongs to ``name``, the same in every run."""
    return Identity(name.encode().ljust(32, b"p")[:32], name.encode().ljust(32, b"l")[:32])


ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
