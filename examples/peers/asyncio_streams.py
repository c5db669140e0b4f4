"""asyncio with streams: a coroutine for each connection, on one thread.

    python3 examples/peers/asyncio_streams.py 7100
    echoframe compare --against streams='python3 examples/peers/asyncio_streams.py {port}'

asyncio sets TCP_NODELAY itself.
"""

import asyncio

from _common import BACKLOG, listening, prepare


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        # Whoever leaves in the middle costs nobody a traceback.
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    with listening(port):
        server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(prepare()))
