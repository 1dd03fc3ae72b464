"""What stands in an exception: trio's nurseries raise groups, and who handles one wants what is inside. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshnode.errors import MeshnodeError


def leaves(error: BaseException) -> Iterator[BaseException]:
    """An exception, or those inside a group of them, however deep."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def ours(error: BaseException) -> MeshnodeError | None:
    """The first error of this tree that an exception is or holds; None when there is none."""
    return next((leaf for leaf in leaves(error) if isinstance(leaf, MeshnodeError)), None)
