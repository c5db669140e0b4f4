"""trio: a task for each connection, on one thread.

    python3 examples/peers/trio_server.py 7100
    echoframe compare --against trio='python3 examples/peers/trio_server.py {port}'

trio sets TCP_NODELAY itself.
"""

from _common import BACKLOG, cannot, listening, prepare

try:
    import trio
except ImportError:
    cannot("trio is not installed: pip install trio")


async def echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        # What is raised here would end every other task with this one.
        pass


async def serve(port: int) -> None:
    with listening(port):
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1", backlog=BACKLOG)
    await trio.serve_listeners(echo, listeners)


if __name__ == "__main__":
    trio.run(serve, prepare())
