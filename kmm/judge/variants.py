"""Find a variant by name or path, and load it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import re
import sys
import traceback
import types
from pathlib import Path
from typing import Final

import attrs

import kmm
from kmm.judge.elsewhere import Elsewhere
from kmm.judge.errors import VariantError
from kmm.judge.observe import OBSERVABLES
from kmm.judge.pool import Beat, Skip, guarded
from kmm.mm.intended import Intended, IntendedDifference
from kmm.mm.variant import Variant

MAX_BYTES: Final = 4 << 20
_ROOT: Final = Path(kmm.__file__).parent.parent
_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LINKS: Final = (
    "collapse_scan_mm_slot",
    "madvise_collapse",
    "collapse_single_pmd",
    "collapse_scan_pmd",
    "collapse_scan_bitmap",
    "collapse_huge_page",
)
_RELOAD_REMEDY: Final = "make its module-level code import and define things only"


@attrs.frozen(kw_only=True)
class LoadedVariant:
    """A variant and where it comes from.

    :param origin: for people: the path, the checkout's file or the installed module
    :param sha256: of the source, in hexadecimal
    :param path: the source
    :param intended: the differences that it declares
    """

    variant: Variant
    origin: str
    sha256: str
    path: Path
    intended: Intended = attrs.field(factory=dict)

    @property
    def files(self) -> frozenset[str]:
        """The sources of the variant's code: its module, and those of the functions that it took from elsewhere."""
        if isinstance(self.variant, Elsewhere):
            return self.variant.files
        links = (getattr(self.variant, link) for link in _LINKS)
        codes = (getattr(link, "__code__", None) for link in links)
        return frozenset({str(self.path), *(code.co_filename for code in codes if isinstance(code, types.CodeType))})

    def declared(self, baseline: LoadedVariant) -> tuple[IntendedDifference, ...]:
        """The differences from a baseline that it declares."""
        return self.intended.get(baseline.known_as, ())

    @property
    def known_as(self) -> str:
        """Its name, whatever tree it is of; declarations of intended differences call it so."""
        return self.variant.known_as if isinstance(self.variant, Elsewhere) else self.variant.name

    @property
    def root(self) -> Path:
        """The source tree that its callees come from."""
        return Path(self.variant.root) if isinstance(self.variant, Elsewhere) else _ROOT


def load_variant(name_or_path: str) -> LoadedVariant:
    """Load a variant; its code is executed.

    :param name_or_path: a path (it has ``/`` or ends in ``.py``), else a name in the ``refactors`` of the checkout around the
        current directory, else an installed one
    :raises VariantError: there is none, or it does not import, lacks ``VARIANT``, or that has the wrong type
    """
    if "/" in name_or_path or name_or_path.endswith(".py"):
        return _load(Path(name_or_path), name_or_path)
    if not _NAME.fullmatch(name_or_path):
        raise VariantError(f'"{name_or_path}" is not the name of a variant', "name one, or give a path that ends in .py")
    relative = Path(*name_or_path.split(".")).with_suffix(".py")
    installed = _installed()
    for refactors, origin in ((checkout(), f"refactors/{relative} of the checkout"), (installed, f"installed refactors.{name_or_path}")):
        if refactors is not None and (refactors / relative).is_file() and relative.name != "__init__.py":
            return _load(refactors / relative, origin)
    names = ", ".join(variant_names()) or "none is installed"
    raise VariantError(f'there is no variant "{name_or_path}"', f"use one of these ({names}), or give a path that ends in .py")


def variant_names() -> list[str]:
    """Names of the variants of the checkout, or the installed ones."""
    refactors = checkout() or _installed()
    return sorted(path.stem for path in refactors.glob("*.py") if path.stem != "__init__") if refactors else []


def checkout() -> Path | None:
    """The ``refactors`` of the checkout around the current directory."""
    here = Path.cwd()
    found = (each / "refactors" for each in (here, *here.parents) if (each / "refactors" / "__init__.py").is_file())
    return next(found, None)


def _installed() -> Path | None:
    spec = importlib.util.find_spec("refactors")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def installed_source(name: str) -> Path | None:
    """The file of an installed variant."""
    refactors = _installed()
    path = None if refactors is None else refactors / f"{name}.py"
    return path if path is not None and path.is_file() else None


