"""``kmm predict``: the expected numbers follow from the rules of the scan and of the order walk."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import attrs
import jsonschema
import pytest

from kmm.judge.variants import LoadedVariant
from kmm.live.predict import predict
from kmm.live.predict_form import why_not_scanned
from kmm.live.predict_json import schema, to_json
from kmm.live.predict_knobs import KnobError, Setting, parse_setting, spelled
from kmm.live.predict_value import Fate, Outcome, Prediction
from kmm.report import console
from kmm.report.predict import letter, picture, print_prediction
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from tests.helpers import MADVISE
from tests.judging import V12, mutant, small

REAL = Geometry()
DEFAULTS = Tunables.default(REAL)
FULL = "a" * 512


def captured(pages: str, *flags: str, pmd: str = "table", name: str = "", thp_disable: str = "no") -> Scenario:
    """A range of 512 pages under the kernel's default settings."""
    return Scenario(
        name=name,
        tunables=DEFAULTS,
        vmas=(Vma(pages=pages, flags=tuple(sorted(("read", "write", *flags)))),),
        driver=Driver(kind=DriverKind.KHUGEPAGED),
        pmd=pmd,
        thp_disable=thp_disable,
    )


def under(knobs: str, *ranges: Scenario, loaded: LoadedVariant = V12) -> list[Outcome]:
    """The outcomes under one setting; empty: as captured."""
    return predict(ranges, loaded, [parse_setting(knobs)] if knobs else [], jobs=1).outcomes(1 if knobs else 0)


def brief(outcome: Outcome) -> tuple[Fate, str, tuple[tuple[int, int], ...], int]:
    return outcome.fate, outcome.reason, outcome.folios, outcome.growth


PMD = ((9, 1),)

BY_THE_RULES = [
    ("", FULL, Fate.COLLAPSED, "", PMD, 0),
    # Holes: PMD order only, so the scan's limit is the setting itself.
    ("", "a" * 300 + "." * 212, Fate.COLLAPSED, "", PMD, 212),
    ("max_ptes_none=0", "a" * 300 + "." * 212, Fate.REFUSED, "exceed_none_pte", (), 0),
    ("max_ptes_none=211", "a" * 300 + "." * 212, Fate.REFUSED, "exceed_none_pte", (), 0),
    ("max_ptes_none=212", "a" * 300 + "." * 212, Fate.COLLAPSED, "", PMD, 212),
    ("", "a" * 500 + "z" * 12, Fate.COLLAPSED, "", PMD, 12),
    # One hole, in the first of 32 blocks of order 4.
    ("max_ptes_none=0,hugepages-64kB=always", "a" * 5 + "." + "a" * 506, Fate.PARTLY, "", ((4, 31),), 0),
    ("hugepages-64kB=always", "a" * 5 + "." + "a" * 506, Fate.COLLAPSED, "", PMD, 1),
    # Order 4 alone: 255 >> 5 = 7 holes are allowed, 8 are not.
    ("hugepages-2048kB=never,hugepages-64kB=always", "." * 7 + "a" * 505, Fate.PARTLY, "", ((4, 32),), 7),
    ("hugepages-2048kB=never,hugepages-64kB=always", "." * 8 + "a" * 504, Fate.PARTLY, "", ((4, 31),), 0),
    # What the block of order 4 leaves goes to order 2: pages 4 to 7 have the hole.
    ("max_ptes_none=0,hugepages-64kB=always,hugepages-16kB=always", "a" * 5 + "." + "a" * 506, Fate.PARTLY, "", ((4, 31), (2, 3)), 0),
    ("max_ptes_none=0,hugepages-2048kB=never,hugepages-64kB=always", "a..." * 128, Fate.REFUSED, "failed, nothing attempted", (), 0),
    ("hugepages-2048kB=never,hugepages-64kB=always", "4" * 512, Fate.REFUSED, "failed, pte_mapped_hugepage", (), 0),
    # Swap: 512/8 = 64 entries are allowed, and 256 referenced pages are needed beside them.
    ("", "a" * 448 + "v" * 64, Fate.COLLAPSED, "", PMD, 64),
    ("", "a" * 447 + "v" * 65, Fate.REFUSED, "exceed_swap_pte", (), 0),
    ("max_ptes_swap=65", "a" * 447 + "v" * 65, Fate.COLLAPSED, "", PMD, 65),
    ("", "a" * 255 + "o" * 256 + "v", Fate.REFUSED, "lack_referenced_page", (), 0),
    ("", "a" * 256 + "o" * 255 + "v", Fate.COLLAPSED, "", PMD, 1),
    ("", "s" * 256 + "a" * 256, Fate.COLLAPSED, "", PMD, 0),
    ("", "s" * 257 + "a" * 255, Fate.REFUSED, "exceed_shared_pte", (), 0),
    # One page is enough to refuse the whole range, whatever orders are enabled.
    ("hugepages-64kB=always", "a" * 511 + "p", Fate.REFUSED, "not_suitable_page_count", (), 0),
    ("", "a" * 511 + "k", Fate.REFUSED, "page_locked", (), 0),
    ("", "a" * 511 + "x", Fate.REFUSED, "page_not_in_lru", (), 0),
    ("", "a" * 511 + "b", Fate.COLLAPSED, "", PMD, 0),
    ("", "o" * 512, Fate.REFUSED, "lack_referenced_page", (), 0),
    ("enabled=never", FULL, Fate.NOT_SCANNED, "no order is enabled", (), 0),
    ("enabled=madvise", FULL, Fate.NOT_SCANNED, "no order is enabled", (), 0),
    ("enabled=never,hugepages-2048kB=always", FULL, Fate.COLLAPSED, "", PMD, 0),
]


