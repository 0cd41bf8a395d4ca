"""The paths of the gateway, and their description as OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  # FastAPI reads it at run time
from starlette.responses import HTMLResponse, RedirectResponse, Response

import fleetwatch
from producers.gateway.answers import Outcome, Problem
from producers.gateway.desk import answer
from producers.gateway.models import Detection, Incoming, Reading
from producers.gateway.page import render

if TYPE_CHECKING:
    from producers.gateway.desk import Desk

_RETRY: Final = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Outcome, "description": "Kafka has acknowledged every event."},
    207: {"model": Outcome, "description": "Some events are refused; Kafka has acknowledged the others."},
    400: {"model": Problem, "description": "The body is no JSON."},
    401: {"model": Problem, "description": "The token is missing or not known."},
    403: {"model": Problem, "description": "The token may not send for a device of the request; nothing was taken."},
    408: {"model": Problem, "description": "The body came too slowly."},
    413: {"model": Problem, "description": "The body is too large, or holds too many events."},
    415: {"model": Problem, "description": "The content type is not application/json."},
    422: {
        "model": Outcome | Problem,
        "description": "Every event is refused, each error names index, field and what is expected. Or there is none.",
    },
    503: {
        "model": Outcome | Problem,
        "description": "Kafka did not acknowledge some events in time: the results of the Outcome say which. "
        "Or too busy, or no broker: nothing was taken, a Problem says why.",
        "headers": _RETRY,
    },
}
_PATHS: Final = "there are POST /v1/readings, POST /v1/detections, GET /docs and GET /openapi.json"
_ABOUT: Final = (
    "Readings and detections over HTTP. An event counts as accepted only when Kafka has acknowledged it. "
    "Send one object or a list. Give event_time and seq yourself to make a repetition harmless: the same "
    "device, event_time and seq again is one event."
)


def build_app(desk: Desk) -> FastAPI:
    """Return the application. Its documentation loads nothing from other servers."""
    app = FastAPI(
        title="fleetwatch gateway",
        version=fleetwatch.__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    @app.post("/v1/readings", summary="Send readings", **_post(Reading))
    async def post_readings(request: Request) -> Response:
        return await desk.take(request, Reading)

    @app.post("/v1/detections", summary="Send detections", **_post(Detection))
    async def post_detections(request: Request) -> Response:
        return await desk.take(request, Detection)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        page = render(app.openapi(), str(request.base_url).rstrip("/"))
        return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    @app.exception_handler(HTTPException)
    async def on_http_error(_request: Request, error: HTTPException) -> Response:
        text = _PATHS if error.status_code in {404, 405} else str(error.detail)
        word = HTTPStatus(error.status_code).name.lower()
        return answer(error.status_code, {"error": word, "detail": text}, error.headers)

    @app.exception_handler(Exception)
    async def on_defect(_request: Request, _error: Exception) -> Response:
        return answer(500, {"error": "internal", "detail": "a defect of the gateway: its log says more"})

    _with_models(app)
    return app


def _post(model: type[Incoming]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"schema": {"anyOf": [reference, {"type": "array", "items": reference}]}, "example": example(model)}
    return {
        "status_code": 202,
        "response_model": None,
        "responses": _RESPONSES,
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"application/json": content}},
            "security": [{}, {"token": []}],
        },
    }


def example(model: type[BaseModel]) -> dict[str, Any]:
    """Return an object that has all required fields."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.examples:
            found[name] = field.examples[0]
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = example(field.annotation)
    return found


def _with_models(app: FastAPI) -> None:
    """Add what bodies look like to the OpenAPI: they are read by the desk, so FastAPI does not know them."""
    made = app.openapi()
    parts = made.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for model in (Reading, Detection):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
