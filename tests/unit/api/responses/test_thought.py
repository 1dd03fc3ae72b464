"""Thoughts as ``encrypted_content``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.responses.thought import sealed, unsealed


@given(st.text())
def test_what_is_sealed_is_read_back(text: str) -> None:
    assert unsealed(sealed(text)) == text


@pytest.mark.parametrize("foreign", ["", "gAAAAABm", "mnr1.***", "mnr1._w==", "mnr1.ä"])
def test_what_others_sealed_is_nothing(foreign: str) -> None:
    assert unsealed(foreign) == ""


@given(st.text().map(lambda text: "mnr1." + text))
def test_damaged_content_is_no_error(content: str) -> None:
    assert isinstance(unsealed(content), str)