@pytest.mark.parametrize(("knobs", "pages", "fate", "reason", "folios", "growth"), BY_THE_RULES)
def test_a_range_by_the_rules(knobs: str, pages: str, fate: Fate, reason: str, folios: tuple[tuple[int, int], ...], growth: int) -> None:
    (outcome,) = under(knobs, captured(pages))
    assert brief(outcome) == (fate, reason, folios, growth)
    assert outcome.resident == sum(c not in ".zv" for c in pages)
    assert outcome.swapped_in == (pages.count("v") if folios else 0)
    assert outcome.violations == ()


def test_a_range_that_is_huge_stays_so() -> None:
    huge, zero = under("", captured("." * 512, pmd="huge"), captured("." * 512, pmd="huge_zero"))
    assert brief(huge) == brief(zero) == (Fate.HUGE, "", (), 0)
    assert (huge.resident, zero.resident) == (512, 0)


def test_a_page_that_uffd_protects() -> None:
    (outcome,) = under("", captured("a" * 511 + "u", "uffd_wp"))
    assert brief(outcome) == (Fate.REFUSED, "pte_uffd_wp", (), 0)


def test_a_pass_begins_with_drained_batches() -> None:
    """What a capture calls off the LRU is taken for a batch, in letters of the file too."""
    states = captured(FULL).alphabet()
    letters = (("A", attrs.evolve(states["x"], young=False, soft_dirty=False)),)
    odd = attrs.evolve(captured(FULL), vmas=(Vma(pages="a" * 510 + "xA"),), letters=letters)
    seen, unseen = under("", odd, attrs.evolve(odd, assumed=("lru",)))
    assert brief(seen) == (Fate.REFUSED, "page_not_in_lru", (), 0)
    assert brief(unseen) == (Fate.COLLAPSED, "", PMD, 0)


def test_madvise_is_for_advised_vmas() -> None:
    advised, plain = under("enabled=madvise", captured(FULL, "hugepage"), captured(FULL))
    assert (advised.fate, plain.fate) == (Fate.COLLAPSED, Fate.NOT_SCANNED)


