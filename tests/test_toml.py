"""The file form of scenarios: round trips, and one clear line for every bad file."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.scenario.errors import ScenarioError
from kmm.scenario.lines import line_of
from kmm.scenario.model import Config, Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.strategies import page_states, scenarios
from kmm.scenario.toml import (
    canonical,
    canonical_bytes,
    load,
    load_many,
    load_replay,
    parse,
    parse_many,
    parse_replay,
    render,
    render_many,
    render_replay,
    save,
    save_many,
)

TINY = Geometry(ptes=8, lru_batch=1)

MINIMAL = """\
format = 1

[geometry]
ptes = 8
lru_batch = 1

[driver]
kind = "khugepaged"

[[vma]]
map = "aaaaaaaa"
"""

FULL = """\
format = 1
name = "everything"
remark = '''
two
lines'''
contract = "unchecked"
assumed = ["lru", "node"]

[geometry]
page_size = 16384
ptes = 128
lru_batch = 3

[config]
debug_vm = false
split_ptlocks = false
tlb = "ipi"
arch = "walking"

[tunables]
max_ptes_none = 0
max_ptes_swap = 1
max_ptes_shared = 2
enabled = "madvise"
defrag = false
shrink_underused = false

[tunables.hugepages]
2 = "always"
7 = "never"

[letters."#"]
kind = "swap"
swapcache = true

[letters.A]
kind = "present"
young = true
pins = 2
lru = "off"

[driver]
kind = "direct"
order = 2
offset = 4
is_khugepaged = false
mmap_locked = false
referenced = 0
unmapped = 1
misalign = 1

[[vma]]
map = \"\"\"
A#......A#......A#......A#......A#......A#......A#......A#......
................................................................
\"\"\"
flags = ["read"]

[[event]]
op = "sysfs"
before = "alloc"
nth = 2
name = "enabled"
value = "never"

[[event]]
op = "zap"
before = "mmap_write_lock"
page = 4

[[failure]]
kind = "poison"
page = 4

[replay]
candidate = "reviewed"
baseline = "v12"
expect = "equivalent"
""".replace("'''\ntwo\nlines'''", '"""\ntwo\nlines"""')

FULL_VALUE = Scenario(
    name="everything",
    remark="two\nlines",
    geometry=Geometry(page_size=16384, ptes=128, lru_batch=3),
    config=Config(debug_vm=False, split_ptlocks=False, tlb="ipi", arch="walking"),
    tunables=Tunables(
        max_ptes_none=0,
        max_ptes_swap=1,
        max_ptes_shared=2,
        enabled="madvise",
        hugepages=("always", "never", "never", "never", "never", "never"),
        defrag=False,
        shrink_underused=False,
    ),
    vmas=(Vma(pages="A#......" * 8 + "." * 64, flags=("read",)),),
    letters=(
        ("#", PageState(kind=Kind.SWAP, swapcache=True)),
        ("A", PageState(kind=Kind.PRESENT, young=True, pins=2, lru=Lru.OFF)),
    ),
    driver=Driver(kind=DriverKind.DIRECT, order=2, offset=4, is_khugepaged=False, mmap_locked=False, referenced=0, unmapped=1, misalign=1),
    events=(
        Event(op="sysfs", before="alloc", nth=2, name="enabled", value="never"),
        Event(op="zap", before="mmap_write_lock", page=4),
    ),
    failures=(Failure(kind="poison", page=4),),
    contract="unchecked",
    assumed=("lru", "node"),
)

MINIMAL_VALUE = Scenario(
    geometry=TINY, tunables=Tunables.default(TINY), vmas=(Vma(pages="a" * 8),), driver=Driver(kind=DriverKind.KHUGEPAGED)
)

MANY = """\
format = 1

[[scenario]]
name = "first"

[scenario.driver]
kind = "madvise"

[[scenario.vma]]
map = "........"

[scenario.geometry]
ptes = 8

[[scenario]]

[scenario.geometry]
ptes = 8

[scenario.driver]
kind = "khugepaged"

