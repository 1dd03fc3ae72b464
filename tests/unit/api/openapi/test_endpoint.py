"""Records of the table."""

from __future__ import annotations

from meshnode.api.openapi.endpoint import path_parameters


def test_what_stands_in_braces_is_a_parameter() -> None:
    assert path_parameters("/v1/models/{model}/chat/completions") == ["model"]
    assert path_parameters("/v1/models") == []
