"""Lead the wires of a laid-out graph around its nodes, with the frontend's own reroutes.

Neighboring columns are wired directly. Everything else goes through the free strips of the
layout: along the head of the groups, between two columns, or between two nodes of a column.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

# A wire turns this far beside a node, and this far above one, where no badge is.
BESIDE, ABOVE = 24, 46
FIRST_LANE, LANE_STEP, LANES = 70, 4, 5
# The frontend draws a longer way up or down as a wide arc: it is led along the column.
LONG = 300
FIRST_SOCKET, SOCKET = 14, 20


class _Router:
    """The reroutes of one graph."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.reroutes: list[dict[str, Any]] = []
        self._lefts = sorted(group["bounding"][0] for group in graph["groups"])
        self._known: dict[tuple, dict[str, Any]] = {}
        self._busy: list[tuple[float, float, int, tuple[int, int]]] = []

    def column(self, node: dict[str, Any]) -> int:
        return bisect_right(self._lefts, node["pos"][0]) - 1

    def ways(self, a: int, slot: int, b: int, target_slot: int) -> list[tuple[float, float]]:
        """Where the wire between two sockets turns."""
        origin, target = self.nodes[a], self.nodes[b]
        columns = self.column(target) - self.column(origin)
        left = origin["pos"][0] + origin["size"][0] + BESIDE
        right = target["pos"][0] - BESIDE
        leaves = origin["pos"][1] + FIRST_SOCKET + SOCKET * slot
        arrives = target["pos"][1] + FIRST_SOCKET + SOCKET * target_slot
        if columns == 1:
            return [(left, (leaves + arrives) / 2)] if abs(arrives - leaves) > LONG else []
        y = target["pos"][1] - ABOVE if columns == 0 else self._lane(left, right, (a, slot))
        found: list[tuple[float, float]] = [(left, y), (right, y)]
        if abs(leaves - y) > LONG:
            found.insert(0, (left, leaves + (LONG if y > leaves else -LONG) / 5))
        if arrives - y > LONG:
            found.append((right, arrives - LONG / 5))
        return found

    def turn(
        self, link: int, before: dict[str, Any] | None, place: tuple[float, float], output: tuple
    ) -> dict[str, Any]:
        """A reroute; the wires of one output share those on their common way."""
        key = (before and before["id"], place, output)
        if key not in self._known:
            made = {"id": len(self.reroutes) + 1, "pos": list(place), "linkIds": []}
            if before:
                made["parentId"] = before["id"]
            self._known[key] = made
            self.reroutes.append(made)
        self._known[key]["linkIds"].append(link)
        return self._known[key]

    def _lane(self, x: float, other: float, output: tuple[int, int]) -> int:
        """The height of the first lane that no other output uses between two places."""
        start, end = sorted((x, other))
        taken = {k for a, b, k, o in self._busy if o != output and a < end and start < b}
        own = {k for *_, k, o in self._busy if o == output}
        chosen = min(own or set(range(LANES)) - taken, default=0)
        self._busy.append((start, end, chosen, output))
        return FIRST_LANE + LANE_STEP * chosen


def route(graph: dict[str, Any]) -> None:
    """Give a serialized graph of columns (its groups) reroutes, in its `extra`."""
    router = _Router(graph)
    ends = []
    for link, a, slot, b, target_slot, _ in sorted(graph["links"], key=lambda k: k[1:5]):
        last = None
        for place in router.ways(a, slot, b, target_slot):
            last = router.turn(link, last, place, (a, slot))
        if last:
            ends.append({"id": link, "parentId": last["id"]})
    if ends:
        graph["extra"] |= {"reroutes": router.reroutes, "linkExtensions": ends}
