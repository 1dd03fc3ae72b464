"""Log-probabilities of tokens, from a model's raw logits. Pure.

They say what the model thought, before any bias, penalty, grammar or filter, as OpenAI's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from meshnode.engine.backend import Logits
from meshnode.engine.filters import Candidates, best, tamed
from meshnode.events import TokenLogprob

IMPOSSIBLE: Final = -9999.0
"""What stands for minus infinity, which JSON cannot say; OpenAI's number."""


def logprobs(logits: Logits, chosen: int, top: int, piece: Callable[[int], bytes]) -> TokenLogprob:
    """The natural-log probability of ``chosen`` and of the ``top`` likeliest tokens, equal ones by id.

    ``logits`` has shape (n_vocab,) and is only read. Sums are float64. NaN counts as impossible, infinity as certain
    (several share it). Raises nothing for logits of any kind; ``chosen`` must be a token of the model.
    """
    row = np.asarray(logits, dtype=np.float32)
    peak = float(row.max())
    if not math.isfinite(peak):
        row = tamed(row)
        peak = float(row.max())
    total = peak + math.log(np.exp(row.astype(np.float64) - peak).sum()) if math.isfinite(peak) else 0.0
    found = best(row, min(top, row.size)) if top > 0 else Candidates(np.empty(0, np.int64), np.empty(0))
    likeliest = tuple(
        (token, piece(token), max(logit - total, IMPOSSIBLE))
        for token, logit in zip(found.tokens.tolist(), found.logits.tolist(), strict=True)
    )
    return TokenLogprob(
        token_id=chosen, token=piece(chosen), logprob=max(float(row[chosen]) - total, IMPOSSIBLE), top=likeliest
    )
