"""Every animal of echoframe.testing.bad_clients is a scenario, on each transport that it visits."""

from __future__ import annotations

from echoframe.testing.bad_clients import ZOO, Animal, Healthy, release

from .peers import milliseconds
from .scenario import Failed, Scenario, need, put
from .stage import Stage

KINDS = ("tcp", "tls", "udp")


def _play(animal: Animal, on: Stage) -> str:
    slowest = 0.0
    for scheme in animal.on:
        if scheme not in KINDS:
            continue
        up = on.kept(scheme)
        try:
            [visit] = release(
                up.address,
                [animal],
                healthy=Healthy(within=on.patience / 2),
                many=on.count(200, 20),
                seconds=on.patience,
                pace=0.05,
                mib=on.count(16, 2),
                during=not on.one_at_a_time,
            )
            need(visit.ok, f"{scheme}: {visit.said}")
        except Exception as error:
            on.forget(scheme)
            if isinstance(error, Failed):
                raise
            raise Failed(f"{scheme}: {error}") from None
        slowest = max(slowest, visit.slowest or 0.0)
    return f"slowest {milliseconds(slowest)}"


def _scenario(animal: Animal) -> Scenario:
    kinds = ", ".join(kind for kind in KINDS if kind in animal.on)
    title = f"A peer {animal.does} ({kinds})"
    return Scenario(f"animal-{animal.name}", title, lambda on: _play(animal, on), False, {}, 60.0)


for each in ZOO.values():
    put(_scenario(each))
