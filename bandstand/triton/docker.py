"""The same repository in NVIDIA's container image: commands to build and run it."""

from __future__ import annotations

import shlex
from pathlib import Path

import bandstand
import bandstand_client
from bandstand.triton.server import ServerOptions, as_arguments, serving_flags

NVIDIA_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
"""Of the same release as the wheel's server (2.51.0), so that the wheel's stub fits."""
OUR_IMAGE = f"bandstand-triton:{bandstand.__version__}"

_STUB = "pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub"
_DOCKERFILE = f"""\
FROM {NVIDIA_IMAGE}
COPY . /opt/bandstand/bandstand
COPY --from=client . /opt/bandstand/bandstand_client
RUN pip install uv && export UV_PYTHON_INSTALL_DIR=/opt/uv && uv venv --python 3.11 /opt/python \\
 && uv pip install --python /opt/python/bin/python --no-deps \\
      --requirement /opt/bandstand/bandstand/triton/requirements.txt \\
 && install /opt/python/lib/python3.11/site-packages/{_STUB} \\
      /opt/tritonserver/backends/python/ \\
 && cp --dereference /opt/uv/*/lib/libpython3.11.so.1.0 /usr/local/lib/ && ldconfig
ENV PATH=/opt/python/bin:$PATH PYTHONPATH=/opt/bandstand
"""


def dockerfile() -> str:
    """Return the Dockerfile: NVIDIA's image, and the Python of the audio models."""
    return _DOCKERFILE


def build_command() -> str:
    """Return the command that builds the image, with the Dockerfile on standard input."""
    package, client = (
        str(Path(str(each.__file__)).resolve().parent) for each in (bandstand, bandstand_client)
    )
    command = ["docker", "build", "--tag", OUR_IMAGE, "--build-context", f"client={client}"]
    return shlex.join([*command, "--file", "-", package])


def run_command(options: ServerOptions) -> str:
    """Return the command that serves the repository from the image, on GPUs if there are any.

    The server's stubs share memory with it; Docker's default of 64 MB is not enough.
    """
    ports = {options.http_port: 8000, options.grpc_port: 8001, options.metrics_port: 8002}
    docker = ["docker", "run", "--rm", "--gpus=all", "--shm-size=1g"]
    for outside, inside in ports.items():
        docker += ["--publish", f"{options.host}:{outside}:{inside}"]
    docker += ["--volume", f"{options.repository.resolve()}:/models:ro", OUR_IMAGE]
    served = ["tritonserver", "--model-repository=/models", *as_arguments(serving_flags(options))]
    return shlex.join(docker + served)
