"""What serving costs, in micro-credits: a first constant table. Pure.

One credit is 10**6 µc and buys 1,000 output tokens of a model of 8·10⁹ active parameters at 4.5 bits per weight. The
formula is ``output = 125 µc · max(1, active parameters / 10⁹) · clamp(bits per weight / 4.5, 0.7, 2) · (1 + context /
32,768)``, ``input = output / 8``, ``cached input = output / 50``, and no request below 2,000 µc. It is evaluated here
at 4.5 bits per weight and a short context, once for each class of size:

    active parameters   up to 1.5  2.5  3.5    5     9    15    24    36     50     80    130    260   more   · 10⁹
    taken as                  1    2    3    4     8    14    20    32     48     70    120    240    480   · 10⁹
    µc per output token     125  250  375  500  1000  1750  2500  4000   6000   8750  15000  30000  60000

Of a mixture of experts the parameters count that one token needs, and a tenth of the rest.
"""

from __future__ import annotations

from typing import Final

from meshnode.wire.fields import Prices

CREDIT: Final = 1_000_000
"""Micro-credits in a credit."""
REQUEST_UC: Final = 2_000
"""What a request costs however short it is."""

_MILLION: Final = 10**6
_CLASSES: Final = (
    (1_500, 1),
    (2_500, 2),
    (3_500, 3),
    (5_000, 4),
    (9_000, 8),
    (15_000, 14),
    (24_000, 20),
    (36_000, 32),
    (50_000, 48),
    (80_000, 70),
    (130_000, 120),
    (260_000, 240),
)
"""Up to so many millions of active parameters, and what that is taken as, in thousand millions."""
_BEYOND: Final = 480


def prices_for(parameters: int) -> Prices:
    """The prices of a model with so many active parameters; one that does not say how many has the lowest."""
    taken = next((size for most, size in _CLASSES if parameters <= most * _MILLION), _BEYOND)
    output = 125 * taken
    return Prices(input_uc=output // 8, cached_uc=output // 50, output_uc=output, request_uc=REQUEST_UC)


def cost(prices: Prices, *, prompt: int, cached: int, output: int) -> int:
    """What a request costs that took so many tokens: of prompt computed, of prompt found in a cache, of answer.

    Nothing while nothing was delivered; never below ``request_uc`` afterwards, and never less for more tokens.
    """
    if prompt == cached == output == 0:
        return 0
    return max(prices.request_uc, prompt * prices.input_uc + cached * prices.cached_uc + output * prices.output_uc)
