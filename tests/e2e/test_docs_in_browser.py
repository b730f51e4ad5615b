"""`/docs` works in a browser that can reach only this server."""

from __future__ import annotations

from pathlib import Path

import httpx

from harness.browser import visit

REFUSED = "Content Security Policy"
OWN_PAGE = """\
<meta http-equiv="Content-Security-Policy" content="script-src 'none'">
<script>document.title = "ran"</script>
<img src="http://127.0.0.1:9/own.png"><img src="http://example.org/foreign.png">
"""


def test_operations_are_shown_without_the_internet(server_url: str, tmp_path: Path) -> None:
    predict = httpx.get(f"{server_url}/openapi.json").json()["paths"]["/predict"]["post"]
    group = predict.get("tags", ["default"])[0]
    # The link opens the operation, so that its form and examples are drawn too.
    seen = visit(f"{server_url}/docs#/{group}/{predict['operationId']}", tmp_path)
    for path in ("/predict", "/analyze/features", "/models", "/readyz"):
        assert f'data-path="{path}"' in seen.dom, path
    assert "opblock-body" in seen.dom, "no operation is open"
    assert predict["summary"] in seen.dom
    assert [line for line in seen.console if REFUSED in line or "Uncaught" in line] == []
    assert f"{server_url}/openapi.json" in seen.asked
    assert {url for url in seen.asked if not url.startswith(f"{server_url}/")} == set()


def test_a_foreign_address_and_a_refused_script_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(OWN_PAGE)
    seen = visit(page.as_uri(), tmp_path)
    assert any(REFUSED in line for line in seen.console), seen.console
    assert "http://example.org/foreign.png" in seen.asked
