"""What is predicted: the fate of each range under each setting, and their sums."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable

import attrs

from kmm.live.predict_knobs import Setting
from kmm.scenario.model import Geometry


class Fate(enum.Enum):
    """What becomes of a range."""

    HUGE = "huge"
    COLLAPSED = "collapsed"
    PARTLY = "partly"
    REFUSED = "refused"
    NOT_SCANNED = "not_scanned"
    STOPPED = "stopped"
    NO_ANSWER = "no_answer"


@attrs.frozen(kw_only=True)
class Outcome:
    """What one pass does to one range.

    :param fate: ``huge``: a PMD maps it already; ``collapsed``: at PMD order; ``partly``: at smaller orders; ``stopped``: the
        variant crashed; ``no_answer``: the variant hung, ended the process, or does not do this
    :param code: the result of the scan, as ``SCAN_SUCCEED``; empty without one
    :param reason: why it does not collapse, in the kernel's words where it has some; empty when it does
    :param folios: order and number of the large folios made
    :param resident: the owner's anonymous pages before
    :param growth: pages by which they grow
    :param swapped_in: pages of the growth that came from swap
    :param violations: names of the sanitizers that spoke
    """

    fate: Fate
    code: str = ""
    reason: str = ""
    folios: tuple[tuple[int, int], ...] = ()
    resident: int = 0
    growth: int = 0
    swapped_in: int = 0
    violations: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class RangeFate:
    """A range.

    :param name: of its scenario
    :param outcomes: one for each setting; none: it was not reached
    """

    name: str
    outcomes: tuple[Outcome, ...] = ()


@attrs.frozen(kw_only=True)
class Share:
    """The ranges that share a fate.

    :param resident: their anonymous pages before the pass
    """

    fate: Fate
    code: str
    reason: str
    ranges: int
    resident: int


@attrs.frozen(kw_only=True)
class Summary:
    """One setting over all ranges.

    :param shares: in the order of the fates, the most ranges first
    :param folios: order and number, the largest order first
    :param growth: pages
    :param swapped_in: pages of it that came from swap; the others fill holes
    :param violations: name of a sanitizer, and ranges in which it spoke
    """

    shares: tuple[Share, ...]
    folios: tuple[tuple[int, int], ...]
    growth: int
    swapped_in: int
    violations: tuple[tuple[str, int], ...]


@attrs.frozen(kw_only=True)
class Prediction:
    """What a pass of khugepaged would do.

    :param variant: name of the version of the code
    :param sha256: of its source
    :param settings: the first is as captured
    :param tunables: spelled out for each setting; empty where the ranges differ in them
    :param ranges: in the order of the capture
    :param assumed: what the capture could not see
    :param left_out: reason and number of ranges that were not captured; ``None``: not known
    """

    variant: str
    sha256: str
    geometry: Geometry
    settings: tuple[Setting, ...]
    tunables: tuple[str, ...]
    ranges: tuple[RangeFate, ...]
    assumed: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] | None = None
    interrupted: bool = False

    @property
    def predicted(self) -> int:
        """Ranges that were reached."""
        return sum(bool(each.outcomes) for each in self.ranges)

    @property
    def determined(self) -> bool:
        """Every range was reached and gave an answer."""
        answered = all(o.fate is not Fate.NO_ANSWER for each in self.ranges for o in each.outcomes)
        return answered and not self.interrupted and self.predicted == len(self.ranges)

    @property
    def exit_code(self) -> int:
        """0, or 3: undetermined."""
        return 0 if self.determined else 3

    def outcomes(self, setting: int) -> list[Outcome]:
        """Those of the ranges that were reached.

        :param setting: index
        """
        return [each.outcomes[setting] for each in self.ranges if each.outcomes]

    def summary(self, setting: int) -> Summary:
        """The sums of one setting, by its index."""
        return summarise(self.outcomes(setting))


def summarise(outcomes: Iterable[Outcome]) -> Summary:
    """Sums over ranges."""
    ranges: Counter[tuple[Fate, str, str]] = Counter()
    resident: Counter[tuple[Fate, str, str]] = Counter()
    folios: Counter[int] = Counter()
    violations: Counter[str] = Counter()
    growth = swapped_in = 0
    for each in outcomes:
        key = each.fate, each.code, each.reason
        ranges[key] += 1
        resident[key] += each.resident
        folios.update(dict(each.folios))
        violations.update(each.violations)
        growth += each.growth
        swapped_in += each.swapped_in
    place = {fate: i for i, fate in enumerate(Fate)}
    keys = sorted(ranges, key=lambda key: (place[key[0]], -ranges[key], key[1:]))
    return Summary(
        shares=tuple(Share(fate=k[0], code=k[1], reason=k[2], ranges=ranges[k], resident=resident[k]) for k in keys),
        folios=tuple(sorted(folios.items(), reverse=True)),
        growth=growth,
        swapped_in=swapped_in,
        violations=tuple(sorted(violations.items())),
    )
