"""TLS of the port: from files to what a listening socket needs."""

from __future__ import annotations

import ssl

from skate.serve._targets import TLSFiles
from skate.serve.exceptions import RayServeException


def context_of(files: TLSFiles) -> ssl.SSLContext:
    """Return a server's context: TLS 1.2 and later, HTTP/1.1 only.

    Args:
        files: certificate and key; with ``ca_certs`` clients need a certificate, too.

    Raises:
        RayServeException: they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password of ours, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(files.certfile, files.keyfile, files.password or "")
    except (OSError, ValueError) as error:
        raise RayServeException(
            f"serve cannot answer HTTPS with the certificate {files.certfile} and the key {files.keyfile}: "
            f"{error}. Check ssl_certfile, ssl_keyfile and ssl_keyfile_password in http_options"
        ) from None
    if files.ca_certs is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.ca_certs)
        except OSError as error:
            raise RayServeException(
                f"serve cannot check clients by the certificates in {files.ca_certs}: {error}. Check "
                "ssl_ca_certs in http_options"
            ) from None
    return context
