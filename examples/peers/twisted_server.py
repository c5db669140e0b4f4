"""Twisted: callbacks on one thread.

    python3 examples/peers/twisted_server.py 7100
    echoframe compare --against twisted='python3 examples/peers/twisted_server.py {port}'

It runs on the reactor that Twisted chooses by itself: on Linux, epoll.
"""

from _common import BACKLOG, cannot, listening, prepare

try:
    from twisted.internet import error, interfaces, protocol, reactor
    from zope.interface import implementer
except ImportError:
    cannot("twisted is not installed: pip install twisted")


@implementer(interfaces.IHalfCloseableProtocol)
class Echo(protocol.Protocol):
    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        # It pauses itself: whoever does not read what comes back is not read from either.
        self.transport.registerProducer(self.transport, streaming=True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        # Without this method, what is not yet written is lost at the end of input.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


if __name__ == "__main__":
    port = prepare()
    factory = protocol.Factory.forProtocol(Echo)
    factory.noisy = False
    with listening(port):
        try:
            reactor.listenTCP(port, factory, backlog=BACKLOG, interface="127.0.0.1")
        except error.CannotListenError as refused:
            raise refused.socketError from None
    reactor.run()
