"""Client of a schema registry with Confluent's API: Confluent's own, Karapace, Apicurio (its ccompat address).

With a registry the ids in front of values are the registry's; without one they come from ``schemas/ids.json``. API:
https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fleetwatch import avro
from fleetwatch.errors import EnvironmentProblemError, TransientError
from fleetwatch.recording.form import RECORD_OF

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
NOT_FOUND: Final = 404


class RegistryClient:
    """Calls one registry; every method is one request.

    Raises:
        TransientError: it does not answer, or says that it cannot now.
        EnvironmentProblemError: it refuses, or what it says is not understood.

    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        context: ssl.SSLContext | None = None,
        timeout: float = 10,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise EnvironmentProblemError(
                f"FLEETWATCH_SCHEMA_REGISTRY_URL: {url} does not begin with http:// or https://"
            )
        self._url, self._timeout, self._context = url.rstrip("/"), timeout, context
        self._headers = {"Accept": CONTENT_TYPE, "Content-Type": CONTENT_TYPE}
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Register a schema; return its id, the same one when it is there already."""
        return int(self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", _body(schema))["id"])

    def find(self, subject: str, schema: dict[str, Any]) -> int | None:
        """Return the id of a schema that is registered for a subject, or None."""
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}", _body(schema), may_lack=True)
        return None if answer is None else int(answer["id"])

    def schema(self, schema_id: int) -> dict[str, Any] | None:
        """Return the schema of an id, or None."""
        answer = self._call("GET", f"/schemas/ids/{schema_id}", may_lack=True)
        return None if answer is None else dict(json.loads(answer["schema"]))

    def incompatibilities(self, subject: str, schema: dict[str, Any]) -> list[str]:
        """Return why the registry would refuse a schema for a subject; nothing when it would not."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions?verbose=true"
        answer = self._call("POST", path, _body(schema), may_lack=True)
        if answer is None or answer["is_compatible"]:
            return []
        return [str(message) for message in answer.get("messages", ())] or ["the registry does not say why"]

    def require(self, subject: str, level: str) -> None:
        """Set which compatibility the registry asks of new versions."""
        self._call("PUT", f"/config/{quote(subject, safe='')}", {"compatibility": level})

    def _call(self, method: str, path: str, body: Any = None, *, may_lack: bool = False) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            self._url + path, data=content, headers=self._headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout, context=self._context) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = _message(error)
            if error.code == NOT_FOUND and may_lack:
                return None
            if error.code >= 500 or error.code == 429:
                raise TransientError(f"schema registry {self._url}: {said}") from None
            raise EnvironmentProblemError(f"schema registry {self._url}: {method} {path}: {said}") from None
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise TransientError(f"schema registry {self._url} does not answer: {reason}") from None
        except ValueError:
            raise EnvironmentProblemError(f"{self._url} answers, but not as a schema registry: {path}") from None


def _body(schema: dict[str, Any]) -> dict[str, str]:
    return {"schema": json.dumps(schema), "schemaType": "AVRO"}


def _message(error: urllib.error.HTTPError) -> str:
    try:
        facts = json.load(error)
        return f"{facts['message']} ({facts['error_code']})"
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"


def connect(settings: Settings) -> RegistryClient:
    """Return a client of the registry in the settings.

    Raises:
        EnvironmentProblemError: none is set.

    """
    if settings.schema_registry_url is None:
        raise EnvironmentProblemError("no schema registry is set: FLEETWATCH_SCHEMA_REGISTRY_URL")
    password = settings.schema_registry_password
    ca_file = settings.schema_registry_ca_file
    return RegistryClient(
        settings.schema_registry_url,
        user=settings.schema_registry_user or "",
        password=password.get_secret_value() if password else "",
        context=ssl.create_default_context(cafile=ca_file) if ca_file else None,
    )


def subjects() -> dict[str, str]:
    """Return schema name -> subject, as Confluent's serializers name it by default: the topic and ``-value``."""
    return {avro.schema_name(record_type): f"{topic}-value" for topic, record_type in RECORD_OF.items()}


def versions() -> list[tuple[str, str]]:
    """Return (schema and version, subject) of every schema file, older versions first."""
    by_name = subjects()
    keys = sorted(avro.schema_ids(), key=lambda key: (key.rsplit(".v", 1)[0], int(key.rsplit(".v", 1)[1])))
    return [(key, by_name[key.rsplit(".v", 1)[0]]) for key in keys]


def register_all(client: RegistryClient) -> dict[str, int]:
    """Register every schema, each after the registry found it compatible with those before; return the ids.

    Raises:
        EnvironmentProblemError: the registry finds one incompatible; the text says what the registry says.

    """
    ids: dict[str, int] = {}
    for key, subject in versions():
        schema = avro.load_schema(key)
        known = client.find(subject, schema)
        if known is None:
            problems = client.incompatibilities(subject, schema)
            if problems:
                raise EnvironmentProblemError(f"the registry refuses {key} for {subject}: {problems[0]}")
            known = client.register(subject, schema)
        client.require(subject, COMPATIBILITY)
        ids[key] = known
    return ids


def ids_of(client: RegistryClient) -> dict[str, int]:
    """Return the registry's id of every schema.

    Raises:
        EnvironmentProblemError: one is not registered.

    """
    ids: dict[str, int] = {}
    for key, subject in versions():
        known = client.find(subject, avro.load_schema(key))
        if known is None:
            raise EnvironmentProblemError(f"{key} is not registered for {subject}: run `fleetwatch schemas register`")
        ids[key] = known
    return ids


def use_registry(settings: Settings) -> None:
    """Take the ids from the registry, if one is set; once, before anything is encoded or decoded.

    Raises:
        EnvironmentProblemError: the registry does not answer, refuses, or lacks a schema.

    """
    if settings.schema_registry_url is None:
        return
    try:
        avro.use_ids(ids_of(connect(settings)))
    except TransientError as error:
        raise EnvironmentProblemError(str(error)) from None
