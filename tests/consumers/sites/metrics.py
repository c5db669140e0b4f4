"""prometheus_client's endpoint; over TLS with a certificate and key."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import prometheus_client
from prometheus_client.metrics_core import GaugeMetricFamily

from tests.consumers.sites.pages import begun


class Slow:
    """A figure that takes its time."""

    def describe(self) -> list[Any]:
        return [GaugeMetricFamily("slow", "hello")]

    def collect(self) -> Iterator[Any]:
        begun()
        yield GaugeMetricFamily("slow", "hello", value=1)


def main(*pair: str) -> None:
    registry = prometheus_client.CollectorRegistry()
    registry.register(Slow())
    prometheus_client.Gauge("quick", "hello", registry=registry)
    keywords: dict[str, Any] = dict(zip(("certfile", "keyfile"), pair, strict=False))
    server, thread = prometheus_client.start_http_server(
        0, "127.0.0.1", registry=registry, **keywords
    )
    print(f"Serving at http://127.0.0.1:{server.server_port}", flush=True)
    thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