def _load(path: Path, origin: str) -> LoadedVariant:
    path = Path(path.absolute())
    source = _read(path, origin)
    code = _compile(source, path, origin)
    digest = hashlib.sha256(source).hexdigest()
    _rehearse(path, origin, code)
    module = _execute(path, origin, code)
    return LoadedVariant(
        variant=_variant(module, source, origin),
        origin=origin,
        sha256=digest,
        path=path,
        intended=_intended(module, source, origin),
    )


def _read(path: Path, origin: str) -> bytes:
    try:
        if path.is_dir():
            raise VariantError("this is a directory", "name the Python file of a variant", origin)
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise VariantError("there is no such file", "check the name", origin) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VariantError(f"cannot be read ({reason})", "name a readable Python file", origin) from None
    if len(source) > MAX_BYTES:
        raise VariantError(f"the file is larger than {MAX_BYTES >> 20} MiB", "check that it is the source of a variant", origin)
    if not source.strip():
        raise VariantError("the file is empty", "define VARIANT in it", origin)
    return source


def _compile(source: bytes, path: Path, origin: str) -> types.CodeType:
    try:
        return compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f"{origin}:{error.lineno}" if error.lineno else origin
        raise VariantError(f"this is not Python ({error.msg})", "correct it", where) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise VariantError(f"this is not Python ({error})", "name the Python file of a variant", origin) from None


def _rehearse(path: Path, origin: str, code: types.CodeType) -> None:
    """Import it in a worker first: one that hangs or ends the process must not do so here."""

    def work(_task: None, skip: Skip, _beat: Beat) -> None:
        if 0 not in skip:
            with contextlib.suppress(VariantError):
                _execute(path, origin, code)

    lost = guarded(work).lost
    if lost:
        raise VariantError(f"the variant does not import (it {lost[0].reason})", _RELOAD_REMEDY, origin)


def _execute(path: Path, origin: str, code: types.CodeType) -> types.ModuleType:
    module = types.ModuleType(f"variant_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(code, module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{origin}:{lines[-1]}" if lines else origin
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise VariantError(f"the variant does not import ({text})", "correct it", where) from None
    return module


def _variant(module: types.ModuleType, source: bytes, origin: str) -> Variant:
    variant = getattr(module, "VARIANT", None)
    if variant is None:
        raise VariantError("the module has no VARIANT", "add VARIANT = Variant(name=..., collapse_huge_page=...)", origin)
    where = _assigned("VARIANT", source, origin)
    if not isinstance(variant, Variant):
        kind = type(variant).__name__
        raise VariantError(f"VARIANT is of type {kind}, not Variant", "make it a kmm.mm.variant.Variant", where)
    name: object = variant.name
    if not (isinstance(name, str) and name and name.isprintable()):
        raise VariantError("the name of VARIANT is not a printable text", "give it one", where)
    for link in _LINKS:
        function = getattr(variant, link)
        if not callable(function) and (function is not None or link == "collapse_huge_page"):
            raise VariantError(f"{link} of VARIANT is not a function", "give it one, or leave an optional one out", where)
    return variant


def _intended(module: types.ModuleType, source: bytes, origin: str) -> Intended:
    intended: object = getattr(module, "INTENDED", {})
    if not isinstance(intended, dict) or not all(_is_declaration(name, each) for name, each in intended.items()):
        raise VariantError(
            "INTENDED is not a dict of names to tuples of IntendedDifference",
            "see kmm.mm.intended",
            _assigned("INTENDED", source, origin),
        )
    for each in (each for differences in intended.values() for each in differences):
        if each.observable not in OBSERVABLES:
            problem = f'INTENDED names "{each.observable}", which is not an observable'
            raise VariantError(problem, f"use one of {', '.join(OBSERVABLES)}", _assigned("INTENDED", source, origin))
    return dict(intended)


def _is_declaration(name: object, differences: object) -> bool:
    return isinstance(name, str) and isinstance(differences, tuple) and all(isinstance(one, IntendedDifference) for one in differences)


def _assigned(name: str, source: bytes, origin: str) -> str:
    """File and line of the last module-level assignment."""
    lines = [
        node.lineno
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    ]
    return f"{origin}:{lines[-1]}" if lines else origin
