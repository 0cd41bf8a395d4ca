"""Names of one partition: devices, sites, kinds (sensor types or labels), and device-and-kind pairs, as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from fleetwatch.byte_column import ByteColumn
from fleetwatch.records import Scope
from streams.interner import Interner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fleetwatch.columns import Batch
    from streams.inputs import Input

    Spans = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]

_PARTS: Final = ("devices", "sites", "kinds", "pairs")


class Names:
    """Four interners, and the site and kind of each device when it was first seen: what rules are matched with."""

    def __init__(self) -> None:
        self.devices, self.sites, self.kinds, self.pairs = Interner(), Interner(), Interner(), Interner()
        self.site_of = np.zeros(0, np.int64)
        self.kind_of = np.zeros(0, np.int64)
        self._pair_names: list[bytes] = []

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

    def key_column(self, scopes: tuple[Scope, ...], numbers: NDArray[np.int64], keys: NDArray[np.int64]) -> ByteColumn:
        """Return the names of window keys; ``numbers`` says for each of them which of ``scopes`` it is of."""
        spans = [self._key_spans(scope) for scope in scopes]
        offsets = np.array([0, *(len(arena) for arena, _, _ in spans)]).cumsum()
        starts, lengths = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
        for number, (_, scope_starts, scope_lengths) in enumerate(spans):
            mine = numbers == number
            starts[mine] = scope_starts[keys[mine]] + offsets[number]
            lengths[mine] = scope_lengths[keys[mine]]
        return ByteColumn(np.concatenate([arena for arena, _, _ in spans]), starts, lengths)

    def _key_spans(self, scope: Scope) -> Spans:
        if scope is Scope.DEVICE:
            return self.devices.spans()
        if scope is Scope.SITE:
            return self.sites.spans()
        if scope is not Scope.DEVICE_LABEL:
            return self.kinds.spans()
        for row in range(len(self._pair_names), self.pairs.count):
            device, kind = self.pairs.pair(row)
            self._pair_names.append(self.devices.name(device) + b"|" + self.kinds.name(kind))
        names = ByteColumn.of(self._pair_names)
        return names.buffer, names.starts, names.lengths

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
