"""TLS of the API: the server's context, and the names its certificate gives it."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from meshnode.config import ApiSettings
from meshnode.errors import ConfigError


def tls_context(settings: ApiSettings) -> ssl.SSLContext | None:
    """The server's TLS, ``None`` without a certificate. HTTP/1.1 only. Raises ConfigError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for path in (settings.tls_cert, settings.tls_key):
        _check_readable(path)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (ssl.SSLError, OSError):
        raise ConfigError(
            f"{settings.tls_cert} and {settings.tls_key} are not a certificate and its key.",
            hint="Both must be PEM, the key without a passphrase.",
        )
    return context


def certificate_names(settings: ApiSettings) -> frozenset[str]:
    """The names in the certificate, which clients will send as ``Host``; none where there is no readable one.

    Safe to answer to: a page whose name an attacker points at us cannot show a certificate for that name.
    """
    if settings.tls_cert is None:
        return frozenset()
    try:
        certificate = x509.load_pem_x509_certificate(settings.tls_cert.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return frozenset()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    named = (name.lower() for name in names.get_values_for_type(x509.DNSName) if "*" not in name)
    return frozenset((*addresses, *named))


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", hint="Mend its path or its permissions.")
