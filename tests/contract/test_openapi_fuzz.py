"""Schemathesis makes up requests from the OpenAPI page: no 5xx, no undocumented answer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


def test_made_up_requests_get_documented_answers(server_url: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    options = {
        "--checks": CHECKS,
        "--phases": "examples,coverage,fuzzing",
        "--max-examples": "30",
        "--seed": "1",
        "--suppress-health-check": "all",
    }
    run = subprocess.run(
        [program, "run", f"{server_url}/openapi.json", *(p for o in options.items() for p in o)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", run.stdout)
    assert tested is not None, run.stdout[-2000:]
    assert int(tested.group(1)) == 11, "every path of the page was tried"
