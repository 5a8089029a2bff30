"""The description of Gloss's own paths as a page: no script, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.routing import Route

_REF = "#/components/schemas/"


def reference_routes(app: FastAPI) -> list[Route]:
    """``/docs`` and its style sheet, for an application."""
    environment = Environment(
        loader=PackageLoader("gloss.serve"), autoescape=select_autoescape(default=True)
    )

    async def page(_request: Request) -> Response:
        template = environment.get_template("reference.html.j2")
        return HTMLResponse(template.render(api=app.openapi(), shown=shown_type, name_of=_name_of))

    async def style(_request: Request) -> Response:
        return Response(environment.get_template("reference.css").render(), media_type="text/css")

    return [Route("/docs", page), Route("/docs.css", style)]


def shown_type(schema: dict[str, Any]) -> str:
    """A property's type in a few words: integer, list of number, one of …, or the name of a
    schema."""
    if "$ref" in schema:
        return _name_of(schema)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(shown_type(one) for one in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return " or ".join(repr(value) for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"[{', '.join(shown_type(one) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {shown_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _name_of(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(_REF)
