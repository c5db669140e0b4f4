"""Tests of a Django project with a live server: `manage.py test tests.consumers.sites.live`."""

from __future__ import annotations

import http.client
import socketserver
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from django.contrib.contenttypes.models import ContentType
from django.test import LiveServerTestCase


class Live(LiveServerTestCase):  # type: ignore[misc]  # Any, where Django is not installed
    """The database is in memory: the threads of the server share the connection of the test."""

    def setUp(self) -> None:
        self.clients: list[Any] = []

    def tearDown(self) -> None:
        for client in self.clients:
            client.close()

    def client_of(self) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection(urlsplit(self.live_server_url).netloc, timeout=15)
        self.clients.append(made)
        return made

    def ask(self, client: http.client.HTTPConnection, verb: str, path: str) -> bytes:
        client.request(verb, path)
        reply = client.getresponse()
        assert reply.status == 200
        return reply.read()

    def test_what_the_server_sees_and_what_the_test_does(self) -> None:
        first, second = self.client_of(), self.client_of()
        ContentType.objects.create(app_label="made", model="by the test")
        assert self.ask(first, "GET", "/kinds") == b"1"
        assert self.ask(second, "POST", "/kinds?name=one") == b"2"
        assert ContentType.objects.filter(app_label="made").count() == 2
        # On the connection that it has kept.
        assert self.ask(first, "POST", "/kinds?name=two") == b"3"

    def test_many_in_turn(self) -> None:
        for number in range(20):
            said = self.ask(self.client_of(), "POST", f"/kinds?name=n{number}")
            assert said == b"%d" % (number + 1)

    def test_the_server_is_socketservers(self) -> None:
        thread = self.server_thread
        assert isinstance(thread.httpd, socketserver.ThreadingMixIn)
        print("made of", *(kind.__name__ for kind in type(thread.httpd).__mro__), flush=True)

    @classmethod
    def _terminate_thread(cls) -> None:
        began = time.monotonic()
        super()._terminate_thread()
        print(f"stopped in {(time.monotonic() - began) * 1000:.0f} ms", flush=True)
        left = [thread.name for thread in threading.enumerate() if thread.is_alive()]
        assert left == ["MainThread"], left