[[scenario.vma]]
map = "aaaaaaaa"
"""


@st.composite
def any_scenarios(draw: st.DrawFn) -> Scenario:
    """Scenarios with letters, names and remarks of their own."""
    letters = {letter: draw(page_states()) for letter in draw(st.sampled_from(("", "A", "A#", 'B"', "\\-[=")))}
    drawn = draw(scenarios(letters=letters))
    text = st.text(st.characters(codec="utf-8"), max_size=8)
    return attrs.evolve(drawn, name=draw(text), remark=draw(text), assumed=tuple(draw(st.lists(text, max_size=2))))


@given(any_scenarios())
def test_round_trip(s: Scenario) -> None:
    text = render(s)
    again = parse(text)
    assert (again, again.name) == (s, s.name)
    assert again.remark == s.remark
    assert render(again) == text


@given(st.lists(scenarios(), min_size=1, max_size=3))
@settings(max_examples=30)
def test_round_trip_of_several(many: list[Scenario]) -> None:
    text = render_many(many)
    assert parse_many(text) == tuple(many)
    assert canonical(text) == text


def test_canonical_files_stay_as_they_are() -> None:
    assert canonical(MINIMAL) == MINIMAL
    assert canonical(FULL) == FULL


def test_values_and_defaults() -> None:
    assert parse(MINIMAL) == MINIMAL_VALUE
    value, replay = parse_replay(FULL)
    assert value == FULL_VALUE
    assert (value.name, value.remark) == ("everything", "two\nlines")
    assert replay == {"candidate": "reviewed", "baseline": "v12", "expect": "equivalent"}
    assert render_replay(value, replay) == FULL
    assert parse(FULL) == FULL_VALUE


def test_what_is_accepted_beside_the_canonical_form() -> None:
    text = """
