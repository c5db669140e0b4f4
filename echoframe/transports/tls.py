"""tls: tcp, and a handshake before the first word.

A listener's connections are wrapped when they are accepted and shake hands where
their conversation runs. Which certificates and which rules: certificates.py.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from ..address import Address
from ..deadlines import milliseconds
from ..errors import EchoframeError, TimedOut, TlsError
from ..framing import CHUNK
from .base import connect_error
from .tcp import Tcp

if TYPE_CHECKING:
    import ssl

__all__ = ["Tls", "TlsFacts", "TlsStream", "explain", "facts_of", "is_of_tls", "secure"]


class Tls(Tcp):
    """A stream to another program that nobody on the way can read or change."""

    scheme = "tls"

    def place_of(self, sock: socket.socket, name: Any) -> Address:
        place = super().place_of(sock, name)
        return Address(self.scheme, place.host, place.port)


class TlsFacts(NamedTuple):
    """What is known about a connection over TLS."""

    # "TLSv1.3"
    version: str
    # "TLS_AES_256_GCM_SHA384"
    cipher: str
    # The host that the client asked for, where it is known.
    server_name: str | None
    # The peer's certificate, verified, in the form of SSLSocket.getpeercert(); None
    # for a peer that showed none or that nobody verified.
    certificate: dict[str, Any] | None


def facts_of(connection: Any) -> TlsFacts | None:
    """Give the facts about an SSLSocket or SSLObject; None where there is no TLS (any more)."""
    ask = getattr(connection, "version", None)
    version = None if ask is None else ask()
    if version is None:
        return None
    cipher = connection.cipher()
    # The attribute is set by the context of a server of ours; a client knows whom it
    # asked for.
    name = getattr(connection, "server_name", None) or connection.server_hostname
    return TlsFacts(version, cipher[0] if cipher else "", name, connection.getpeercert() or None)


class TlsStream:
    """TLS over a connected socket, without ever waiting.

    recv() and send() raise BlockingIOError where those of a non-blocking socket do.
    After that, send() must be called with the same data again.

    Not an SSLSocket: that one's way to announce the end of what we send, unwrap(),
    reads, and throws away what the peer has still said.

    Threads: one may send while another receives.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        import ssl

        sock.setblocking(False)
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side, server_hostname)
        self._wants_more: type[OSError] = ssl.SSLWantReadError
        # The state of a connection is for one thread at a time, and no longer than it
        # takes to compute.
        self._lock = threading.Lock()
        # What was decrypted and not taken, and what comes behind it: b"" for the end,
        # an error, None for more.
        self._clear = bytearray()
        self._behind: bytes | OSError | None = None
        # What was encrypted and not sent, and for how many bytes of send() it stands.
        self._unsent = memoryview(b"")
        self._taken = 0
        self._finished = False

    @property
    def ready(self) -> bool:
        """recv() has something, whatever poll() says about the socket."""
        return bool(self._clear) or self._behind is not None

    @property
    def writes(self) -> bool:
        """Something is waiting to be sent."""
        return bool(self._unsent) or self._out.pending > 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def facts(self) -> TlsFacts | None:
        return facts_of(self._tls)

    def do_handshake(self) -> None:
        """Go on with the handshake.

        Errors: BlockingIOError when it has to wait for the peer; then call it again.
        SSLError when it fails.
        """
        with self._lock:
            while True:
                try:
                    self._tls.do_handshake()
                except self._wants_more:
                    self._flush()
                    self._fill()
                except OSError:
                    try:
                        # What is there to be sent tells the peer why.
                        self._flush()
                    except OSError:
                        # It has gone, or does not read.
                        pass
                    raise
                else:
                    self._flush()
                    # The peer may have said something right behind its handshake.
                    self._decrypt()
                    return

    def recv(self, size: int) -> bytes:
        """Give what the peer said, or b"" when it has announced its end.

        Errors: ConnectionAbortedError when the connection ends without that, or is
        not what it should be.
        """
        with self._lock:
            if not self.ready:
                self._fill()
                self._decrypt()
            if self._clear:
                data = bytes(self._clear[:size])
                del self._clear[:size]
                return data
            if isinstance(self._behind, OSError):
                raise self._behind
            if self._behind is None:
                raise BlockingIOError(errno.EAGAIN, "only a part of what TLS needs has come")
            return self._behind

    def send(self, data: bytes | memoryview) -> int:
        """Send, and tell how much of it; nothing to send is to send what has to wait."""
        with self._lock:
            if data and not self._taken:
                try:
                    self._taken = self._tls.write(memoryview(data)[:CHUNK])
                except self._wants_more:
                    raise BlockingIOError(errno.EAGAIN, "TLS has to read first") from None
            self._flush()
            taken, self._taken = self._taken, 0
            return taken

    def finish(self) -> None:
        """Announce that nothing more will be sent; what the peer says can still be read.

        Errors: BlockingIOError when that has to wait; then send() nothing.
        """
        with self._lock:
            if not self._finished:
                self._finished = True
                try:
                    # It reads as well, but whatever has come whole was decrypted and
                    # is out of its reach.
                    self._tls.unwrap()
                except OSError:
                    # The usual one says that the peer has not announced its own end.
                    pass
            self._flush()

    def _fill(self) -> None:
        data = self._sock.recv(CHUNK)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _decrypt(self) -> None:
        try:
            while data := self._tls.read(CHUNK):
                self._clear += data
            self._behind = b""
        except self._wants_more:
            pass
        except OSError as error:
            if type(error).__name__ == "SSLZeroReturnError":
                # How the peer's end looks once we have announced ours.
                self._behind = b""
            else:
                ragged = type(error).__name__ == "SSLEOFError"
                self._behind = ConnectionAbortedError(
                    errno.ECONNABORTED,
                    "without the closing word of TLS, so this may not be all"
                    if ragged
                    else explain(error, "it"),
                )

    def _flush(self) -> None:
        while self.writes:
            if not self._unsent:
                self._unsent = memoryview(self._out.read())
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        if self._finished:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                # The peer has gone already.
                pass


