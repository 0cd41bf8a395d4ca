"""A strict local double of a schema registry, over HTTP: Confluent's paths, codes and error bodies, nothing else.

What a client must not do is refused as the real one refuses it: other content types, unknown paths, no JSON, wrong
credentials. Compatibility is BACKWARD by default, as in the real one, and is looked at when a version is registered.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import fastavro

from fleetwatch import avro_compat

if TYPE_CHECKING:
    from types import TracebackType

CONTENT_TYPES = {"application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"}
LEVELS = {"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}


class RefusedError(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class SchemaRegistryDouble:
    """Use as a context manager; ``url`` is its address. ``down`` makes every answer a 503."""

    def __init__(self, user: str = "", password: str = "") -> None:
        self.ids: dict[str, int] = {}
        self.subjects: dict[str, list[str]] = {}
        self.levels: dict[str, str] = {}
        self.down = False
        self.calls: list[str] = []
        self.token = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(  # noqa: C901, PLR0911  # a table of paths
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> Any:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        with self._lock:
            match method, *parts:
                case "GET", "subjects":
                    return sorted(self.subjects)
                case "POST", "subjects", subject, "versions":
                    return self._register(subject, _canonical(body))
                case "POST", "subjects", subject:
                    return self._find(subject, _canonical(body))
                case "GET", "subjects", subject, "versions":
                    return list(range(1, len(self._versions(subject)) + 1))
                case "GET", "subjects", subject, "versions", version:
                    return self._version(subject, version)
                case "GET", "schemas", "ids", number:
                    return {"schema": self._by_id(number)}
                case "PUT", "config", subject:
                    if not isinstance(body, dict) or body.get("compatibility") not in LEVELS:
                        raise RefusedError(422, 42203, "Invalid compatibility level")
                    self.levels[subject] = body["compatibility"]
                    return {"compatibility": body["compatibility"]}
                case "GET", "config", subject:
                    if subject not in self.levels:
                        raise RefusedError(404, 40408, f"Subject '{subject}' does not have subject-level configuration")
                    return {"compatibilityLevel": self.levels[subject]}
                case "POST", "compatibility", "subjects", subject, "versions":
                    self._versions(subject)
                    problems = self._problems(subject, _canonical(body))
                    verbose = query.get("verbose") == ["true"]
                    return {"is_compatible": not problems} | ({"messages": problems} if verbose else {})
        raise RefusedError(404, 404, "HTTP 404 Not Found")

    def _versions(self, subject: str) -> list[str]:
        if subject not in self.subjects:
            raise RefusedError(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def _version(self, subject: str, version: str) -> dict[str, Any]:
        known = self._versions(subject)
        number = len(known) if version == "latest" else int(version) if version.isdecimal() else 0
        if not 1 <= number <= len(known):
            raise RefusedError(404, 40402, f"Version {version} not found.")
        schema = known[number - 1]
        return {"subject": subject, "version": number, "id": self.ids[schema], "schema": schema}

    def _find(self, subject: str, schema: str) -> dict[str, Any]:
        known = self._versions(subject)
        if schema not in known:
            raise RefusedError(404, 40403, "Schema not found")
        return {"subject": subject, "version": known.index(schema) + 1, "id": self.ids[schema], "schema": schema}

    def _by_id(self, number: str) -> str:
        found = next((schema for schema, known in self.ids.items() if str(known) == number), None)
        if found is None:
            raise RefusedError(404, 40403, f"Schema {number} not found")
        return found

    def _register(self, subject: str, schema: str) -> dict[str, Any]:
        known = self.subjects.setdefault(subject, [])
        if schema not in known:
            problems = self._problems(subject, schema)
            if problems:
                raise RefusedError(409, 409, f"Schema being registered is incompatible: {problems[0]}")
            known.append(schema)
        return {"id": self.ids.setdefault(schema, len(self.ids) + 1)}

    def _problems(self, subject: str, schema: str) -> list[str]:
        level, older = self.levels.get(subject, "BACKWARD"), self.subjects.get(subject, [])
        if not level.startswith("BACKWARD"):
            return []
        older = older if level.endswith("TRANSITIVE") else older[-1:]
        reader = json.loads(schema)
        return [problem for writer in older for problem in avro_compat.incompatibilities(reader, json.loads(writer))]


def _canonical(body: Any) -> str:
    """The schema of a request; the real one, too, tells schemas apart by what they say, not by white space."""
    if not isinstance(body, dict) or not isinstance(body.get("schema"), str):
        raise RefusedError(422, 42201, "Invalid schema")
    if body.get("schemaType", "AVRO") != "AVRO":
        raise RefusedError(422, 42201, "Invalid schema type")
    try:
        schema = json.loads(body["schema"])
        fastavro.parse_schema(json.loads(body["schema"]))
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it
        raise RefusedError(422, 42201, f"Invalid schema: {error}") from None
    return json.dumps(schema, separators=(",", ":"))


def _handler(double: SchemaRegistryDouble) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # a class in it
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            double.calls.append(f"{self.command} {self.path}")
            try:
                status, answer = 200, self._checked(content)
            except RefusedError as error:
                status, answer = error.status, {"error_code": error.code, "message": error.message}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def _checked(self, content: bytes) -> Any:
            if double.down:
                raise RefusedError(503, 50301, "the double was told to be down")
            if double.token is not None and self.headers.get("Authorization") != double.token:
                raise RefusedError(401, 40101, "Unauthorized")
            body = None
            if content:
                if self.headers.get_content_type() not in CONTENT_TYPES:
                    raise RefusedError(415, 415, "HTTP 415 Unsupported Media Type")
                try:
                    body = json.loads(content)
                except ValueError:
                    raise RefusedError(400, 400, "Unrecognized token") from None
            address = urlsplit(self.path)
            return double.answer(self.command, address.path, parse_qs(address.query), body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            pass

    return Handler
