"""The description of the API: complete, and nothing in it is loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import jsonschema
import pytest

from fleetwatch.settings import Settings
from producers.gateway.app import example
from producers.gateway.models import Box, Detection, Reading
from tests.unit.producers.gateway.test_desk import BAD, DETECTION, READING, Gateway

if TYPE_CHECKING:
    import httpx


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


async def get(path: str) -> httpx.Response:
    return await Gateway().client.get(path, follow_redirects=True)


@pytest.mark.parametrize("path", ["/docs", "/"])
async def test_the_page_needs_no_script_and_no_other_server(path: str) -> None:
    response = await get(path)
    page = Page(response.text)
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "script" not in page.tags
    assert page.links == ["/openapi.json"]
    assert "@import" not in response.text
    assert "url(" not in response.text


async def test_the_page_names_every_field_answer_and_address() -> None:
    text = (await get("/docs")).text
    boxes = [f"box.{name}" for name in Box.model_fields]
    for name in [*Reading.model_fields, *Detection.model_fields, *boxes, "results.index", "results.errors.field"]:
        assert f"<code>{name}</code>" in text, name
    for code in (202, 207, 400, 401, 403, 408, 413, 415, 422, 503):
        assert f"<td>{code}</td>" in text, code
    assert f"http://127.0.0.1:{Settings().gateway_port}/v1/readings" in text
    assert text.count("<td>Outcome or Problem</td>") == 4


async def test_the_examples_have_the_address_that_was_asked_and_nothing_of_it_is_taken_as_html() -> None:
    there = await Gateway(host="gateway.example:8443").client.get("/docs")
    assert "curl -sS http://gateway.example:8443/v1/readings" in there.text
    odd = await Gateway().client.get("/docs", headers={"Host": '"><script>alert(1)</script>'})
    assert "script" not in Page(odd.text).tags


async def test_the_openapi_describes_bodies_that_are_accepted() -> None:
    document = (await get("/openapi.json")).json()
    content = {
        path: document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for path in ("/v1/readings", "/v1/detections")
    }
    for path, body in content.items():
        check = jsonschema.Draft202012Validator({**document, **body["schema"]})
        assert check.is_valid(body["example"])
        assert check.is_valid([body["example"]] * 2)
        assert (await Gateway().post(body["example"], path)).status_code == 202
    readings = jsonschema.Draft202012Validator({**document, **content["/v1/readings"]["schema"]})
    assert readings.is_valid(READING)
    assert not readings.is_valid(BAD)
    assert not readings.is_valid(DETECTION)


async def test_the_openapi_names_only_schemas_that_it_has() -> None:
    text = (await get("/openapi.json")).text
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= set((await get("/openapi.json")).json()["components"]["schemas"])
    assert {"Reading", "Detection", "Box", "Outcome", "Problem"} <= names


def test_examples_have_what_is_needed() -> None:
    for model in (Reading, Detection):
        needed = {name for name, field in model.model_fields.items() if field.is_required()}
        assert set(example(model)) == needed
