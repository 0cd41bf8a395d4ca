"""The OpenAPI description as one page for people: no script, nothing from other servers. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fff; }
pre, code { font-family: ui-monospace, monospace; font-size: .9em; background: #f0f1f3; }
pre { padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d5d7db; }
h2 { margin-top: 2.5rem; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #16181c; } pre, code { background: #24272d; } th, td { border-color: #3a3e46; }
  a { color: #8ab4f8; }
}
</style>
</head>
<body>
<h1>{{ title }} {{ version }}</h1>
<p>{{ about }}</p>
<p>For programs: <a href="/openapi.json">openapi.json</a>. With tokens in use, add
<code>-H 'Authorization: Bearer TOKEN'</code>.</p>
{% for path in paths %}
<h2><code>{{ path.method }} {{ path.name }}</code> {{ path.summary }}</h2>
<pre>curl -sS {{ base }}{{ path.name }} -H 'Content-Type: application/json' \\
  -d '{{ path.example }}'</pre>
<table>
<tr><th>field</th><th>needed</th><th>what belongs there</th></tr>
{% for field in path.fields %}
<tr><td><code>{{ field.name }}</code></td><td>{{ "yes" if field.needed else "" }}</td><td>{{ field.text }}</td></tr>
{% endfor %}
</table>
<table>
<tr><th>answer</th><th>meaning</th><th>body</th></tr>
{% for code, response in path.responses %}
<tr><td>{{ code }}</td><td>{{ response.text }}</td><td>{{ response.body }}</td></tr>
{% endfor %}
</table>
{% endfor %}
{% for name, fields in bodies %}
<h2>{{ name }}</h2>
<table>
<tr><th>field</th><th>what it says</th></tr>
{% for field in fields %}
<tr><td><code>{{ field.name }}</code></td><td>{{ field.text }}</td></tr>
{% endfor %}
</table>
{% endfor %}
</body>
</html>
"""
_template: Final = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
_BODIES: Final = ("Outcome", "Problem")


def render(openapi: Mapping[str, Any], base: str) -> str:
    """Return the page; ``base`` is the address in its examples."""
    schemas = openapi["components"]["schemas"]
    return _template.render(
        title=openapi["info"]["title"],
        version=openapi["info"]["version"],
        about=openapi["info"]["description"],
        base=base,
        paths=[
            _path(name, method, operation, schemas)
            for name, methods in openapi["paths"].items()
            for method, operation in methods.items()
        ],
        bodies=[(name, list(_fields(schemas[name], schemas))) for name in _BODIES],
    )


def _path(name: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    content = operation["requestBody"]["content"]["application/json"]
    schema = schemas[_referred(content["schema"]["anyOf"][0])]
    responses = [
        (code, {"text": response["description"], "body": _body(response)})
        for code, response in operation["responses"].items()
    ]
    return {
        "name": name,
        "method": method.upper(),
        "summary": operation["summary"],
        "example": json.dumps(content["example"]),
        "fields": list(_fields(schema, schemas)),
        "responses": responses,
    }


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any], prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield the fields of an object, those of objects within it after theirs."""
    needed = schema.get("required", ())
    for name, field in sorted(schema["properties"].items(), key=lambda pair: pair[0] not in needed):
        yield {"name": prefix + name, "needed": name in needed, "text": field.get("description", field.get("type"))}
        inner = field.get("items", field)
        for choice in inner.get("anyOf", [inner]):
            part = choice.get("items", choice)
            if "$ref" in part:
                yield from _fields(schemas[_referred(part)], schemas, f"{prefix}{name}.")


def _body(response: Mapping[str, Any]) -> str:
    schema = response["content"]["application/json"]["schema"]
    return " or ".join(_referred(choice) for choice in schema.get("anyOf", [schema]))


def _referred(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