def parts(*vmas: Vma) -> Scenario:
    return attrs.evolve(captured(FULL), vmas=vmas)


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (captured(FULL, "nohugepage"), "VM_NOHUGEPAGE"),
        (captured(FULL, thp_disable="yes"), "PR_SET_THP_DISABLE"),
        (captured(FULL, thp_disable="except_advised"), "PR_SET_THP_DISABLE"),
        (captured(FULL, "io"), "VMA is io"),
        (parts(Vma(pages="." * 512, anon_vma=False)), "VMA without anon_vma"),
        (parts(Vma(pages="a" * 256, start=0), Vma(pages="r" * 256, start=256, flags=("read",))), "no VMA covers the range"),
    ],
)
def test_why_a_range_is_not_scanned(scenario: Scenario, why: str) -> None:
    (outcome,) = under("", scenario)
    assert brief(outcome) == (Fate.NOT_SCANNED, why, (), 0)
    assert why_not_scanned(scenario) == why


def test_except_advised_leaves_the_advised() -> None:
    (outcome,) = under("", captured(FULL, "hugepage", thp_disable="except_advised"))
    assert outcome.fate is Fate.COLLAPSED


def test_the_driver_of_the_file_does_not_matter() -> None:
    as_khugepaged, as_madvise = under("", captured("o" * 512), attrs.evolve(captured("o" * 512), driver=MADVISE))
    assert as_khugepaged == as_madvise


MIXED = [captured(FULL), captured(FULL), captured("a" * 300 + "." * 212), captured("a" * 511 + "p"), captured("." * 512, pmd="huge")]


def test_sums() -> None:
    prediction = predict(MIXED, V12, [parse_setting("max_ptes_none=0")], jobs=1)
    usual, strict = prediction.summary(0), prediction.summary(1)
    assert [(s.fate, s.reason, s.ranges, s.resident) for s in usual.shares] == [
        (Fate.HUGE, "", 1, 512),
        (Fate.COLLAPSED, "", 3, 1324),
        (Fate.REFUSED, "not_suitable_page_count", 1, 512),
    ]
    assert (usual.folios, usual.growth, strict.folios, strict.growth) == (((9, 3),), 212, ((9, 2),), 0)
    assert {s.reason: s.ranges for s in strict.shares if s.fate is Fate.REFUSED} == {"exceed_none_pte": 1, "not_suitable_page_count": 1}
    assert prediction.exit_code == 0


