"""Servers of other libraries, all of them raw echo, to lay beside the models.

From the top folder of a clone, by hand, and in a comparison:

    python3 examples/peers/trio_server.py 7100
    echoframe compare --against trio='python3 examples/peers/trio_server.py {port}'

They listen at 127.0.0.1, at the port behind the command, and end on SIGTERM. Where a
library or a tool is missing, or the port is in use, they say so in one sentence, with
exit code 3. python3 is whichever has the libraries: .venv/bin/python, say.

socketserver_threading  the standard library, a thread for each connection
socketserver_forking    the standard library, a process for each connection
asyncio_protocol        asyncio's callbacks, one thread
asyncio_streams         asyncio's coroutines, one thread
uvloop_protocol         the same callbacks on uvloop
gevent_server           greenlets, one thread
trio_server             tasks, one thread
twisted_server          Twisted's callbacks, one thread
node_server             node_echo.mjs: Node's callbacks, one thread
c_epoll                 c_epoll.c: about what one core can do
ncat_server             ncat and cat: two processes for each connection

All of them at once:

    echoframe compare \\
        --against threading='python3 examples/peers/socketserver_threading.py {port}' \\
        --against forking='python3 examples/peers/socketserver_forking.py {port}' \\
        --against asyncio='python3 examples/peers/asyncio_protocol.py {port}' \\
        --against streams='python3 examples/peers/asyncio_streams.py {port}' \\
        --against uvloop='python3 examples/peers/uvloop_protocol.py {port}' \\
        --against gevent='python3 examples/peers/gevent_server.py {port}' \\
        --against trio='python3 examples/peers/trio_server.py {port}' \\
        --against twisted='python3 examples/peers/twisted_server.py {port}' \\
        --against node='python3 examples/peers/node_server.py {port}' \\
        --against c='python3 examples/peers/c_epoll.py {port}' \\
        --against ncat='python3 examples/peers/ncat_server.py {port}'

Each takes as long a queue of newcomers as the kernel lets, sends small replies at once
(TCP_NODELAY), reads no more from whoever does not read, and finishes its replies when
the other side has ended its own. ncat cannot do all of that: see ncat_server.
"""

import os
import sys

# They import _common, which a file finds by itself, and `python3 -m` only with this.
sys.path.append(os.path.dirname(__file__))
