"""What a started node says of its models."""

from __future__ import annotations

from meshnode.engine.fake import FakeBackend
from meshnode.ready import ReadyModel, ready_model
from tests.kit.requests import card


def test_a_model_is_told_of_as_loading_it_found_it() -> None:
    info = FakeBackend(n_ctx=2048).info
    assert ready_model(card("m"), info) == ReadyModel(
        id="m", parameters=0, context_length=2048, layers=1, gpu_layers=0, devices=("FAKE",), decode_tps=0.0
    )