def test_equal_ranges_are_run_once() -> None:
    seen: list[tuple[int, int]] = []
    ranges = [captured(FULL, name=f"range {i}") for i in range(40)]
    prediction = predict(ranges, V12, [parse_setting("max_ptes_none=511")], jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert (prediction.predicted, prediction.summary(1).folios) == (40, ((9, 40),))


def holed(number: int) -> Scenario:
    """Ranges that all differ; two holes."""
    return captured("".join("." if i in (number, 511) else "a" for i in range(512)))


@pytest.mark.full
def test_500_ranges_take_500_runs() -> None:
    seen: list[tuple[int, int]] = []
    prediction = predict([holed(i) for i in range(500)], V12, jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (500, 500)
    assert all(total == 500 for _, total in seen)
    assert max(b - a for (a, _), (b, _) in itertools.pairwise(seen)) <= 16, "progress is shown often"
    assert prediction.summary(0).growth == 1000


def test_an_interrupt_keeps_what_is_known() -> None:
    def interrupt(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    prediction = predict([small("aaaaaa" + c + d) for c in "aorcs.zw" for d in "aorcs"], V12, jobs=1, progress=interrupt)
    assert (prediction.interrupted, prediction.predicted, prediction.exit_code) == (True, 16, 3)
    jsonschema.validate(to_json(prediction), json.loads(schema()))
    assert len("".join(picture(prediction, 0)).partition("  ")[2]) == 16


def test_a_variant_that_hangs_or_crashes_is_not_a_refusal(tmp_path: Path) -> None:
    anchor = "        result, folio = alloc_charge_folio("
    crash = mutant(tmp_path / "crash.py", anchor, f"        mm.no_such_field\n{anchor}")
    (outcome,) = under("", small("aaaaaaaa", 3), loaded=crash)
    assert outcome.fate is Fate.STOPPED
    assert "AttributeError" in outcome.reason
    ends = mutant(tmp_path / "ends.py", anchor, f"        __import__('os')._exit(7)\n{anchor}")
    prediction = predict([small("aaaaaaaa", 3), small("ooooaaap", 3)], ends, jobs=1)
    assert [o.fate for o in prediction.outcomes(0)] == [Fate.NO_ANSWER, Fate.REFUSED]
    assert prediction.outcomes(0)[0].reason == "the variant ended the process with code 7"
    assert prediction.exit_code == 3


def test_a_seeded_bug_shows(tmp_path: Path) -> None:
    """A variant that refuses what it collapsed is not predicted to collapse."""
    fails = mutant(tmp_path / "fails.py", "result = ScanResult.SCAN_SUCCEED", "result = ScanResult.SCAN_FAIL")
    (outcome,) = under("", small("aaaaaaaa", 3), loaded=fails)
    assert outcome.fate is Fate.REFUSED


@pytest.mark.parametrize("text", ["max_ptes_none=0", "khugepaged/max_ptes_none=0", " max_ptes_none = 0 "])
def test_names_of_knobs(text: str) -> None:
    assert parse_setting(text).on(DEFAULTS, REAL) == attrs.evolve(DEFAULTS, max_ptes_none=0)
    assert parse_setting(text).name == "max_ptes_none=0"


@pytest.mark.parametrize("text", ["hugepages-64kB=always", "hugepages-64kB/enabled=always"])
def test_sizes_are_orders(text: str) -> None:
    modes = parse_setting(text).on(DEFAULTS, REAL).hugepages
    assert modes == ("never", "never", "always", *["never"] * 4, "inherit")


def test_every_tunable_is_spelled() -> None:
    text = "enabled=madvise,defrag=0,max_ptes_none=1,max_ptes_shared=2,max_ptes_swap=3,hugepages-16kB=madvise,hugepages-2048kB=always"
    tunables = parse_setting(text).on(DEFAULTS, REAL)
    assert spelled(tunables, REAL) == text
    assert parse_setting("max_ptes_none=9,max_ptes_none=4").on(DEFAULTS, REAL).max_ptes_none == 4, "the last write stays"
    assert Setting().on(tunables, REAL) == tunables


EINVAL = "the kernel answers EINVAL (invalid argument)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((f"max_ptes_{name}={value}", EINVAL) for name in ("none", "swap", "shared") for value in ("512", "-1", "x", "٣", "1.0")),
        ("enabled=on", EINVAL),
        ("enabled=inherit", EINVAL),
        ("defrag=2", EINVAL),
        ("hugepages-64kB=yes", EINVAL),
        *(
            (f"{name}=always", "the kernel answers ENOENT (no such file)")
            for name in ("hugepages-8kB", "hugepages-4096kB", "hugepages-48kB", "x")
        ),
        ("max_ptes_none", '"max_ptes_none" is not a knob and its value'),
        ("max_ptes_none=", '"max_ptes_none=" is not a knob and its value'),
        ("max_ptes_none=0,", '"" is not a knob and its value'),
        ("", '"" is not a knob and its value'),
    ],
)
def test_knobs_that_the_kernel_refuses(text: str, problem: str) -> None:
    with pytest.raises(KnobError) as caught:
        parse_setting(text).on(DEFAULTS, REAL)
    assert caught.value.problem == problem
    assert caught.value.remedy


def test_ranges_of_one_geometry() -> None:
    with pytest.raises(ScenarioError, match="differ in their geometry"):
        predict([captured(FULL), small("aaaaaaaa")], V12)
    with pytest.raises(ScenarioError, match="no range"):
        predict([], V12)


def test_the_limits_follow_the_geometry() -> None:
    (outcome,) = under("max_ptes_none=7,hugepages-32kB=always", small("aaaaaaa."))
    assert outcome.folios == ((3, 1),)
    with pytest.raises(KnobError, match="write 0 to 7"):
        under("max_ptes_none=8", small("aaaaaaa."))


def drawn(names: Sequence[str]) -> list[str]:
    """The map of refused and whole ranges in turn."""
    pages = [FULL, "a" * 511 + "p"]
    return list(picture(predict([captured(pages[i % 2], name=name) for i, name in enumerate(names)], V12, jobs=1), 0))


def test_the_map_is_by_address() -> None:
    assert drawn([f"heap {(64 + i) * (2 << 20):#x}" for i in (1, 2, 5, 64 * 3)]) == ["000008000000   =p  =", "000020000000  p"]


@pytest.mark.parametrize(
    "names", [["range 1", "range 2"], ["a 0x200000", "range"], ["a 0x200000", "b 0x200000"], ["a 0x1000", "b 0x200000"]]
)
def test_without_addresses_the_map_is_by_number(names: list[str]) -> None:
    assert drawn(names) == ["0  =p"]


def test_rows_have_64_ranges() -> None:
    assert drawn([""] * 130) == ["  0  " + "=p" * 32, " 64  " + "=p" * 32, "128  =p"]


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (Outcome(fate=Fate.HUGE), "#"),
        (Outcome(fate=Fate.COLLAPSED), "="),
        (Outcome(fate=Fate.PARTLY), "+"),
        (Outcome(fate=Fate.REFUSED, reason="exceed_none_pte"), "."),
        (Outcome(fate=Fate.REFUSED, reason="failed, page_locked"), "f"),
        (Outcome(fate=Fate.NOT_SCANNED, reason="VM_NOHUGEPAGE"), "-"),
        (Outcome(fate=Fate.STOPPED, reason="BUG"), "!"),
        (Outcome(fate=Fate.NO_ANSWER), "?"),
    ],
)
def test_letters(outcome: Outcome, sign: str) -> None:
    assert letter(outcome) == sign


