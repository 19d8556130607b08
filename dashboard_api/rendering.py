"""Turns a template and its values into a response: escaped, with the page's security headers and its ETag.

Templates and static files are read once, when the routes are made. Their digest is in every page's ETag (a new
release renders anew) and in the address of every static file (which may therefore be cached for ever).
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from litestar import Response

from dashboard_api import display

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",
}
_HTML = "text/html"  # Litestar names the charset of all text
_HERE = Path(__file__).parent
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".md": "text/markdown"}


@dataclass(frozen=True)
class Asset:
    """A static file."""

    body: bytes
    media_type: str


class Renderer:
    """The templates and static files of this release."""

    def __init__(self, folder: Path = _HERE) -> None:
        self.assets = {
            path.relative_to(folder / "static").as_posix(): Asset(path.read_bytes(), _media_type(path))
            for path in sorted((folder / "static").rglob("*"))
            if path.is_file()
        }
        self.digest = _digest(folder)
        self._templates = _templates(folder)
        self._templates.globals["static"] = lambda name: f"/static/{self.digest}/{name}"

    def etag(self, *versions: str) -> str:
        """Of a page that shows exactly these versions of the data."""
        return '"' + "-".join([*versions, self.digest]) + '"'

    def render(self, template: str, values: dict[str, Any]) -> bytes:
        """The template filled with `values`."""
        return self._templates.get_template(template).render(values).encode()

    def page(self, body: bytes, *, etag: str = "", status: int = 200) -> Response[bytes]:
        """HTML as a response."""
        headers = HEADERS | ({"etag": etag} if etag else {})
        return Response(body, status_code=status, media_type=_HTML, headers=headers)

    def not_modified(self, etag: str) -> Response[bytes]:
        """304: the reader has exactly this page."""
        return Response(b"", status_code=304, media_type=_HTML, headers=HEADERS | {"etag": etag})

    def asset(self, digest: str, name: str) -> Response[bytes] | None:
        """A static file: for ever if the address carries this release's digest, else fresh each time (another
        release's page asks, while a deployment goes on)."""
        asset = self.assets.get(name)
        if asset is None:
            return None
        cache = "public, max-age=31536000, immutable" if digest == self.digest else "no-cache"
        headers = {"cache-control": cache, "x-content-type-options": "nosniff"}
        return Response(asset.body, media_type=asset.media_type, headers=headers)


class Fragments:
    """The HTML of feeds' entries, which is no page: without style, script or policy."""

    def __init__(self, folder: Path = _HERE) -> None:
        self._template = _templates(folder).get_template("feed_entry.html")
        source = (folder / "templates" / "feed_entry.html").read_bytes()
        self.digest = hashlib.sha256(source).hexdigest()[:8]
        """Of the template: another release may render the same data otherwise."""

    def render(self, values: dict[str, Any]) -> str:
        return self._template.render(values)


def _templates(folder: Path) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for name in ("count", "cut", "iso", "number", "params", "quantity", "short", "size", "web_url", "when"):
        made.filters[name] = getattr(display, name)
    return made


def _media_type(path: Path) -> str:
    return _MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"


def _digest(folder: Path) -> str:
    """16 hexadecimal digits over every template and static file and its name."""
    digest = hashlib.sha256()
    for path in sorted([*(folder / "templates").rglob("*"), *(folder / "static").rglob("*")]):
        if path.is_file():
            body = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()} {len(body)}\n".encode())
            digest.update(body)
    return digest.hexdigest()[:16]
