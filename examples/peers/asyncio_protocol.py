"""asyncio with a protocol: callbacks on one thread.

    python3 examples/peers/asyncio_protocol.py 7100
    echoframe compare --against asyncio='python3 examples/peers/asyncio_protocol.py {port}'

asyncio sets TCP_NODELAY itself.
"""

import asyncio

from _common import BACKLOG, listening, prepare


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    # Whoever does not read what comes back is not read from either.
    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    with listening(port):
        server = await loop.create_server(Echo, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(prepare()))
