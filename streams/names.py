"""Names of one partition: devices, sites, kinds (sensor types or labels), and device-and-kind pairs, as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from fleetwatch.records import Scope
from streams.interner import Interner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fleetwatch.columns import Batch
    from streams.inputs import Input

_PARTS: Final = ("devices", "sites", "kinds", "pairs")


class Names:
    """Four interners, and the site and kind of each device when it was first seen: what rules are matched with."""

    def __init__(self) -> None:
        self.devices, self.sites, self.kinds, self.pairs = Interner(), Interner(), Interner(), Interner()
        self.site_of = np.zeros(0, np.int64)
        self.kind_of = np.zeros(0, np.int64)

    def rows(
        self, batch: Batch, chosen: NDArray[np.int64], source: Input
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return device, site and kind rows of the chosen events, making new ones."""

        def look_up(interner: Interner, field: str) -> NDArray[np.int64]:
            starts, lengths = batch.strings(field)
            return interner.rows(batch.buffer, starts[chosen], lengths[chosen])

        devices = look_up(self.devices, source.device)
        sites, kinds = look_up(self.sites, "site"), look_up(self.kinds, source.kind)
        known = len(self.site_of)
        if self.devices.count > known:
            more = np.zeros(self.devices.count - known, np.int64)
            self.site_of, self.kind_of = np.concatenate([self.site_of, more]), np.concatenate([self.kind_of, more])
            fresh = np.flatnonzero(devices >= known)[::-1]  # backwards: a device's first event is written last
            self.site_of[devices[fresh]], self.kind_of[devices[fresh]] = sites[fresh], kinds[fresh]
        return devices, sites, kinds

    def keys(
        self,
        scopes: tuple[Scope, ...],
        devices: NDArray[np.int64],
        sites: NDArray[np.int64],
        kinds: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return the window keys of each event, shape (scopes, n)."""
        columns = []
        for scope in scopes:
            if scope is Scope.DEVICE:
                columns.append(devices)
            elif scope is Scope.SITE:
                columns.append(sites)
            elif scope is Scope.DEVICE_LABEL:
                columns.append(self.pairs.pair_rows(devices, kinds))
            else:
                columns.append(kinds)
        return np.stack(columns)

    def key_name(self, scope: Scope, key: int) -> bytes:
        """Return the name of a window key."""
        if scope is Scope.DEVICE:
            return self.devices.name(key)
        if scope is Scope.SITE:
            return self.sites.name(key)
        if scope is Scope.DEVICE_LABEL:
            device, kind = self.pairs.pair(key)
            return self.devices.name(device) + b"|" + self.kinds.name(kind)
        return self.kinds.name(key)

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        parts: dict[str, Any] = {part: getattr(self, part).snapshot() for part in _PARTS}
        return parts | {"site_of": self.site_of, "kind_of": self.kind_of}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Return the names of a snapshot, with the same rows."""
        names = cls()
        for part in _PARTS:
            setattr(names, part, Interner.restore(state[part]))
        names.site_of, names.kind_of = state["site_of"].copy(), state["kind_of"].copy()
        return names
