"""A service whose process ends while it starts, each time; it writes down when."""

from __future__ import annotations

import os
import time
from pathlib import Path

import bentoml

if "BENTOML_RUNNER_MAP" in os.environ:  # only in the processes that the supervisor starts
    with Path(os.environ["CRASHES"]).open("a") as file:
        file.write(f"{time.monotonic()}\n")
    os._exit(1)


class _Crashing:
    pass


Crashing = bentoml.service(_Crashing, name="crashing")
