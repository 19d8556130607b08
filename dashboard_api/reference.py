"""The API's description: OpenAPI as JSON, and a page for people, rendered here so that it needs no other server.

Litestar's own pages load scripts from elsewhere, which fails offline and tells others who reads.
"""

import inspect
from pathlib import Path
from typing import Any

import jinja2
from litestar import Litestar, Request, Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from dashboard_api import resources
from schemas import records

PATH = "/api/v1"
API_VERSION = "1"

_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
_DESCRIPTION = """\
Everything here is read-only and needs no key. Lists come as JSON, CSV or Arrow: ask by the Accept header
(application/json, text/csv, application/vnd.apache.arrow.stream) or by a suffix (/api/v1/runs.csv). Runs and
submissions, however filtered, are feeds too (/api/v1/runs.atom, application/atom+xml; /api/v1/runs.feed.json,
application/feed+json), in pages that their first and next links lead through. A list holds at
most limit rows; its next cursor, also in the Link header, leads to the rest, and rows that arrive meanwhile neither
repeat nor hide any. An ETag names the data version, so If-None-Match tells cheaply whether anything changed. Times
are UTC. Errors are RFC 9457 problem details that say where, what was expected, and what was found."""
_HERE = Path(__file__).parent


def openapi_config() -> OpenAPIConfig:
    """For the Litestar application that serves the API; the schema is at /api/v1/openapi.json."""
    return OpenAPIConfig(
        title="Runfeed API",
        version=API_VERSION,
        description=_DESCRIPTION.replace("\n", " "),
        path=f"{PATH}/openapi",
        render_plugins=[JsonRenderPlugin()],
    )


def reference_routes() -> list[Any]:
    """/openapi.json, /docs and its style sheet, below the API's path."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters["plain"] = lambda text: text.replace("`", "")  # what OpenAPI reads as Markdown
    template = templates.get_template("reference.html")
    style = (_HERE / "templates" / "reference.css").read_bytes()

    @get("/openapi.json", include_in_schema=False, sync_to_thread=False)
    def get_openapi(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        return Response(described_schema(request.app), media_type="application/json", headers=_headers())

    @get("/docs", include_in_schema=False, sync_to_thread=True)
    def get_docs(request: Request[Any, Any, Any]) -> Response[bytes]:
        page = template.render(make_reference(described_schema(request.app)))
        headers = _headers() | {"Content-Security-Policy": _CONTENT_SECURITY_POLICY}
        return Response(page.encode(), media_type="text/html", headers=headers)

    @get("/docs.css", include_in_schema=False, sync_to_thread=False)
    def get_style() -> Response[bytes]:
        return Response(style, media_type="text/css", headers=_headers())

    return [get_openapi, get_docs, get_style]


def described_schema(app: Litestar) -> dict[str, Any]:
    """The OpenAPI schema of `app`, with what our Structs say of themselves: Litestar leaves their docstrings out."""
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    for name, component in schema["components"]["schemas"].items():
        struct = getattr(resources, name, None) or getattr(records, name, None)
        if struct is not None and "description" not in component:
            component["description"] = inspect.cleandoc(struct.__doc__ or "").replace("\n", " ")
    return schema


def make_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of an OpenAPI schema: its operations by path, and the fields of each component."""
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "text": operation.get("description", ""),
            "parameters": [_parameter(one) for one in operation.get("parameters", [])],
            "body": type_of(_content(operation.get("requestBody", {}))),
            "answers": [
                {"status": status, "text": answer.get("description", ""), "type": type_of(_content(answer))}
                for status, answer in sorted(operation.get("responses", {}).items())
            ],
        }
        for path, methods in sorted(schema.get("paths", {}).items())
        for method, operation in methods.items()
    ]
    components = [
        {
            "name": name,
            "text": component.get("description", ""),
            "fields": [
                {"name": field, "type": type_of(one), "text": one.get("description", "")}
                for field, one in component.get("properties", {}).items()
            ],
        }
        for name, component in sorted(schema.get("components", {}).get("schemas", {}).items())
    ]
    return {"info": schema["info"], "operations": operations, "components": components}


def type_of(schema: dict[str, Any]) -> str:
    """A JSON Schema in a few words: `string or null`, `list of Run`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    for choice in ("oneOf", "anyOf", "allOf"):
        if choice in schema:
            return " or ".join(type_of(one) for one in schema[choice])
    if "enum" in schema:
        return " or ".join(f"“{value}”" for value in schema["enum"])
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_of(schema['additionalProperties'])}"
    if isinstance(kind, list):
        return " or ".join(kind)
    return "time" if schema.get("format") == "date-time" else str(kind)


def _parameter(one: dict[str, Any]) -> dict[str, Any]:
    schema = one.get("schema", {})
    bounds = [f"{word} {schema[key]:g}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in schema]
    if schema.get("default") is not None:
        bounds.append(f"default {schema['default']}".lower())
    return {
        "name": one["name"],
        "in": one["in"],
        "type": type_of(schema),
        "bounds": ", ".join(bounds),
        "text": one.get("description") or schema.get("description") or "",
    }


def _content(holder: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body's first media type."""
    for content in holder.get("content", {}).values():
        found: dict[str, Any] = content.get("schema", {})
        return found
    return {}


def _headers() -> dict[str, str]:
    return {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