# order, comments, white space and written-out defaults do not matter
vma = [{ flags = ["write", "read"], map = '''
  aaaa  aaaa
''' }]
driver.kind = "khugepaged"
format = 1
geometry = { ptes = 8, lru_batch = 1, page_size = 4096 }
tunables.hugepages."3" = "inherit"
"""
    assert parse(text) == MINIMAL_VALUE
    assert canonical(text) == MINIMAL
    assert canonical(MINIMAL.replace("\n", "\r\n")) == MINIMAL


def test_long_maps_are_broken_at_64() -> None:
    for ptes, lines in ((64, 1), (128, 2), (512, 8)):
        g = Geometry(ptes=ptes)
        s = Scenario(geometry=g, tunables=Tunables.default(g), vmas=(Vma(pages="a" * ptes),), driver=Driver(kind=DriverKind.MADVISE))
        assert render(s).count("a" * 64) == lines
        assert render(s).count("a" * 65) == 0


def test_identity_leaves_name_and_remark_out() -> None:
    named = attrs.evolve(MINIMAL_VALUE, name="n", remark="r")
    assert canonical_bytes(named) == canonical_bytes(MINIMAL_VALUE) == MINIMAL.encode()
    assert canonical_bytes(attrs.evolve(MINIMAL_VALUE, assumed=("lru",))) != canonical_bytes(MINIMAL_VALUE)


def test_several_scenarios() -> None:
    first, second = parse_many(MANY)
    assert (first.name, first.driver.kind, first.geometry.lru_batch) == ("first", DriverKind.MADVISE, 31)
    assert second == attrs.evolve(MINIMAL_VALUE, geometry=Geometry(ptes=8))
    assert parse_many(MINIMAL) == (MINIMAL_VALUE,)


def bad(text: str, where: str, *says: str) -> None:
    """``text`` gives one line that begins with ``where`` and says all of ``says``."""
    with pytest.raises(ScenarioError) as caught:
        parse_many(text, "f.toml")
    message = str(caught.value)
    assert message.startswith(f"f.toml:{where}: "), message
    assert "\n" not in message
    assert len(message) < 300
    for part in says:
        assert part in message, message


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("format = 1\n", "", 1, "format is missing; begin the file with format = 1"),
        ("format = 1", "format = 2", 1, "format = 2 is not known"),
        ("format = 1", 'format = "1"', 1, 'format has the wrong value "1"; write a whole number'),
        ("format = 1", "format = true", 1, "format has the wrong value true"),
        ("format = 1", "format = 1\nnmae = 'x'", 2, 'unknown key "nmae"; did you mean "name"?'),
        ("ptes = 8", "ptes = 8\npets = 8", 5, 'unknown key "pets"; did you mean "ptes"?'),
        ("ptes = 8", "ptes = 8.0", 4, "ptes has the wrong value 8.0; write a whole number"),
        ("ptes = 8", "ptes = 9", 4, "ptes = 9 is not supported; use a power of two"),
        ("lru_batch = 1", "lru_batch = 0", 5, "lru_batch = 0 is out of range"),
        ('[driver]\nkind = "khugepaged"', "", 1, "the scenario has no driver; add [driver]"),
        ('[[vma]]\nmap = "aaaaaaaa"', "", 1, "the scenario has no VMA; add [[vma]]"),
        ("[[vma]]", "[vma]", 10, "vma must be an array of tables; write [[vma]]"),
        ("[driver]", "[[driver]]", 7, "driver must be a table; write [driver]"),
        ('kind = "khugepaged"', "", 7, "kind is missing; add kind"),
        ('"khugepaged"', '"kswapd"', 8, '"khugepaged", "madvise", "direct"'),
        ('"khugepaged"', '"khugepaged"\norder = 2', 7, "only a direct attempt has an order"),
        ('"khugepaged"', '"direct"\norder = 4', 9, "order = 4 is out of range; use 2 to 3"),
        ('"khugepaged"', '"direct"\norder = 2\noffset = 6', 10, "offset = 6 is out of range"),
        ('"khugepaged"', '"direct"\norder = 2\noffset = 2', 7, 'outside the contract; align it, or say contract = "unchecked"'),
        ('map = "aaaaaaaa"', "", 10, "map is missing"),
        ('"aaaaaaaa"', '"aaaaaaa"', 11, "the map has 7 letters, the table 8 entries; write 8 letters"),
        ('"aaaaaaaa"', '"aaaaaaaQ"', 11, '"Q" is not in the alphabet'),
        ('"aaaaaaaa"', '"aaaaaaaé"', 11, '"é" is not in the alphabet'),
        ('"aaaaaaaa"', '"aaaaaaau"', 11, '"u" needs a VMA armed for uffd-wp'),
        ('"aaaaaaaa"', '"aaaaaaa4"', 11, '"4" is larger than the table'),
        ('"aaaaaaaa"', "8", 11, "map has the wrong value 8; write a string"),
        ('"aaaaaaaa"', '"aaaaaaaa"\nanon_vma = false', 11, '"a" needs an anon_vma'),
        ('"aaaaaaaa"', '"aaaaaaaa"\nanon_vma = 1', 12, "anon_vma has the wrong value 1; write true or false"),
        ('"aaaaaaaa"', '"aaaaaaaa"\nflags = ["read"]', 11, '"a" is writable in a VMA that is not'),
        ('"aaaaaaaa"', '"aaaaaaaa"\nflags = "read"', 12, "write a list of strings"),
        ('"aaaaaaaa"', '"aaaaaaaa"\nflags = ["read", 1]', 12, "write a list of strings"),
        ('"aaaaaaaa"', '"aaaaaaaa"\nflags = ["red"]', 12, '"red" is not a VMA flag'),
        ('"aaaaaaaa"', '"aaaaaaaa"\nflags = ["read", "read"]', 12, 'flag "read" is given twice'),
        ('"aaaaaaaa"', '"aaaaaaaa"\n[[vma]]\nmap = "aaaaaaaa"', 13, "the VMA begins at page 0 in the one before (VMA 2)"),
        ("[driver]", "[config]\ntlb = 'slow'\n[driver]", 8, 'tlb = "slow" is not known'),
        ("[driver]", "[tunables]\nmax_ptes_none = 8\n[driver]", 8, "max_ptes_none = 8 is out of range; use 0 to 7"),
        ("[driver]", "[tunables]\nmax_ptes_none = -1\n[driver]", 8, "max_ptes_none = -1 is out of range"),
        ("[driver]", "[tunables]\nenabled = 'on'\n[driver]", 8, '"on" is not a mode'),
        ("[driver]", "[tunables.hugepages]\n2 = 'on'\n[driver]", 8, '"on" is not a mode of a hugepage size'),
        ("[driver]", "[tunables.hugepages]\n4 = 'always'\n[driver]", 8, 'unknown key "4"; use 2, 3'),
        ("[driver]", "[tunables]\nhugepages = ['always']\n[driver]", 8, "hugepages must be a table; write [hugepages]"),
        ("[driver]", "[letters.A]\nkind = 'none'\ndirty = true\n[driver]", 7, "a page cannot be both none and dirty"),
        ("[driver]", "[letters.A]\nkind = 'present'\npins = 9\n[driver]", 9, "pins = 9 is out of range"),
        ("[driver]", "[letters.A]\nkind = 'gone'\n[driver]", 8, 'write one of "none", "zero", "present", "swap"'),
        ("[driver]", "[letters.A]\ndirty = true\n[driver]", 7, "kind is missing"),
        ("[driver]", "[letters]\nA = 'present'\n[driver]", 8, "A must be a table"),
        ("[driver]", "[letters.AB]\nkind = 'none'\n[driver]", 7, '"AB" is not one letter'),
        ("[driver]", "[letters.a]\nkind = 'none'\n[driver]", 7, '"a" is a letter of the default alphabet'),
        ("[driver]", "[letters.'é']\nkind = 'none'\n[driver]", 7, '"é" is not one letter'),
        ("[driver]", "[[event]]\nop = 'zap'\nbefore = 'alloc'\npage = 8\n[driver]", 10, "page 8 lies outside the table"),
        ("[driver]", "[[event]]\nop = 'zap'\nbefore = 'alloc'\n[driver]", 7, "pin and zap name a page"),
        ("[driver]", "[[event]]\nop = 'nap'\nbefore = 'alloc'\n[driver]", 8, '"nap" is not an event'),
        ("[driver]", "[[event]]\nop = 'exit'\nbefore = 'lunch'\n[driver]", 9, '"lunch" is not a sleeping point'),
        ("[driver]", "[[event]]\nop = 'exit'\n[driver]", 7, "before is missing"),
        ("[driver]", "[[failure]]\nkind = 'alloc'\nnth = 0\n[driver]", 9, "nth = 0 is out of range"),
        ("[driver]", "[[failure]]\nkind = 'bad'\n[driver]", 8, '"bad" is not a failure'),
        ("[driver]", "[replay]\ncandidat = 'x'\n[driver]", 8, 'unknown key "candidat"; did you mean "candidate"?'),
        ("[driver]", "[replay]\ncandidate = 1\n[driver]", 8, "candidate has the wrong value 1; write a string"),
        ("format = 1", 'format = 1\npmd = "gone"', 2, 'pmd = "gone" is not known'),
        ("format = 1", 'format = 1\npmd = "huge"', 2, 'pmd = "huge" has no page-table entries'),
        ("format = 1", 'format = 1\ncontract = "none"', 2, 'contract = "none" is not known'),
        ("format = 1", "format = 1\nname = 3", 2, "name has the wrong value 3; write a string"),
        ("format = 1", "format = 1\nname = {}", 2, "name has the wrong value (a table); write a string"),
        ("format = 1", "format = 1\nassumed = 'lru'", 2, "assumed has the wrong value"),
        ("ptes = 8", "ptes = ", 4, "not valid TOML"),
        ("ptes = 8", "ptes = 8\nptes = 8", 5, "not valid TOML"),
        ('"aaaaaaaa"', '"""aaaaaaaa', 11, "not valid TOML"),
    ],
)
def test_bad_values_have_their_line(old: str, new: str, line: int, says: str) -> None:
    assert MINIMAL.count(old) == 1
    bad(MINIMAL.replace(old, new), str(line), says)


