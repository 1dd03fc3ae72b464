"""One of several constraints, whichever the model goes for: each holds as long as the text agrees with it. Pure.

So an answer can be held to a schema or be a call, without a grammar that knows of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Holds(Protocol):
    """How far one text has come under what it is held to; :class:`meshnode.engine.constrain.matcher.Matcher` is one."""

    def mask(self) -> Mask:
        """Which tokens may come next; valid until the next call. Raises InvalidField."""

    def accept(self, token: int) -> None:
        """The token was chosen. Raises InvalidField where the mask did not have it."""

    def fork(self) -> Holds:
        """Another text that has come as far."""

    @property
    def ended(self) -> bool:
        """Whether nothing may follow but an end token."""


class Either:
    """A :class:`Holds` of several, in whatever way the text can still go on."""

    def __init__(self, options: Sequence[Holds]) -> None:
        self._options = list(options)
        self._masks: list[Mask] = []

    def mask(self) -> Mask:
        """What any of them allows. Raises InvalidField."""
        self._masks = [option.mask().copy() for option in self._options]
        allowed: Mask = np.logical_or.reduce(self._masks)
        return allowed

    def accept(self, token: int) -> None:
        """The token was chosen: those that do not allow it are out. Raises InvalidField where none does."""
        masks = self._masks if len(self._masks) == len(self._options) else [one.mask().copy() for one in self._options]
        going = [option for option, mask in zip(self._options, masks, strict=True) if mask[token]]
        self._options = going or self._options
        self._masks = []
        for option in self._options:
            option.accept(token)

    def fork(self) -> Either:
        """Another text that has come as far."""
        return Either([option.fork() for option in self._options])

    @property
    def ended(self) -> bool:
        """Whether nothing may follow, whichever it is."""
        return all(option.ended for option in self._options)