def secure(
    sock: socket.socket, address: Address, context: ssl.SSLContext, deadline: float, timeout: float
) -> TlsStream:
    """Shake hands as a client, until the deadline of time.monotonic().

    Errors: TlsError, ConnectError or TimedOut, in a sentence; the socket is closed then.
    """
    import ssl

    try:
        # The name as certificates have it: the interface behind a % is this machine's
        # affair.
        host = (address.host or "localhost").partition("%")[0]
        stream = TlsStream(sock, context, server_hostname=host)
        while True:
            try:
                stream.do_handshake()
                return stream
            except BlockingIOError:
                poller = select.poll()
                poller.register(sock, select.POLLOUT if stream.writes else select.POLLIN)
                if not poller.poll(milliseconds(deadline)):
                    raise TimeoutError from None
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise TimedOut(
                f"no TLS handshake with {address} came to its end within {timeout:g} s; "
                "perhaps nobody speaks TLS there",
                errno.ETIMEDOUT,
            ) from None
        if isinstance(error, ssl.SSLEOFError | ConnectionError):
            raise connect_error(
                address,
                OSError(errno.ECONNABORTED, "it hung up in the middle of the TLS handshake"),
                timeout,
            ) from None
        if isinstance(error, ssl.SSLError):
            raise _refusal(address, error) from None
        if isinstance(error, OSError):
            raise connect_error(address, error, timeout) from None
        raise


def _refusal(address: Address, error: ssl.SSLError) -> EchoframeError:
    sentence = explain(error, str(address))
    advice = ""
    if error.reason in _NOT_TLS:
        advice = f"; perhaps it is tcp://{address.name}"
    elif getattr(error, "verify_code", 0) in _UNKNOWN_CA:
        advice = "; if you trust it, name its file"
    return TlsError(sentence + advice, errno.EPROTO)


def is_of_tls(error: BaseException | None) -> bool:
    """It is one of the ssl module's, which need not have been imported."""
    return type(error).__module__ == "ssl"


def explain(error: BaseException, peer: str = "the peer") -> str:
    """Say why a handshake or a connection over TLS failed, from the side of who asks."""
    verified = getattr(error, "verify_code", 0)
    if verified:
        return f"the certificate of {peer} {_verdict(error, verified)}"
    if isinstance(error, TimeoutError):
        return f"{peer} did not shake hands in time"
    reason = getattr(error, "reason", None) or ""
    if reason in _NOT_TLS:
        return f"{peer} does not speak TLS"
    if reason == "UNEXPECTED_EOF_WHILE_READING" or isinstance(error, ConnectionError):
        return f"{peer} hung up in the middle of the handshake"
    if reason in _REASONS:
        return _REASONS[reason].format(peer=peer)
    if isinstance(reason, str) and reason:
        return f"TLS with {peer} failed: {reason.replace('_', ' ').lower()}"
    return f"TLS with {peer} failed: {getattr(error, 'strerror', None) or error}"


# Bytes that are no beginning of TLS. The fourth: our own hello, sent back by an echo.
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "HTTPS_PROXY_REQUEST",
    "UNEXPECTED_MESSAGE",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "LENGTH_MISMATCH",
    "RECORD_TOO_SMALL",
    "BAD_RECORD_TYPE",
)

# What else OpenSSL finds wrong, and what peers say in their alerts, which have names of
# the version that brought them.
_REASONS = {
    "UNSUPPORTED_PROTOCOL": "{peer} has no version of TLS in common with us",
    "TLSV1_ALERT_PROTOCOL_VERSION": "{peer} has no version of TLS in common with us",
    "VERSION_TOO_LOW": "{peer} has no version of TLS in common with us",
    "NO_SHARED_CIPHER": "{peer} has no cipher in common with us that our certificate allows",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "{peer} refused the handshake: it has no cipher in common "
    "with us, or wants a certificate of ours",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "{peer} showed no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "{peer} wants a certificate of ours",
    "TLSV1_ALERT_UNKNOWN_CA": "{peer} does not know the CA that signed our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "{peer} does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "{peer} does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "{peer} does not accept our certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "{peer} does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "to {peer} our certificate is revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "to {peer} our certificate has expired",
    "TLSV1_UNRECOGNIZED_NAME": "{peer} serves no host of that name",
}

# X509_V_ERR_...: as the numbers of <openssl/x509_vfy.h>, which ssl does not name.
_SELF_SIGNED = 18
_UNKNOWN_CA = (_SELF_SIGNED, 19, 20, 21)
_VERDICTS = {
    9: "is not valid yet",
    10: "has expired",
    _SELF_SIGNED: "is signed by itself, and not known here",
    19: "is signed by a CA that is not known here",
    20: "is signed by a CA that is not known here",
    21: "is signed by a CA that is not known here",
    26: "is not meant for this purpose",
    62: "is for another host",
    64: "is for another host",
}


def _verdict(error: Any, code: int) -> str:
    return _VERDICTS.get(code) or f"cannot be verified: {error.verify_message}"