def test_misaligned_folio() -> None:
    letters = "[letters.A]\nkind = 'present'\norder = 2\nindex = 1\n"
    text = MINIMAL.replace("[driver]", letters + "[driver]").replace("aaaaaaaa", "a{}aaaaaa")
    assert parse(text.replace("{}", "A")).vmas[0].pages == "aAaaaaaa"
    bad(text.replace("a{}", "A{}").replace("{}", "a"), "15", 'the large folio of "A" is misaligned (page 0)')


def test_letters_that_share_a_folio() -> None:
    letters = "[letters.A]\nkind = 'present'\norder = 2\npins = 1\n"
    text = MINIMAL.replace("[driver]", letters + "[driver]").replace("aaaaaaaa", "22{}aaaa")
    assert parse(text.replace("{}", "T.")).vmas[0].pages == "22T.aaaa"
    bad(text.replace("{}", "A."), "15", '"2" and "A" at page 2 share a folio but not its state')


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (MANY.replace("madvise", "advise"), 7, "kind has the wrong value"),
        (MANY.replace("aaaaaaaa", "aaaaaaaQ"), 24, '"Q" is not in the alphabet'),
        (MANY.replace("[[scenario]]\n\n", "[[scenario]]\nformat = 1\n"), 16, 'unknown key "format"'),
        (MANY.replace("format = 1", "format = 1\nname = 'x'"), 2, 'unknown key "name"'),
        (MANY.replace("[[scenario]]\n\n", "[[scenario]]\nevent = 1\n"), 16, "event must be an array of tables"),
        ("format = 1\nscenario = []\n", 2, "the file holds no scenario"),
        ("format = 1\nscenario = 1\n", 2, "scenario must be an array of tables"),
        ("x = " + "[" * 5000, 1, ""),
        ("format = 1" + "0" * 5000, 1, ""),
    ],
)
def test_bad_files_of_several(text: str, line: int, says: str) -> None:
    bad(text, str(line), says)


