"""One search by several workers: the tree of schedules cut by prefix, the same way for any number of workers.

What lies below a leaf of a wakeup tree depends on nothing that is found elsewhere: a part of the tree is all that is below one leaf. What a
part learns about nodes above its leaf is kept until everything that one worker would have searched before is done. So the parts make
exactly the executions that one worker would make.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from kmm.explore.dpor import Dpor, Node
from kmm.explore.place import Footprint, dependent
from kmm.explore.wakeup import Branch, Sequence, insert

PARTS: Final = 16
"""Parts of the tree that are searched at a time."""
SLICE: Final = 192
"""Executions of each before the results are put together; fewer as long as there are few parts."""


Path: TypeAlias = "tuple[tuple[Common, int], ...]"


class Common:
    """A node that several parts have above them.

    :param path: to it: every node above, with the number of the entry that leads on
    :param sleep: tasks whose next step has been tried from here before the first entry
    :param entries: steps to be tried, in this order
    :param started: of so many of them there are parts
    """

    __slots__ = ("entries", "path", "sleep", "started")

    def __init__(self, path: Path, sleep: dict[str, Footprint], entries: list[Branch], started: int) -> None:
        self.path = path
        self.sleep = sleep
        self.entries = entries
        self.started = started

    def tried(self, entry: int) -> dict[str, Footprint]:
        """What has been tried before an entry is."""
        return self.sleep | {branch.who: branch.footprint for branch in self.entries[:entry]}


class Part:
    """All that is below one leaf.

    :param path: to the leaf
    :param search: its first nodes are the path
    """

    __slots__ = ("learnt", "path", "search")

    def __init__(self, path: Path, search: Dpor) -> None:
        self.path = path
        self.search = search
        self.learnt: list[tuple[int, Sequence]] = []
        """What must still be told to the node at some depth of the path."""

    def searched(self, search: Dpor) -> None:
        """It was searched for a slice."""
        self.search = search
        self.learnt += search.foreign
        search.foreign = []

    def order(self) -> tuple[int, ...]:
        """Sorts parts as one worker would search them."""
        return tuple([entry for _, entry in self.path])


class Forest:
    """What is still to be searched."""

    def __init__(self) -> None:
        self.parts = [Part((), Dpor())]
        """In the order in which one worker would search them; with those that wait for their turn to tell what they learnt."""

    def open(self) -> list[Part]:
        """Parts in which there is something left to search."""
        return [part for part in self.parts if not part.search.finished]

    def slice(self) -> int:
        """How many executions of each open part to make before the results are put together."""
        return SLICE if len(self.open()) >= PARTS else SLICE // 8

    def put_together(self) -> None:
        """Tell the common nodes what was learnt, as far as its turn has come, and cut what is left."""
        while self.parts:
            part = self.parts[0]
            self._tell(part)
            if not part.search.finished:
                break
            self.parts.remove(part)
        while 0 < len(self.open()) < PARTS and self._cut():
            pass

    def _tell(self, part: Part) -> None:
        learnt, part.learnt = part.learnt, []
        added = False
        for depth, sequence in learnt:
            common, entry = part.path[depth]
            added |= insert(common.entries, sequence, entry + 1)
        if added:
            self._start()

    def _start(self) -> None:
        """Make a part of every leaf that has none."""
        known = {id(common): common for part in self.parts for common, _ in part.path}
        for common in known.values():
            self._start_at(common)
        self.parts.sort(key=Part.order)

    def _start_at(self, common: Common) -> None:
        for entry in range(common.started, len(common.entries)):
            branch, tried = common.entries[entry], common.tried(entry)
            path = (*common.path, (common, entry))
            if branch.children:
                sleep = {who: touched for who, touched in tried.items() if not dependent(touched, branch.footprint)}
                self._start_at(Common(path, sleep, branch.children, 0))
            else:
                nodes = [
                    Node(each.tried(number), Branch(each.entries[number].who, each.entries[number].footprint), []) for each, number in path
                ]
                self.parts.append(Part(path, Dpor(nodes)))
        common.started = len(common.entries)

    def _cut(self) -> bool:
        """Make the first node of some part that has more to try a common one."""
        for part in self.open():
            search = part.search
            for depth in range(search.base, len(search.nodes)):
                if search.nodes[depth].branches:
                    self._share(part, depth)
                    self._start()
                    return True
        return False

    def _share(self, part: Part, depth: int) -> None:
        """Make a part's nodes down to ``depth`` common ones; it keeps what is below their current steps."""
        search = part.search
        for node in search.nodes[search.base : depth + 1]:
            common = Common(part.path, node.sleep, [node.current, *node.branches], 1)
            part.path = (*part.path, (common, 0))
            node.branches = []
        search.base = depth + 1