def shown(prediction: Prediction) -> list[str]:
    plain = console.plain()
    with plain.capture() as out:
        print_prediction(plain, prediction)
    return out.get().splitlines()


def test_the_text_says_it_all() -> None:
    ranges = [attrs.evolve(s, assumed=("young",)) for s in [*MIXED, captured("a" * 448 + "v" * 64)]]
    lines = shown(predict(ranges, V12, [parse_setting("max_ptes_none=0")], jobs=1, left_out=(("file VMA", 7),)))
    assert lines[0] == "one pass of khugepaged over 6 ranges of 2 MiB, 10.9 MiB resident, variant v12"
    assert "  B  max_ptes_none=0" in lines
    rows = {line[:3].strip() + " " + line[3:].split("  ")[0]: line.split()[-6:] for line in lines}
    assert rows["= collapses at PMD order"] == ["4", "6.9", "MiB", "2", "4", "MiB"]
    assert rows["# already mapped by a PMD"] == ["1", "2", "MiB", "1", "2", "MiB"]
    assert rows[". refused: exceed_none_pte (too many holes)"][-4:] == ["-", "1", "1.2", "MiB"]
    assert rows[" order 9, 2 MiB"] == ["4", "8", "MiB", "2", "4", "MiB"]
    assert rows[" growth of resident memory"][-3:] == ["1.1", "MiB", "0"]
    assert [line.split()[-3:] for line in lines if line.startswith("     by ")] == [["848", "KiB", "0"], ["256", "KiB", "0"]]
    assert [line for line in lines if line.startswith("0  ")] == ["0  ===p#=", "0  ==.p#,"]
    assert "         7  file VMA" in lines
    assert "assumed, because the capture could not see it: young" in lines
    assert all(line == line.rstrip() and len(line) <= 100 for line in lines)


def test_equal_maps_are_drawn_once() -> None:
    lines = shown(predict(MIXED, V12, [parse_setting("max_ptes_none=400")], jobs=1))
    assert "map under B: as the map under A" in lines


def test_many_settings_are_set_under_each_other() -> None:
    lines = shown(predict(MIXED, V12, [parse_setting(f"max_ptes_none={n}") for n in range(30)], jobs=1))
    assert max(map(len, lines)) <= 100
    assert sum("resident" in line and line.startswith("   ranges") for line in lines) == 11
