"""Whatever is asked for and whatever a model gives, the sampler gives a token or a named error; warnings are errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import Sampling
from meshnode.engine.sampling import Sampler
from meshnode.errors import InvalidField, MeshnodeError, ModelFailed

absurd = st.sampled_from([0.0, -0.0, -1.0, 1.0, 1e-9, 1e9, -1e9, 1e300, -1e300, 5e-324, math.inf, -math.inf, math.nan])
counts = st.sampled_from([0, 1, -1, 3, 10**9, -(10**9), 10**30, -(10**30)])
absurd_samplings = st.fixed_dictionaries(
    {},
    optional={
        name: absurd if kind == "float" else counts
        for name, kind in Sampling.__annotations__.items()
        if kind in ("float", "int") and name != "mirostat"
    }
    | {"mirostat": st.sampled_from([0, 1, 2, 3, -1]), "logit_bias": st.lists(st.tuples(st.integers(-1, 3), absurd))},
)
absurd_rows = st.lists(
    st.floats(width=32, allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 3e38, -3e38]), min_size=6
)


@settings(deadline=None, max_examples=400)
@given(absurd_samplings, absurd_rows, st.lists(st.integers(0, 5), max_size=8), st.booleans())
def test_absurd_values_give_a_token_or_a_named_error(
    fields: dict[str, Any], values: list[float], prompt: list[int], constrained: bool
) -> None:
    logits = np.array(values, dtype=np.float32)
    allowed = np.arange(logits.size) % 2 == 0 if constrained else None
    fields["logit_bias"] = tuple(fields.get("logit_bias", ()))
    refused: MeshnodeError | None = None
    try:
        sampler = Sampler(Sampling(**fields), seed=1, choice=0, prompt=prompt, bad_words=((1, 2), (4,)))
        for position in range(3):
            token = sampler.draw(logits, position, allowed=allowed)
            assert 0 <= token < logits.size
            assert token != 4
            assert allowed is None or allowed[token]
            sampler.accept(token)
    except (InvalidField, ModelFailed) as error:
        refused = error
    if isinstance(refused, InvalidField):
        assert refused.param
    elif refused is not None:
        assert not (np.isfinite(logits) | np.isposinf(logits)).any()
