"""A Locust scenario: mixed recordings to `POST /predict`, each answer compared with its reference.

    locust -f benchmarks/locustfile.py --host http://127.0.0.1:3000 --clips ~/Music
    locust -f benchmarks/locustfile.py --headless -u 8 -r 2 -t 60s --host http://127.0.0.1:3000

Exit code: 1 when a request failed or fewer than 99 % of the answers have the right label.
`bandstand bench` measures what Locust does not: latency from when a request was due.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.runners import MasterRunner

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
LEAST_ACCURACY = 0.99

logger = logging.getLogger("bandstand.locust")


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, and the label that the model gives it in process."""

    name: str
    content: bytes = field(repr=False)
    genre: str


@dataclass(slots=True)
class Tally:
    """How many answers have the right label."""

    answers: int = 0
    right: int = 0

    @property
    def share(self) -> float:
        """Of the answers, from 0 to 1; nothing answered is nothing right."""
        return self.right / self.answers if self.answers else 0.0


_clips: list[Clip] = []
_tally = Tally()


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Add the scenario's own options to Locust's."""
    parser.add_argument("--clips", default=str(SAMPLES), help="recordings to send (samples/)")
    parser.add_argument("--model", default="", help="model to ask (the server's default)")


@events.init.add_listener
def load_clips(environment: Environment, **_: Any) -> None:
    """Read the recordings, and have their labels made by the same model, in f32 on ONNX Runtime.

    Before the test starts: the time that this takes is none of its run time.
    """
    if isinstance(environment.runner, MasterRunner):  # its workers send the requests
        return
    options = environment.parsed_options
    _clips[:] = reference_clips(options.clips, options.model)


@events.test_start.add_listener
def begin(**_: Any) -> None:
    """Count anew: tests may be started again and again from Locust's page."""
    _tally.answers = _tally.right = 0


def reference_clips(folder: str, model: str) -> list[Clip]:
    """Return the recordings of a folder with their labels.

    A process of its own makes them: this one's standard library is patched for gevent.
    """
    asked = ["--model", model] if model else []
    found = subprocess.run(
        [sys.executable, "-m", "bandstand_cli", "classify", folder, "--json", *asked],
        env={**os.environ, "BANDSTAND_RUNTIME": "onnxruntime", "BANDSTAND_PRECISION": "f32"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    return [
        Clip(Path(a["path"]).name, Path(a["path"]).read_bytes(), a["primary_genre"])
        for a in answers
    ]


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Fail the run when too many answers were wrong."""
    if isinstance(environment.runner, MasterRunner):
        return
    logger.info("%d answers, %.4g %% of them right", _tally.answers, 100 * _tally.share)
    if environment.stats.total.num_failures or _tally.share < LEAST_ACCURACY:
        environment.process_exit_code = 1


class Listener(FastHttpUser):
    """Somebody who has one recording after the other named."""

    wait_time = between(0.0, 0.2)

    @task
    def classify(self) -> None:
        """Send one recording; a wrong label is a failed request."""
        clip = random.choice(_clips)  # noqa: S311
        model = self.environment.parsed_options.model
        with self.client.post(
            f"/predict?model_name={model}" if model else "/predict",
            data=clip.content,
            headers={"Content-Type": "application/octet-stream"},
            name=f"/predict {Path(clip.name).suffix}",
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            _tally.answers += 1
            genre = response.json()["primary_genre"]
            _tally.right += genre == clip.genre
            if genre != clip.genre:
                response.failure(f"{clip.name}: {genre} instead of {clip.genre}")
