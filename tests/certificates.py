"""Certificates for the tests, made when they run."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any, NamedTuple

DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key, in files."""

    cert: Path
    key: Path


class Authority:
    """A CA, whose certificate stands in the file `ca`."""

    def __init__(self, folder: Path, name: str) -> None:
        import trustme

        self._folder = folder
        self._name = name
        self._count = 0
        self._authority = trustme.CA()
        self.ca = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(self, *names: str, **keywords: Any) -> Pair:
        """Sign a certificate for these names."""
        made = self._authority.issue_cert(*names, **keywords)
        self._count += 1
        pair = Pair(
            *(self._folder / f"{self._name}-{self._count}.{kind}" for kind in ("crt", "key"))
        )
        made.cert_chain_pems[0].write_to_path(str(pair.cert))
        made.private_key_pem.write_to_path(str(pair.key))
        return pair


class Certificates(Authority):
    """The CA that the tests trust, and a server's pair that it signed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "ca")
        self.folder = folder
        self.cert, self.key = self.issue("localhost", "127.0.0.1", "::1")
        # A CA that nobody trusts.
        self.stranger = Authority(folder, "stranger")

    @property
    def settings(self) -> dict[str, Any]:
        """What a server is told."""
        return {"tls_cert": self.cert, "tls_key": self.key}

    def expired(self) -> Pair:
        return self.issue("localhost", "127.0.0.1", not_after=_now() - DAY)

    def premature(self) -> Pair:
        return self.issue("localhost", "127.0.0.1", not_before=_now() + DAY)

    def server_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """What a foreign server is made of."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(pair or (self.cert, self.key)))
        return context

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """What a foreign client is made of."""
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
