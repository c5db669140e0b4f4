"""Node, started from here: callbacks on one thread, on libuv.

    python3 examples/peers/node_server.py 7100
    echoframe compare --against node='python3 examples/peers/node_server.py {port}'

The server is node_echo.mjs. This file says so where there is no node, else becomes it.
"""

import os
import shutil
from pathlib import Path

from _common import cannot, prepare

if __name__ == "__main__":
    port = prepare()
    node = shutil.which("node")
    if node is None:
        cannot("node is not installed: apt install nodejs, or see nodejs.org")
    os.execv(node, [node, str(Path(__file__).with_name("node_echo.mjs")), str(port)])
