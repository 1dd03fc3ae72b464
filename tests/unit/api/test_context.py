"""What the node will hand in is what the API asks for: checked by mypy, and by name when tests run."""

from __future__ import annotations

import pytest

from meshnode.api import context
from meshnode.engine.pool import Pool
from meshnode.engine.slot import ModelState
from meshnode.mesh.answer import Dispatcher
from meshnode.mesh.local import LocalDispatcher
from meshnode.mesh.view import MeshView
from meshnode.models.library import Library
from meshnode.models.pull import PullProgress
from tests.kit.fakemesh import FakeMesh


def fits(
    library: Library, pool: Pool, state: ModelState, progress: PullProgress, dispatcher: LocalDispatcher
) -> tuple[context.Library, context.Pool, context.ModelStateView, context.PullProgressView, Dispatcher]:
    return library, pool, state, progress, dispatcher


def stands_in(mesh: FakeMesh) -> MeshView:
    return mesh


@pytest.mark.parametrize(
    ("real", "asked"),
    [(Library, context.Library), (Pool, context.Pool), (LocalDispatcher, Dispatcher), (FakeMesh, MeshView)],
)
def test_the_real_ones_have_every_method_the_api_calls(real: type, asked: type) -> None:
    names = {name for name in vars(asked) if not name.startswith("_")}
    assert names <= set(dir(real))
