"""The page `/docs`: Swagger UI from this server's own files, under a content security policy.

FastAPI's page loads its script from another host. In a network without internet access that page
stays blank; elsewhere, that host could change the script.
"""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path, PurePath

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from bandstand.errors import RouteNotFoundError

PATH = "/docs"

_PACKAGE = "fastapi-offline"
"""The distribution that contains Swagger UI's files; its code is not used."""
_SCRIPT, _STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
# Addresses are relative to the page: behind a proxy the page may have another path.
_START = """\
SwaggerUIBundle({
  url: document.getElementById("docs").dataset.description,
  dom_id: "#docs",
  deepLinking: true,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""
# `mimetypes` reads the system's table, which may differ; `nosniff` needs exactly these types.
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # Swagger UI's style sheet contains its icons
        "connect-src 'self'",  # the OpenAPI description, and "Try it out"
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_COMMON = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_PAGE_HEADERS = {**_COMMON, "Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
_ASSET_HEADERS = {**_COMMON, "Cache-Control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page. Its name contains its content's hash, so caches may keep it for ever."""

    name: str
    content: bytes
    media_type: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        """Return the asset of a file; the hash is added to its name."""
        path = PurePath(name)
        digest = hashlib.sha256(content).hexdigest()[:16]
        named = f"{path.stem}.{digest}{path.suffix}"
        return cls(named, content, _MEDIA_TYPES[path.suffix])


def _packaged(name: str) -> Asset:
    path = distribution(_PACKAGE).locate_file(f"fastapi_offline/static/{name}")
    return Asset.of(name, Path(str(path)).read_bytes())


def _page(title: str, description: str, style: Asset, scripts: tuple[Asset, ...]) -> str:
    folder = f"{PATH.removeprefix('/')}/assets"
    loaded = "\n".join(f'<script src="{folder}/{x.name}" defer></script>' for x in scripts)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{folder}/{style.name}">
{loaded}
</head>
<body><div id="docs" data-description="{html.escape(description)}"></div></body>
</html>
"""


def add_docs_page(app: FastAPI) -> None:
    """Serve the page and its files; the app must be created with `docs_url=None`."""
    style, script, start = (
        _packaged(_STYLE),
        _packaged(_SCRIPT),
        Asset.of("start.js", _START.encode()),
    )
    assets = {asset.name: asset for asset in (style, script, start)}
    description = app.url_path_for("openapi").removeprefix("/")
    page = _page(app.title, description, style, (script, start))

    @app.get(PATH, include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    @app.get(f"{PATH}/assets/{{name}}", include_in_schema=False)
    async def docs_asset(request: Request, name: str) -> Response:
        asset = assets.get(name)
        if asset is None:
            raise RouteNotFoundError(f"there is no {request.url.path}")
        return Response(asset.content, headers=_ASSET_HEADERS, media_type=asset.media_type)
