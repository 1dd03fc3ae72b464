"""How a constraint is refused: one wording for what is wrong, what is not held, and what is too much."""

from __future__ import annotations

from meshnode.errors import InvalidField, UnsupportedParameter

SIMPLER = "Make the constraint smaller or simpler."


def wrong(where: str, what: str, hint: str = "") -> InvalidField:
    """The error for a constraint that means nothing; ``where`` names keyword and place."""
    return InvalidField(f"{where}: {what}.", hint=hint)


def not_held(where: str, why: str, hint: str = "Leave it out, and check the answer yourself.") -> UnsupportedParameter:
    """The error for what is right but cannot be held while generating; ``where`` names keyword and place."""
    return UnsupportedParameter(f"{where} cannot be held: {why}.", hint=hint)


def too_complex(where: str, what: str) -> InvalidField:
    """The error for a constraint beyond a bound; ``what`` says which, with both numbers where there are any."""
    return InvalidField(f"{where} is too complex: {what}.", hint=SIMPLER)
