"""The Triton server's own virtual environment: the server from wheels, without a container.

It is separate from Bandstand's because the server's Python stubs need numpy 1. Bandstand is not
installed there; `bandstand.triton.server` adds this package to its path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from bandstand.errors import UnavailableError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DOCKER_HINT = "`bandstand triton --docker` shows how to run NVIDIA's image instead"

_STAMP = "complete"
_PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_LAST_LINES = 6


@dataclass(frozen=True, slots=True)
class Environment:
    """A prepared environment.

    Attributes:
        root: its folder; it does not change after it was made.
    """

    root: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.root / "bin" / "python"

    @property
    def server(self) -> Path:
        """The server's program."""
        return self._wheel / "bin" / "tritonserver"

    @property
    def python_backend(self) -> Path:
        """The Python backend, with the stub for this Python."""
        return self.root / "python_backend"

    @property
    def caches(self) -> Path:
        """The server's implementations of a response cache."""
        return self._wheel / "caches"

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to run the server; the rest is inherited."""
        libraries = [_shared_python(), str(self._site_packages / "nvidia_pytriton.libs")]
        libraries += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
        return {
            # The stubs use the first python3 of PATH.
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ in the repository
        }

    @property
    def _site_packages(self) -> Path:
        return self.root / "lib" / f"python{_PYTHON_VERSION}" / "site-packages"

    @property
    def _wheel(self) -> Path:
        return self._site_packages / "pytriton" / "tritonserver"


def environment_key() -> str:
    """Return a hash of everything that determines an environment."""
    made_from = f"{REQUIREMENTS.read_text(encoding='utf-8')}|{sys.version}|{sys.base_prefix}"
    return hashlib.sha256(made_from.encode()).hexdigest()[:16]


def prepare_environment(
    cache_dir: Path, on_step: Callable[[str], None] = lambda _: None
) -> Environment:
    """Return the environment; make it if it is missing.

    If the process is killed meanwhile, the incomplete environment counts as missing. Only one
    process makes it at a time.

    Args:
        cache_dir: the environment is in its folder `triton/<key>`.
        on_step: called with a description of each step.

    Raises:
        UnavailableError: there is no server for this platform, or its packages cannot be installed.
    """
    root = cache_dir / "triton" / environment_key()
    environment = Environment(root)
    if (root / _STAMP).is_file():
        return environment
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{root}.lock"):
            if not (root / _STAMP).is_file():
                shutil.rmtree(root, ignore_errors=True)
                _make(environment, on_step)
                (root / _STAMP).touch()
    except OSError as error:
        raise UnavailableError(f"could not prepare the Triton server in {root}: {error}") from error
    return environment


def _make(environment: Environment, on_step: Callable[[str], None]) -> None:
    if not sys.platform.startswith("linux"):
        raise UnavailableError(f"there is no Triton server for {sys.platform}: {DOCKER_HINT}")
    _shared_python()
    on_step(f"making a virtual environment in {environment.root}")
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment.root)])
    on_step("installing the Triton server and the packages of its models (once; about 200 MB)")
    _install(environment)
    on_step("preparing its Python backend")
    _lay_out_backend(environment)
    on_step("trying it")
    _run(
        [str(environment.python), "-c", "import av, numpy, onnxruntime, scipy.signal, soxr"],
        os.environ | environment.variables,
    )


def _install(environment: Environment) -> None:
    """Install with uv if it is beside this interpreter; without it, or if it fails, with pip."""
    uv = Path(sys.executable).with_name("uv")
    what = ["install", "--no-deps", "--requirement", str(REQUIREMENTS)]
    if uv.is_file():
        try:
            _run(
                # pip compiles by default; otherwise every stub would compile at every start.
                [str(uv), "pip", *what, "--compile-bytecode", "--python", str(environment.python)],
                _uv_variables(),
            )
        except UnavailableError:
            pass  # pip also reads package indexes from its configuration files
        else:
            return
    python = str(environment.python)
    _run([python, "-m", "ensurepip"])
    _run([python, "-m", "pip", *what, "--quiet", "--disable-pip-version-check"])


def _uv_variables() -> dict[str, str]:
    """Return this process's variables, with pip's package indexes as uv's."""
    meant = {
        "UV_FIND_LINKS": "PIP_FIND_LINKS",
        "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
        "UV_INDEX": "PIP_EXTRA_INDEX_URL",
        "UV_NO_INDEX": "PIP_NO_INDEX",
        "SSL_CERT_FILE": "PIP_CERT",
    }
    indexes = {ours: os.environ[pips] for ours, pips in meant.items() if os.environ.get(pips)}
    return indexes | os.environ


def _lay_out_backend(environment: Environment) -> None:
    """Copy the stub for this Python beside the library that starts it."""
    wheel = environment.server.parents[1]
    stub = wheel / "python_backend_stubs" / _PYTHON_VERSION / "triton_python_backend_stub"
    shutil.copytree(wheel / "backends" / "python", environment.python_backend)
    # Installers do not keep the executable bit of files that are not scripts.
    shutil.copy(stub, environment.python_backend)
    (environment.python_backend / stub.name).chmod(0o755)
    environment.server.chmod(0o755)


def _shared_python() -> str:
    """Return the folder of the shared library of Python, which the stubs load.

    Raises:
        UnavailableError: this Python was built without it.
    """
    library = f"libpython{_PYTHON_VERSION}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [f"/usr/lib/{multiarch}"] if multiarch else []
    for folder in filter(None, folders):
        if (Path(folder) / library).is_file():
            return str(folder)
    raise UnavailableError(
        f"this Python has no {library}, which the Triton server needs (Debian has it in "
        f"libpython{_PYTHON_VERSION}): {DOCKER_HINT}"
    )


def _run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(  # noqa: S603 (our own commands)
        command, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        error_lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_LAST_LINES:]
        raise UnavailableError(
            f"could not prepare the Triton server: `{Path(command[0]).name} "
            f"{' '.join(command[1:4])}` failed. Is there a network, or an index or a folder that "
            "PIP_INDEX_URL or PIP_FIND_LINKS names?\n" + "\n".join(error_lines)
        )
