"""uvloop, the loop of libuv: callbacks on one thread.

    python3 examples/peers/uvloop_protocol.py 7100
    echoframe compare --against uvloop='python3 examples/peers/uvloop_protocol.py {port}'

The program is that of asyncio_protocol.py. uvloop sets TCP_NODELAY itself.
"""

from _common import cannot, prepare
from asyncio_protocol import serve

try:
    import uvloop
except ImportError:
    cannot("uvloop is not installed: pip install uvloop")

if __name__ == "__main__":
    uvloop.run(serve(prepare()))
