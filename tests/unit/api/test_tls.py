"""TLS of the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.api.tls import certificate_names, tls_context
from meshnode.config import ApiSettings
from meshnode.errors import ConfigError
from tests.kit.certificates import self_signed


def test_tls_needs_a_certificate_with_its_key(tmp_path: Path) -> None:
    assert tls_context(ApiSettings()) is None
    cert, key = self_signed(tmp_path)
    assert tls_context(ApiSettings(tls_cert=cert, tls_key=key)) is not None
    for settings in (
        ApiSettings(tls_cert=cert, tls_key=cert),
        ApiSettings(tls_cert=tmp_path / "none", tls_key=key),
        ApiSettings(tls_cert=key, tls_key=key),
    ):
        with pytest.raises(ConfigError):
            tls_context(settings)


def test_the_certificates_names_are_hosts_of_ours(tmp_path: Path) -> None:
    cert, _ = self_signed(tmp_path, "Node.Example", "*.example")
    assert certificate_names(ApiSettings(tls_cert=cert)) == {"127.0.0.1", "node.example"}
    assert certificate_names(ApiSettings(tls_cert=tmp_path / "none")) == frozenset()
    assert certificate_names(ApiSettings()) == frozenset()
