"""A conversation over UDP: a message comes, and some datagrams go back."""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections.abc import Callable
from itertools import chain
from typing import Any

from ..handlers import Handler, replies

__all__ = ["answer_datagram", "send_datagram"]

logger = logging.getLogger("echoframe.server")


def answer_datagram(
    handler: Handler,
    message: bytes,
    sock: socket.socket,
    client_address: Any,
    trace: Callable[[bytes], None] | None = None,
) -> None:
    """A whole conversation over UDP: one message, any number of datagrams back.

    Errors: what the handler raised.
    """
    reason = "error"
    try:
        if trace is not None:
            trace(message)
        # One after the other: on_message() is called when the greeting is sent.
        answers = (ask() for ask in (handler.on_open, lambda: handler.on_message(message)))
        for data, close in chain.from_iterable(map(replies, answers)):
            if data is not None:
                send_datagram(sock, data, client_address)
            if close:
                reason = "reply"
                break
        else:
            reason = "peer"
    finally:
        handler.on_close(reason)


def send_datagram(sock: socket.socket, data: bytes, client_address: Any) -> None:
    try:
        try:
            sock.sendto(data, client_address)
        except BlockingIOError:
            # The socket is everybody's and does not block; its buffer empties fast.
            writable = select.poll()
            writable.register(sock, select.POLLOUT)
            writable.poll(1000)
            sock.sendto(data, client_address)
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            logger.warning("a reply of %d bytes does not fit into a datagram", len(data))
        else:
            # Datagrams may be lost anywhere on their way; this one was lost here.
            logger.debug("a datagram could not be sent: %s", error)
