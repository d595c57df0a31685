"""The service's own TLS: a certificate and its key, found good before anything starts."""

from __future__ import annotations

import ssl

from kernel_sandbox.service.settings import ServerSettings, SettingsError


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Read the certificate and the key; None where the service speaks plain HTTP. Raises SettingsError."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None:
        return None
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            with open(path or "", "rb"):
                pass
        except OSError as exc:
            raise SettingsError(f"{name} = {str(path)!r} cannot be read ({exc.strerror}).") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password of its own it would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or str(exc)
        raise SettingsError(
            f"{certificate} and {key} are not a certificate and its key, in PEM and without a password ({reason}): "
            "give the certificate with its chain as tls_certificate, and the key that it was made for as tls_key."
        ) from exc
    return context
