"""Certificates in files to contexts of ssl, with a sentence for whatever is wrong with them.

ssl is imported inside the functions: a program that never says tls:// does not wait
for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SettingError

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerTls", "client_context", "server_context"]

Path = str | os.PathLike[str]

# How a line of PEM ends; before it may stand of which kind it is.
_CERTIFICATE = b"CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"

# What OpenSSL calls a key that belongs to another certificate.
_OTHERS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
# And a certificate that nobody should trust any more.
_TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


class ServerTls(NamedTuple):
    """What a server was told about TLS, in the words of its keywords."""

    tls: ssl.SSLContext | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    tls_require_client_cert: bool = False

    @property
    def given(self) -> list[str]:
        """The names of those that say anything."""
        return [name for name, value in self._asdict().items() if value not in (None, False)]


def server_context(told: ServerTls, takes_any_end: bool = False) -> ssl.SSLContext:
    """Give what connections are wrapped with, of files that are read now.

    `takes_any_end` is for programs that know nothing of TLS: an end that the peer has
    not announced is then one like another, and not answered with an error.

    Errors: SettingError.
    """
    import ssl

    if told.tls is not None:
        if len(told.given) > 1:
            raise SettingError(f"tls is a whole context; {told.given[1]} would be lost beside it")
        _check_context(told.tls, ssl.PROTOCOL_TLS_CLIENT)
        return told.tls
    if told.tls_cert is None:
        raise SettingError(
            "a tls:// address needs a certificate: name its file in tls_cert, and its key's in "
            "tls_key"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A peer could make us compute a handshake for each of its few bytes, for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Tickets would be sent behind the handshake. A peer that sends, never reads and
    # hangs up would have them unread, and its kernel would answer them with a reset,
    # which can overtake what it sent.
    context.num_tickets = 0
    context.sni_callback = _note_server_name
    if takes_any_end:
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    _load_pair(context, told.tls_cert, told.tls_key)
    if told.tls_ca is not None:
        _load_ca(context, told.tls_ca, "tls_ca")
        context.verify_mode = ssl.CERT_OPTIONAL
    if told.tls_require_client_cert:
        if told.tls_ca is None:
            raise SettingError(
                "tls_require_client_cert needs tls_ca: the file of the CA that signs the peers' "
                "certificates"
            )
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    tls: Any = None, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Give what a client's connection is wrapped with.

    Errors: SettingError.
    """
    import ssl

    if isinstance(tls, ssl.SSLContext):
        if cert is not None or key is not None:
            raise SettingError("tls is a whole context; tls_cert would be lost beside it")
        _check_context(tls, ssl.PROTOCOL_TLS_SERVER)
        return tls
    if tls is None or tls is True:
        context = ssl.create_default_context()
    elif tls is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif isinstance(tls, str | os.PathLike):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Whoever names a file trusts what is in it, and if it is a server's certificate.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load_ca(context, tls, "tls")
    else:
        raise SettingError(
            f"tls takes a CA's file, an ssl.SSLContext, or False to verify nobody, not {tls!r}"
        )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if cert is not None or key is not None:
        if cert is None:
            raise SettingError("tls_key needs tls_cert: the certificate that belongs to the key")
        _load_pair(context, cert, key)
    return context


def _check_context(context: Any, wrong_side: int) -> None:
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise SettingError(f"tls takes an ssl.SSLContext, not {context!r}")
    if context.protocol == wrong_side:
        server = wrong_side == ssl.PROTOCOL_TLS_CLIENT
        here, there = ("server", "client") if server else ("client", "server")
        raise SettingError(
            f"tls is a context for a {there}, and this is a {here}: make it with "
            f"ssl.SSLContext(ssl.PROTOCOL_TLS_{here.upper()})"
        )


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    import ssl

    # OpenSSL says no more than "PEM lib" to most of this.
    text = _read(cert, "tls_cert")
    if _CERTIFICATE not in text:
        raise SettingError(
            f"{_named('tls_cert', cert)} holds no certificate in PEM form, which begins with "
            "-----BEGIN CERTIFICATE-----"
        )
    whose = ("tls_cert", cert) if key is None else ("tls_key", key)
    if _KEY not in (text if key is None else _read(key, "tls_key")):
        raise SettingError(
            f"{_named(*whose)} holds no private key in PEM form"
            + ("; name the key's file in tls_key" if key is None else "")
        )
    try:
        # Without a function that answers, OpenSSL would ask at the terminal.
        context.load_cert_chain(cert, key, password=_refuse_to_ask)
    except _Encrypted:
        raise SettingError(
            f"the key in {_named(*whose)} is encrypted, and nobody is there to be asked for its "
            f"passphrase; decrypt it with: openssl pkey -in {os.fspath(whose[1])} -out plain.pem"
        ) from None
    except ssl.SSLError as error:
        if error.reason in _OTHERS_KEY:
            raise SettingError(
                f"the key in {_named(*whose)} does not belong to the certificate in "
                f"{_named('tls_cert', cert)}"
            ) from None
        if error.reason in _TOO_WEAK:
            raise SettingError(
                f"{_named('tls_cert', cert)} is too weak for the TLS of this machine "
                f"({_spoken(error.reason)}); make a new one, with 2,048 bits of RSA or more"
            ) from None
        raise SettingError(
            f"{_named('tls_cert', cert)} and its key cannot be used: what stands between "
            "-----BEGIN and -----END is damaged"
            + (f" ({_spoken(error.reason)})" if error.reason else "")
        ) from None
    except OSError as error:
        raise SettingError(f"{_named(*whose)}: {error.strerror or error}") from None


def _load_ca(context: ssl.SSLContext, path: Path, name: str) -> None:
    import ssl

    if os.path.isdir(path):
        context.load_verify_locations(capath=path)
        return
    _read(path, name)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise SettingError(
            f"{_named(name, path)} holds no CA's certificate in PEM form, which begins with "
            "-----BEGIN CERTIFICATE-----"
        ) from None


def _read(path: Path, name: str) -> bytes:
    if not isinstance(path, str | os.PathLike):
        # open() takes numbers too, for descriptors that are somebody else's.
        raise SettingError(f"{name} takes the path of a file, not {path!r}")
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{_named(name, path)} cannot be read: {reason}") from None


def _named(name: str, path: Path) -> str:
    return f"{name}={str(path)!r}"


def _spoken(reason: str) -> str:
    return reason.replace("_", " ").lower()


class _Encrypted(Exception):
    pass


def _refuse_to_ask() -> str:
    raise _Encrypted


def _note_server_name(sock: Any, name: str | None, context: ssl.SSLContext) -> None:
    sock.server_name = name
