"""``make docs-help``: writes the seeded bugs into docs/bugs.md."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from docs._ext.followups import REFACTORS, ROOT, WIDTH, code
from kmm.lab.bugs import FILE, GENERAL, Bug, Bugs, LeftOut, load_bugs

NO_BUG: Final = "**No bug.** It must not be told from the other form."
PAGE: Final = ROOT / "docs/bugs.md"

HEAD: Final = """\
# Seeded bugs

Known defects of the collapse path, seeded one by one: each is a patch in `refactors/bugs`, and stands in `bugs.toml` there with the
invariant that it breaks, the check that must catch it, and the smallest scenario in which that is known to happen. `make docs-help`
writes this page from that file.

```console
$ kmm bugs --no-judge
bug           class  what is wrong                               in        breaks  must be caught by
A-01          ARCH   the cache hook is called while the PMD is   merged            DEBUG_VM
                     empty
...
```

Without `--no-judge` each form is run with and without its bug. The table says then what caught it: a [sanitizer](sanitizers.md), which
has to be the first that speaks, or an observable that differs while no sanitizer speaks, for a defect that only gives another answer. A
bug that survives, and one that something else catches, end the command with exit code 2. `runs` says how much it took: beside actors, the
executions up to the first that shows the bug, and those of the form without it, which are [all that matter](explore.md).

```console
$ kmm bugs S-05-unlock
S-05-unlock: the early exit of swap-in keeps the mmap lock
...
    -            mmap_read_unlock(mm)
...
killed by LOCKDEP
  runs        1 pair
  says        LOCKDEP: mmap_locked is False on return, but the lock is held
...
$ kmm bugs C-02
...
killed by CONSERVATION
  runs        13; 20 without
  says        CONSERVATION: mm1 has a migration entry for page 7, which nobody migrates any more
...
$ kmm bugs H-19
  H-19        left out: a folio of the page cache is looked at without a reference. ...
...
$ kmm bugs S-99
kmm: bugs/bugs.toml: there is no bug "S-99"; use one of A-01, ...
```

Some entries are **no bugs**: differences that must not be flagged. They stand beside the bug that they look like, and the command fails
when one is told from the form without it, or when a sanitizer speaks in any schedule.

*In* names the form that the patch is for. What v12 itself has is put into a later form that has it fixed; where none has, the patch
repairs v12. Each entry says so. With `--scope quick` each is also looked for in what `kmm check` runs, and where it needs an interleaving
in drawn schedules beside more actors; *found by* says which of the two does. Entries that compare two variants are left out there, since
these differ in more than the defect. How well a defect is known: A, the report or its fix was read; B, a changelog, a cover letter or a
reply says so; C, it was concluded from two versions of the code.
"""

INVARIANTS: Final = """
## The invariants

| id | what holds |
| --- | --- |
| I1 | When `collapse_huge_page` returns, the PMD leads to the table that was there, or is a huge entry. |
| I2 | Locks, RCU sections, mappings of tables and notifier windows are balanced on every path. |
| I3 | NR_ISOLATED_ANON is what it was; no folio stays locked or off its list. |
| I4 | A folio's references are its mappings, the swap cache and known holders. |
| I5 | A page's mapcount is the number of entries that map it. |
| I6 | Every page reads as before; holes read as zero. |
| I7 | Permissions and software bits of entries are neither widened nor lost. |
| I8 | MM_ANONPAGES grows by the holes that were filled; the bytes of page tables stay. |
| I9 | Charges and counters of the cgroup are right. |
| I10 | Events and statistics are counted for the right orders. |
| I11 | Result, errno and what is done next are as specified. |
| I12 | The out-flag says the truth about the mmap lock. |
| I13 | Entries outside of the range are unchanged, and walks of the reverse map reach them when it matters. |
| I14 | Nobody reaches a page after it was freed or replaced. |
| I15 | A table is freed only when all who walk it have left; a huge PMD has one deposited table. |
| I16 | Tunables are respected. |
| I17 | Repeated scans come to rest. |
| I18 | What a window announces covers what changes. |
| I19 | No pointer is used after what protects it was given up. |
"""

TAIL: Final = """
## The file

| key of `[[bug]]` | what it is |
| --- | --- |
| `name` | the id of the known defect, perhaps with words behind it; the patch is `bugs/NAME.patch` |
| `title`, `why` | what is wrong; what goes wrong, in a paragraph |
| `class` | `SEQ`: inputs alone; `CONC`: an interleaving; `WM`: a missing barrier; `ARCH`: an architecture |
| `grade`, `invariants` | how well it is known; what it breaks |
| `variant` | the form that the patch is for; default: `v12` |
| `patch` | another patch, relative to `refactors` |
| `candidate` | a variant that has the defect as it is, in place of a patch |
| `repairs` | the patch takes the defect out of the variant |
| `caught_by`, `shows` | a sanitizer or an observable, and what must stand in what it says; without the two it is no bug |
| `scenario` | the smallest scenario, relative to `refactors` |
| `memory` | `sc` (default) or `pso` |
| `preemptions` | where there are too many schedules: those with so many preemptions, up to a report, and as many without the bug |
| `general` | `quick` or `beside`: what finds it as well |

`[[left_out]]` has `id`, `title` and `why` of a defect that the model cannot hold.

## Exit codes

0: all are caught by the right check, and what is no bug is found to be none. 2: not so. 3: undetermined or interrupted. 4: bad input or
usage, a patch that does not apply among it. 1: an internal error.
"""


def section(bugs: Bugs, name: str) -> str:
    """The part of the page that is about one known defect."""
    mine = bugs.named(name)
    return "".join([*map(_bug, mine.bugs), *map(_left_out, mine.left_out)])


def _bug(bug: Bug) -> str:
    without, having = bug.forms
    lead = f"({', '.join([bug.kind, bug.grade, *bug.invariants])}) {bug.why}"
    found = f" Found by {GENERAL[bug.general]}." if bug.general else ""
    caught = (
        f"**Caught by** `{bug.caught_by}`: `{bug.shows}`.{found}"
        if bug.caught_by
        else "**No bug.** It must not be told from the other form."
    )
    forms = f"{without} against {having}, in `{Path(bug.scenario).stem}`" + (f", patch `{bug.patch}`." if bug.patch else ".")
    body = "\n\n".join(textwrap.fill(each, WIDTH, break_on_hyphens=False, break_long_words=False) for each in (code(lead), caught, forms))
    return f"\n## {bug.name}: {code(bug.title)}\n\n{body}\n"


def _left_out(one: LeftOut) -> str:
    return f"\n## {one.id}: {code(one.title)}\n\n{textwrap.fill(f'**Left out.** {code(one.why)}', WIDTH)}\n"


def text() -> str:
    """The whole page."""
    bugs = load_bugs(REFACTORS / FILE)
    return HEAD + "".join(section(bugs, each) for each in bugs.ids) + INVARIANTS + TAIL


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
