"""The seam itself; what both sides of it do is in ``tests/contract/test_backend.py``."""

from __future__ import annotations

from typing import get_type_hints

from meshnode.engine.backend import Aborted, Backend, NoSpace, Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.llama.model import LlamaBackend


def test_every_implementation_has_the_whole_seam() -> None:
    seam = {name for name in vars(Backend) if not name.startswith("_")}
    for implementation in (FakeBackend, LlamaBackend):
        assert seam <= set(dir(implementation)), implementation


def test_signatures_agree() -> None:
    for name in ("tokenize", "piece", "decode", "remove", "copy", "set_abort"):
        wanted = get_type_hints(getattr(Backend, name))
        for implementation in (FakeBackend, LlamaBackend):
            assert get_type_hints(getattr(implementation, name)) == wanted, (implementation, name)


def test_running_out_of_cells_and_being_stopped_are_told_apart() -> None:
    assert not issubclass(NoSpace, Aborted)
    assert not issubclass(Aborted, NoSpace)


def test_a_row_is_what_llama_cpp_wants_of_a_token() -> None:
    assert Row(seq=1, token=2, pos=3, logits=True) == (1, 2, 3, True)