def test_one_scenario_where_one_is_needed() -> None:
    with pytest.raises(ScenarioError, match=r"^f\.toml:3: the file holds several scenarios"):
        parse(MANY, "f.toml")
    with pytest.raises(ScenarioError, match="there is no scenario to write"):
        render_many([])


LINES = '''\
a = """
x = 1 " [y]
""" # [comment]
"b.c".d = [ # =
  { e = 1 },
]
[t."[".u]
k = '#'
[[v]]
k = 1
[v.w]
k = 1
[[v]]
k = { z = "=" }
[[v.x]]
k = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("b.c", "d"), 4),
        (("b.c",), 4),
        (("b.c", "d", 0, "e"), 4),
        (("t", "[", "u"), 7),
        (("t", "[", "u", "k"), 8),
        (("v", 0, "k"), 10),
        (("v", 0, "w"), 11),
        (("v", 0, "w", "k"), 12),
        (("v", 1), 13),
        (("v", 1, "k", "z"), 14),
        (("v", 1, "x", 0, "k"), 16),
        (("v", 1, "missing"), 13),
        (("missing",), 1),
    ],
)
def test_lines(path: tuple[str | int, ...], line: int) -> None:
    assert line_of(LINES, path) == line


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", "", "the file is empty"),
        (b" \n\n", "", "the file is empty"),
        (b"format = 1\nname = '\0'\n", ":2", "not UTF-8 text"),
        (b"format = 1\n\n# \xff\n", ":3", "not UTF-8 text"),
        (b"#" * ((4 << 20) + 1), "", "larger than 4 MiB"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, line: str, says: str) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}{line}: ")
    assert says in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"gone\.toml: there is no such file; "):
        load(tmp_path / "gone.toml")
    with pytest.raises(ScenarioError, match="this is a directory"):
        load_many(tmp_path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / ("x" * 300))
    with pytest.raises(ScenarioError, match="cannot be read"):
        load("a\0b")
    with pytest.raises(ScenarioError, match="cannot be written"):
        save(tmp_path / "gone" / "f.toml", MINIMAL_VALUE)
    with pytest.raises(ScenarioError, match="cannot be written"):
        save(tmp_path, MINIMAL_VALUE)
    assert sorted(tmp_path.iterdir()) == []


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    save(path, MINIMAL_VALUE)
    assert path.read_text() == MINIMAL
    assert load(str(path)) == MINIMAL_VALUE
    save_many(path, [MINIMAL_VALUE] * 2)
    assert load_many(path) == (MINIMAL_VALUE,) * 2
    path.write_text(FULL)
    assert load_replay(path)[1]["baseline"] == "v12"
    assert [each.name for each in tmp_path.iterdir()] == ["f.toml"]


def test_half_written_files_replace_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.toml"
    path.write_text("good")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ScenarioError, match=r"f\.toml: cannot be written \(No space left on device\)"):
        save(path, MINIMAL_VALUE)
    with pytest.raises(ScenarioError, match="cannot be written"):
        save(path, attrs.evolve(MINIMAL_VALUE, name="\ud800"))
    assert path.read_text() == "good"
    assert [each.name for each in tmp_path.iterdir()] == ["f.toml"]


def test_writing_keeps_mode_and_link(tmp_path: Path) -> None:
    path, link = tmp_path / "f.toml", tmp_path / "link.toml"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    save(link, MINIMAL_VALUE)
    assert link.is_symlink()
    assert path.read_text() == MINIMAL
    assert path.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        save(tmp_path / "new.toml", MINIMAL_VALUE)
    finally:
        os.umask(mask)
    assert (tmp_path / "new.toml").stat().st_mode & 0o777 == 0o640
