"""The same repository in NVIDIA's container image: commands to build and run it.

The models that take audio run in the image's own Python, with its own stub: a stub fits only the
Python backend of its release. They need no more of the image than its version of Python, which the
build checks.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import bandstand
import bandstand_client
from bandstand.triton.server import ServerOptions, as_arguments, control_flags, serving_flags

NVIDIA_IMAGE = "nvcr.io/nvidia/tritonserver:26.06-py3"
"""After the security fixes of 25.07 and 25.08 (control of the server through its Python backend)
and 25.10; on Ubuntu 24.04."""
PYTHON_VERSION = (3, 12)
"""Of that image, and of the wheels that are installed there."""
OUR_IMAGE = f"bandstand-triton:{bandstand.__version__}"
KEY_VARIABLE = "TRITON_KEY"

_ONLY_WITHOUT_CONTAINER = "nvidia-pytriton|onnxruntime|flatbuffers"
"""Requirements that are the server and its backend, which the image has."""
_PACKAGES = "/opt/bandstand/packages"
_DOCKERFILE = f"""\
FROM {NVIDIA_IMAGE}
COPY . /opt/bandstand/bandstand
COPY --from=client . /opt/bandstand/bandstand_client
RUN python3 -c "import sys; assert sys.version_info[:2] == {PYTHON_VERSION}, sys.version" \\
 && grep --extended-regexp --invert-match '^({_ONLY_WITHOUT_CONTAINER})==' \\
      /opt/bandstand/bandstand/triton/requirements.txt > /opt/bandstand/requirements.txt \\
 && python3 -m pip install --no-cache-dir --no-deps --target {_PACKAGES} \\
      --requirement /opt/bandstand/requirements.txt \\
 && python3 -c "import pathlib, sysconfig; \\
      pathlib.Path(sysconfig.get_path('purelib'), 'bandstand.pth').write_text( \\
      'import sys; sys.path[:0] = [\\'/opt/bandstand\\', \\'{_PACKAGES}\\']')" \\
 && python3 -c "import av, numpy, scipy.signal, soxr, bandstand.pipelines.genre"
"""


def dockerfile() -> str:
    """Return the Dockerfile: NVIDIA's image, and the packages of the audio models."""
    return _DOCKERFILE


def build_command() -> str:
    """Return the command that builds the image, with the Dockerfile on standard input."""
    package, client = (
        str(Path(str(each.__file__)).resolve().parent) for each in (bandstand, bandstand_client)
    )
    command = ["docker", "build", "--tag", OUR_IMAGE, "--build-context", f"client={client}"]
    return shlex.join([*command, "--file", "-", package])


def key_command() -> str:
    """Return the command that puts the key of `BANDSTAND_ADMIN_KEY` for Triton into a variable."""
    return f"{KEY_VARIABLE}=$(bandstand triton --control-key)"


def run_command(options: ServerOptions) -> str:
    """Return the command that serves the repository from the image, on GPUs if there are any.

    It takes the server's key from the shell's variable `TRITON_KEY`. The server's stubs share
    memory with it; Docker's default of 64 MB is not enough.
    """
    ports = {options.http_port: 8000, options.grpc_port: 8001, options.metrics_port: 8002}
    docker = ["docker", "run", "--rm", "--gpus=all", "--shm-size=1g"]
    for outside, inside in ports.items():
        docker += ["--publish", f"{options.host}:{outside}:{inside}"]
    docker += ["--volume", f"{options.repository.resolve()}:/models:ro", OUR_IMAGE]
    served = ["tritonserver", "--model-repository=/models", *as_arguments(serving_flags(options))]
    # Without the key the command ends here; quotes around `$` would keep the shell from reading it.
    key = f'"${{{KEY_VARIABLE}:?}}"'
    return " ".join([shlex.join(docker + served), *control_flags(key)])
