"""The same handler on every model: who has to wait, and who remembers.

    python3 -m examples.every_model
    python3 -m echoframe models

Four clients ask at the same moment, and each answer takes a tenth of a second. One
after the other they need four tenths. A handler that is copied into a process of
its own counts from the beginning, and one that is copied into each of several
workers counts what its worker has seen.
"""

import time
from itertools import count

import echoframe
from echoframe.testing import running


def show(model: str) -> None:
    numbers = count(1)

    def number(message: bytes) -> str:
        time.sleep(0.1)
        return str(next(numbers))

    answers = []
    with running(number, model) as up:
        began = time.monotonic()
        clients = [up.client() for _ in range(4)]
        for client in clients:
            client.send("which am I?")
        for client in clients:
            with client:
                answers.append(client.receive().decode())
        print(f"{model:8}{time.monotonic() - began:.1f} s   {' '.join(sorted(answers))}")


if __name__ == "__main__":
    for model in echoframe.MODELS:
        show(model)
