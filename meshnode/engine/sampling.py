"""Chooses the next token from a row of logits. The same arguments give the same token, in any batch.

The order is llama.cpp's (``common_sampler_init``): constraint, logit bias, penalties, DRY, then the filters of
:mod:`meshnode.engine.filters`: top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature. Mirostat takes the place of
the filters; llama.cpp then leaves out the penalties and DRY too, which here act where a caller asks for them. The last
step is our own: the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka 2014), which draws from the softmax by
taking the largest of logit plus noise. The noise is a function of (seed, choice, output position, token id) and nothing
else, so that a seed repeats whatever the batch, an answer can be continued elsewhere, and a drawn token can be checked.
That holds up to the numbers the model gives: in a batch of another shape, or on another device, logits differ in their
last digits, and where two scores are nearer than that, the other token may win.

What a choice knows of its past, the tokens so far, it reads from the prompt where it goes on elsewhere. All but
mirostat's ``mu``: it is the sum of surprises whose logits are gone, and begins anew, so that from there on the tokens
are drawn with the same noise, but may be others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.bad_words import BadWords, TokenWords
from meshnode.engine.breakers import NO_BREAKERS, Vocabulary
from meshnode.engine.dry import Dry, acts
from meshnode.engine.filters import Candidates, Chain, tamed
from meshnode.engine.mirostat import Mirostat, surprise
from meshnode.engine.noise import XTC_LANE, noise, uniform
from meshnode.engine.penalties import Bias, Penalties
from meshnode.errors import InvalidField, ModelFailed

Mask = NDArray[np.bool_]
"""Shape ``(n_vocab,)``: which tokens a constraint allows."""


class Sampler:
    """Draws the tokens of one choice. ``prompt`` counts for the penalties, as in llama.cpp, and for ``bad_words``.

    A temperature of 0 or less takes the most probable token the filters left, the lowest id among equals.
    ``bad_words`` are the token sequences of the sampling's own (:func:`meshnode.engine.bad_words.token_words`).
    ``vocabulary`` is asked for DRY's sequence breakers if DRY is on; without one there are none. Raises InvalidField
    for a field that is no number, or out of mirostat's range.
    """

    def __init__(
        self,
        sampling: Sampling,
        *,
        seed: int,
        choice: int,
        prompt: Sequence[int] = (),
        bad_words: TokenWords = (),
        vocabulary: Vocabulary | None = None,
    ) -> None:
        _refuse_nan(sampling)
        self._sampling = sampling
        self._seed = seed
        self._choice = choice
        self._greedy = sampling.temperature <= 0
        self._bias = Bias(sampling.logit_bias)
        self._penalties = Penalties(sampling, prompt)
        self._dry: Dry | None = None
        if acts(sampling):
            known = vocabulary.breakers(sampling.dry_sequence_breakers) if vocabulary else NO_BREAKERS
            self._dry = Dry(sampling, known, prompt)
        self._bad_words = BadWords(bad_words, prompt) if bad_words else None
        self._mirostat = Mirostat(sampling) if sampling.mirostat else None
        self._surprise = (-1, 0.0)
        self._chain: Chain | None = None
        self._scratch: Logits = np.empty(0, dtype=np.float32)

    def draw(self, logits: Logits, position: int, *, banned: Sequence[int] = (), allowed: Mask | None = None) -> int:
        """The token for output position ``position`` (from 0). Never changes ``logits``, shape (n_vocab,).

        Tokens in ``banned``, and those that ``allowed`` (a constraint's) leaves out, are impossible; so is NaN. Raises
        ModelFailed when the model gives no token, InvalidField when the caller's fields leave none, or ``logit_bias``
        names a token the model does not have.
        """
        row = self._adjusted(np.asarray(logits, dtype=np.float32), banned, allowed)
        likeliest = int(row.argmax())
        if not math.isfinite(row[likeliest]):
            row = self._mended(row, logits, allowed)
            likeliest = int(row.argmax())
        if self._chain is None:
            self._chain = Chain(self._sampling, row.size)
        if self._greedy and (self._mirostat or not self._chain.may_drop_the_best):
            return likeliest
        if self._mirostat is not None:
            found = self._mirostat.narrow(row)
            token = self._pick(found, position)
            self._surprise = (token, surprise(found, token))
            return token
        chance = partial(uniform, self._seed, self._choice, position, XTC_LANE)
        return self._pick(self._chain.narrow(row, chance), position)

    def accept(self, token: int) -> None:
        """A token was put out: it counts from now on, and if it was the one drawn, mirostat learns from it."""
        self._penalties.accept(token)
        if self._dry is not None:
            self._dry.accept(token)
        if self._bad_words is not None:
            self._bad_words.accept(token)
        drawn, bits = self._surprise
        if self._mirostat is not None and token == drawn:
            self._mirostat.observe(bits)
            self._surprise = (-1, 0.0)

    def _pick(self, found: Candidates, position: int) -> int:
        """Gumbel-max; where there is no chance, the best."""
        if found.tokens.size == 1:
            return int(found.tokens[0])
        if self._greedy:
            return int(found.tokens[found.logits.argmax()])
        scores = noise(self._seed, self._choice, position, found.tokens)
        scores += found.logits
        return int(found.tokens[scores.argmax()])

    def _adjusted(self, row: Logits, banned: Sequence[int], allowed: Mask | None) -> Logits:
        """The row after bias, penalties and bans; a copy if there are any, in a buffer that the next call reuses.

        A constraint comes first in llama.cpp; here last of these, which is the same, as each of them looks at one token
        alone, and leaves no way back for a token that is ruled out.
        """
        impossible = [*banned, *(self._bad_words.banned() if self._bad_words else ())]
        if not (self._bias or self._penalties or self._dry or impossible or allowed is not None):
            return row
        if self._scratch.size != row.size:
            self._scratch = np.empty(row.size, dtype=np.float32)
        np.copyto(self._scratch, row)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self._bias:
                self._bias.add(self._scratch)
            if self._penalties:
                self._penalties.penalise(self._scratch)
            if self._dry:
                self._dry.penalise(self._scratch)
        if allowed is not None:
            np.minimum(self._scratch, _ceiling(allowed), out=self._scratch)
        if impossible:
            self._scratch[impossible] = -np.inf
        return self._scratch

    def _mended(self, row: Logits, logits: Logits, allowed: Mask | None) -> Logits:
        """The row without what is not finite. Raises what :meth:`draw` says when nothing is left."""
        mended = tamed(row)
        if not np.isneginf(mended).all():
            return mended
        usable = np.isfinite(logits) | np.isposinf(logits)
        if not usable.any():
            raise ModelFailed(
                "The model gave no usable number for any token (all NaN or minus infinity).",
                hint="The model file may be damaged, or the device computes wrongly; try another file, or --cpu.",
            )
        if allowed is not None and not (usable & allowed).any():
            raise InvalidField("the constraint leaves no token that could follow.", param="response_format")
        raise InvalidField(
            self._dead_end(allowed), param="bad_words" if self._bad_words and not self._bias else "logit_bias"
        )

    def _dead_end(self, allowed: Mask | None) -> str:
        """What rules every token out, in words."""
        present = {
            "logit_bias": bool(self._bias),
            "bad_words": self._bad_words is not None,
            "the penalties": bool(self._penalties),
            "the constraint": allowed is not None,
        }
        names = [name for name, given in present.items() if given] or ["what is banned"]
        return f"{' and '.join(names)} {'leaves' if len(names) == 1 else 'together leave'} no token that could follow."


def _ceiling(allowed: Mask) -> Logits:
    """Infinity where a token is allowed, minus infinity elsewhere; arithmetic is six times as fast as a choice."""
    ceiling: Logits = (allowed.astype(np.float32) - np.float32(0.5)) * np.float32(np.inf)
    return ceiling


def _refuse_nan(sampling: Sampling) -> None:
    for name in Sampling.__struct_fields__:
        value = getattr(sampling, name)
        if isinstance(value, float) and math.isnan(value):
            raise InvalidField(f"{name} is not a number.", hint="Leave it out for its default.", param=name)
