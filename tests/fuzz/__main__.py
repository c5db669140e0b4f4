"""The deep profile until the time is up: python -m tests.fuzz [MINUTES]

Round after round with other seeds, a line for each. What fails is shown, and kept in
.hypothesis/, so that the next run begins with it. Exit code 1 if anything did.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time


def main(minutes: float) -> int:
    end = time.monotonic() + minutes * 60
    rounds = failed = 0
    while (left := end - time.monotonic()) > 0:
        seed = random.randrange(2**32)
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "tests/fuzz", "-q", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, "--hypothesis-profile=deep", f"--hypothesis-seed={seed}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=left,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"seed {seed}: the time was up in the middle of it", flush=True)
            break
        rounds += 1
        if done.returncode:
            failed += 1
            print(done.stdout)
        last = done.stdout.strip().rpartition("\n")[2]
        print(f"seed {seed}: {last} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{rounds} rounds in {minutes:g} minutes, {failed} with failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60))
