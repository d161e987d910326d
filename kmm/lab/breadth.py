"""How broad a check must be: what others run as well is judged where they are among themselves, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from kmm.judge.elsewhere import Elsewhere
from kmm.judge.variants import LoadedVariant
from kmm.lab.trees import home
from kmm.scenario.scope import generated

if TYPE_CHECKING:
    from kmm.scenario.families import Family

MM: Final = "kmm/mm"
KHUGEPAGED: Final = "khugepaged"
"""What nobody but khugepaged and MADV_COLLAPSE runs, under :data:`MM`."""


def families_of(baseline: LoadedVariant, candidate: LoadedVariant, scope: str, seed: int) -> list[Family]:
    """The families of a scope, for these two.

    :param scope: ``quick`` or ``full``
    :param seed: of what is sampled
    """
    return generated(scope, seed, others=others_differ(baseline, candidate))


def others_differ(baseline: LoadedVariant, candidate: LoadedVariant) -> bool:
    """They stand on different code outside of the collapse path."""
    first, second = (_root(each) for each in (baseline, candidate))
    return first != second and _shared(first) != _shared(second)


def _root(loaded: LoadedVariant) -> Path:
    return Path(loaded.variant.root) if isinstance(loaded.variant, Elsewhere) else home()


def _shared(root: Path) -> dict[str, bytes]:
    files = ((path.relative_to(root / MM), path) for path in (root / MM).rglob("*.py"))
    return {name.as_posix(): path.read_bytes() for name, path in files if name.parts[0] != KHUGEPAGED}
