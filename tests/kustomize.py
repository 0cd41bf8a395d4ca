"""The part of kustomize that deploy/kubernetes uses, so that its result can be looked at without kubectl.

Names of generated ConfigMaps get no hash here. What this does not know is an error, never skipped.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Object = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "patches", "images"}
CLUSTER_WIDE = {"Namespace"}
MERGE_KEYS = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name",
              "volumeMounts": "mountPath", "ports": "containerPort"}  # fmt: skip


def read(path: Path) -> list[Object]:
    """Return the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def build(folder: Path, used: set[Path] | None = None) -> list[Object]:
    """Return what ``kubectl kustomize FOLDER`` prints; ``used`` collects the files that were read."""
    used = set() if used is None else used
    file = folder / "kustomization.yaml"
    used.add(file.resolve())
    (plan,) = read(file)
    assert plan.keys() <= KNOWN, f"{file}: {plan.keys() - KNOWN} is not understood"
    objects: list[Object] = []
    for name in plan.get("resources", []):
        path = folder / name
        assert path.exists(), f"{file}: there is no {name}"
        if path.is_dir():
            objects += build(path, used)
        else:
            assert folder.resolve() in path.resolve().parents, f"{file}: kustomize reads no file above its folder"
            used.add(path.resolve())
            objects += read(path)
    for made in plan.get("configMapGenerator", []):
        _generate(made, objects)
    for patch in plan.get("patches", []):
        used.add((folder / patch["path"]).resolve())
        _patch(read(folder / patch["path"]), patch["target"], objects)
    for image in plan.get("images", []):
        _pin(image, objects)
    for one in objects:
        if "namespace" in plan and one["kind"] not in CLUSTER_WIDE:
            one["metadata"]["namespace"] = plan["namespace"]
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names), f"{file}: something is there twice"
    return objects


def _generate(made: Object, objects: list[Object]) -> None:
    assert made.keys() <= {"name", "literals", "behavior"}, made
    values = dict(literal.split("=", 1) for literal in made["literals"])
    there = [one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == made["name"]]
    if made.get("behavior") == "merge":
        there[0]["data"] |= values
        return
    assert not there
    objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": values})


def _patch(patch: list[Any], target: Object, objects: list[Object]) -> None:
    assert target.keys() <= {"kind", "name", "labelSelector"}, target
    hit = [one for one in objects if _is_meant(one, target)]
    assert hit, f"nothing is patched: {target}"
    (content,) = patch
    for one in hit:
        if isinstance(content, list):
            for step in copy.deepcopy(content):
                _apply(step, one)
        else:
            changes = {key: value for key, value in content.items() if key not in ("apiVersion", "kind", "metadata")}
            merged = merge({key: one[key] for key in changes}, changes)
            one.update(merged)


def _is_meant(one: Object, target: Object) -> bool:
    name, _, value = target.get("labelSelector", "").partition("=")
    return (
        target.get("kind", one["kind"]) == one["kind"]
        and target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]
        and (not name or one["metadata"].get("labels", {}).get(name) == value)
    )


def merge(old: Any, new: Any, field: str = "") -> Any:
    """Return a strategic merge: maps by key, lists of named things by name, all else replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merge(old[key], value, key) if key in old else value for key, value in new.items()}}
    by = MERGE_KEYS.get(field)
    if by and isinstance(old, list) and isinstance(new, list):
        named = {one[by]: one for one in old}
        for one in new:
            named[one[by]] = merge(named[one[by]], one) if one[by] in named else one
        return copy.deepcopy(list(named.values()))
    return copy.deepcopy(new)


def _apply(step: Object, one: Object) -> None:
    """Apply one step of a JSON patch (RFC 6902)."""
    assert step["op"] in ("add", "replace"), step
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    place: Any = one
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert isinstance(place, dict), step
    assert step["op"] == "add" or last in place, f"nothing to replace: {step}"
    place[last] = step["value"]


def _pin(image: Object, objects: list[Object]) -> None:
    assert image.keys() == {"name", "newTag"}, image
    pinned = 0
    for container in containers(objects):
        if container["image"].split(":")[0] == image["name"]:
            container["image"] = f"{image['name']}:{image['newTag']}"
            pinned += 1
    assert pinned, f"no image {image['name']}"


def pods(objects: Iterable[Object]) -> dict[str, Object]:
    """Return the pod template of each workload by its name."""
    return {one["metadata"]["name"]: one["spec"]["template"] for one in objects if "template" in one.get("spec", {})}


def containers(objects: Iterable[Object]) -> list[Object]:
    """Return every container of every pod, those that run before the others included."""
    specs = [pod["spec"] for pod in pods(objects).values()]
    return [one for spec in specs for one in (*spec.get("initContainers", []), *spec["containers"])]
