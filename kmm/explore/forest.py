"""One search by several workers: the tree of schedules cut by prefix, the same way for any number of workers."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from kmm.explore.dpor import Dpor, Node

PARTS: Final = 16
"""Parts of the tree that are searched at a time."""
SLICE: Final = 192
"""Executions of each before the results are put together."""


@attrs.define
class Part:
    """A part of the tree: all that begins with one path.

    :param search: its nodes up to ``search.base`` are the path
    """

    search: Dpor

    def idents(self) -> list[int]:
        """The nodes of the path."""
        return [node.ident for node in self.search.nodes[: self.search.base]]


class Forest:
    """What is still to be searched. The nodes that several parts have in common are kept here."""

    def __init__(self) -> None:
        self.parts = [Part(Dpor())]
        self.nodes: dict[int, tuple[list[Node], Node]] = {}
        """Common nodes, by number, each with the nodes before it."""
        self.users: Counter[int] = Counter()
        """How many parts are below each."""
        self.numbers = 0

    def done(self, parts: list[Part]) -> None:
        """Take the parts back after a slice, and cut what is left."""
        self.parts = [part for part in parts if not part.search.finished]
        for part in parts:
            for ident, sequence in part.search.foreign:
                self.nodes[ident][1].plan(sequence)
            part.search.foreign = []
        self._branches()
        for part in parts:
            if part.search.finished:
                self._release(part)
        while 0 < len(self.parts) < PARTS and self._cut():
            self._branches()

    def _branches(self) -> None:
        """Make a part of every step that is still to be tried from a common node."""
        for before, node in list(self.nodes.values()):
            while node.branches:
                branch = node.branches.pop(0)
                path = [*before, Node(dict(node.sleep), branch, [], node.ident)]
                node.sleep[branch.who] = branch.footprint
                self._use(Part(Dpor(path)))

    def _use(self, part: Part) -> None:
        self.parts.append(part)
        self.users.update(part.idents())

    def _release(self, part: Part) -> None:
        """A part is finished: forget the nodes below which nothing is left."""
        for ident in part.idents():
            self.users[ident] -= 1
            if not self.users[ident]:
                del self.users[ident], self.nodes[ident]

    def _cut(self) -> bool:
        """Make the first node of some part that has more to try a common one."""
        for part in self.parts:
            search = part.search
            for depth in range(search.base, len(search.nodes)):
                if search.nodes[depth].branches:
                    self._share(part, depth)
                    return True
        return False

    def _share(self, part: Part, depth: int) -> None:
        search = part.search
        for i in range(search.base, depth + 1):
            node = search.nodes[i]
            self.numbers += 1
            mine = Node({**node.sleep, node.current.who: node.current.footprint}, node.current, node.branches, self.numbers)
            self.nodes[self.numbers] = ([Node({}, each.current, [], each.ident) for each in search.nodes[:i]], mine)
            self.users[self.numbers] += 1
            node.ident, node.branches = self.numbers, []
        search.base = depth + 1
