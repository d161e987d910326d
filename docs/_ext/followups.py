"""``make docs-help``: writes the follow-ups of the review into docs/followups.md."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

from kmm.lab.experiment import Experiment
from kmm.lab.experiment_report import where
from kmm.lab.followups import FILE, Followup, load_followups

ROOT: Final = Path(__file__).parents[2]
REFACTORS: Final = ROOT / "refactors"
PAGE: Final = ROOT / "docs/followups.md"
WIDTH: Final = 140
_NAME: Final = re.compile(r"`[^`]*`|\w*_\w*(?:\(\))?|\w+\(\)")

HEAD: Final = """\
# Follow-ups

What the [review](thread.md) leaves open, tried out: each is a patch in `refactors/followups`, and stands in `followups.toml` there with why
one would want it, what the judge is expected to say, and what the kernel did in the end. `make docs-help` writes this page from that file.

```console
$ kmm followups --no-judge
follow-up                comments  what it does                                expected
pmd-install              R18       pmd_install() in place of the barrier and   different
                                   pmd_populate()
...
```

Without `--no-judge` all of them are judged now, which takes some minutes. There are two more columns then: the relations that were found,
and whether that is as expected, which a difference may well be.

```console
$ kmm followups inc-nr-ptes
inc-nr-ptes: mm_inc_nr_ptes() before the table is put back
...
    +                mm_inc_nr_ptes(mm)
...
  expected    different, by CONSERVATION: pgtables_bytes
  verdict     different, as expected
...
      violations: absent | CONSERVATION: pgtables_bytes of mm1 is 8192, it has 1 PTE tables
...
$ kmm followups more-locks
kmm: followups/followups.toml: there is no follow-up "more-locks"; use one of pmd-install, ...
```

An experiment runs a scenario of `refactors/experiments`, or a scope: what `--scope` names (smoke: every exit, nobody beside), or every
schedule beside each of some actors. Such verdicts are about [this model](boundary.md), and *equivalent* is about
[what was run](equivalence.md). In parentheses stand the comments that a follow-up is about.
"""

TAIL: Final = """
## The file

| key of `[[followup]]` | what it is |
| --- | --- |
| `name` | words with `-` between them; the patch is `followups/NAME.patch` |
| `title`, `why`, `says`, `kernel` | what it does; why one would want it; what the judge says and why; what the kernel did |
| `comments` | of the review that it is about; may be none |
| `baseline` | the variant that is judged with and without the patch; default: `reviewed` |

`[[followup.experiment]]` has the keys that experiments of the [thread](thread.md) have, without `patch`, `baseline` and `candidate`. A
patch may change the files of `refactors` and `kmm/mm`, as one of [your own](your-patch.md) may.

## Exit codes

0: everything is as expected. 2: not so. 3: undetermined or interrupted. 4: bad input or usage. 1: an internal error.
"""


def section(one: Followup) -> str:
    """The part of the page that is about one follow-up."""
    comments = f"({', '.join(one.comments)}) " if one.comments else ""
    paragraphs = [f"{comments}{one.why}", f"**Here.** {one.says}", f"**The kernel.** {one.kernel}"]
    table = "\n".join(["| experiment | in | expected |", "| --- | --- | --- |", *map(_row, one.experiments)])
    body = "\n\n".join(textwrap.fill(code(each), WIDTH, break_on_hyphens=False) for each in paragraphs)
    return f"\n## {one.name}: {code(one.title)}\n\n{body}\n\n{table}\n"


def _row(experiment: Experiment) -> str:
    place = where(experiment, REFACTORS)
    if experiment.scenario:
        place = place.replace(experiment.scenario, f"`{Path(experiment.scenario).stem}`").removeprefix(f"{REFACTORS.name}/")
    expected = f"{experiment.expect}, by `{experiment.shows}`" if experiment.shows else experiment.expect
    return f"| {experiment.question} | {place} | {expected} |"


def code(text: str) -> str:
    """What looks like a name of code is marked as such."""
    return _NAME.sub(lambda found: found[0] if found[0].startswith("`") else f"`{found[0]}`", text)


def text() -> str:
    """The whole page."""
    return HEAD + "".join(section(each) for each in load_followups(REFACTORS / FILE)) + TAIL


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
