"""talk(): a conversation with a handler, without a socket, a server or a framing."""

from __future__ import annotations

from ..handlers import HandlerSpec, Peer, Registry, registry, replies

__all__ = ["talk"]


def talk(
    handler: HandlerSpec,
    *messages: bytes | str,
    own: Registry | None = None,
    peer: Peer | None = None,
) -> list[bytes]:
    """Say these messages to a handler and give everything it replies, in order.

    A greeting comes first. Messages after a Reply that hangs up are not said. The
    handler is told at the end: on_close("reply") if it hung up, else "peer".

    `own` is the registry in which a name is looked up; `peer` is who the handler
    believes to be talking to.

    Errors: whatever the handler raises, after on_close("error").
    """
    protocol = (registry if own is None else own).find(handler)
    conversation = protocol.open(peer or Peer("test", "test", "talk"))
    said: list[bytes] = []
    reason = "error"
    try:
        hung_up = False
        for message in (None, *messages):
            if message is None:
                answer = conversation.on_open()
            else:
                answer = conversation.on_message(
                    message.encode() if isinstance(message, str) else message
                )
            for data, close in replies(answer):
                if data is not None:
                    said.append(data)
                hung_up = hung_up or close
            if hung_up:
                break
        reason = "reply" if hung_up else "peer"
    finally:
        conversation.on_close(reason)
    return said
