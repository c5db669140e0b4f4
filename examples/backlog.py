"""What waits in the kernel's backlog, and what the kernel does when that is full.

    python3 -m examples.backlog

A server listens once it is made, and accepts once it serves. In between, Linux
takes as many connections as the backlog says and one more, and what they send. The
next one hears nothing, and its own kernel asks again after a second.
"""

import select
import socket
import threading

import echoframe

if __name__ == "__main__":
    with echoframe.ThreadServer("tcp://127.0.0.1:0", "echo", backlog=2) as server:
        peers = {name: socket.socket() for name in ("Ann", "Bob", "Cid", "Dan")}
        for name, peer in peers.items():
            peer.settimeout(0.5)
            try:
                peer.connect((server.address.host, server.address.port))
                peer.sendall(name.encode())
                print(f"{name} is connected, and has said so; nobody has accepted")
            except TimeoutError:
                print(f"{name} hears nothing: the backlog is full")
        print("Now the server accepts.", flush=True)
        threading.Thread(target=server.serve_forever).start()
        for name, peer in peers.items():
            with peer:
                if name == "Dan" and select.select([], [peer], [], 10)[1]:
                    peer.sendall(b"Dan, at last")
                peer.settimeout(10)
                print(f"{name} got {peer.recv(1024)!r}")
