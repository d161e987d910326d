"""The lint over variants: they differ only in the functions that they declare.

What a variant declares are the functions of its links and all that these reach in its file. Everything else that runs is
``kmm.mm``, the same for every variant, as long as no variant changes it: the rules see to that.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kmm.judge.code import INTENDED, LINKS, Code, code_of, dotted_names
from kmm.judge.definitions import Definition, in_port, port, shown
from kmm.judge.lint_access import bypasses, port_fields
from kmm.judge.lint_module import Raw, check_module
from kmm.judge.lint_state import check_state
from kmm.judge.variants import LoadedVariant


@attrs.frozen(kw_only=True)
class LintFinding:
    """Something in a variant's file.

    :param rule: one word
    :param problem: one clause
    :param remedy: one clause
    :param note: it is allowed, and worth knowing
    """

    file: str
    line: int
    rule: str
    problem: str
    remedy: str
    note: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {'note' if self.note else self.rule}: {self.problem}; {self.remedy}"


def lint(loaded: LoadedVariant) -> list[LintFinding]:
    """Everything that the lint has to say about a variant, by line."""
    code = code_of(loaded)
    file = shown(code.module.path)
    found = [*check_module(code.module), *check_state(code.module), *_links(code), *_unreached(code), *_accesses(code)]
    findings = {LintFinding(file=file, line=line, rule=rule, problem=what, remedy=remedy) for line, rule, what, remedy in found}
    notes = {
        LintFinding(file=file, line=line, rule="shadow", problem=what, remedy=advice, note=True) for line, what, advice in _shadows(code)
    }
    return sorted(findings | notes, key=lambda each: (each.line, each.note, each.rule, each.problem))


def _accesses(code: Code) -> Iterator[Raw]:
    for line, what in bypasses(code.module.tree, port_fields()):
        yield line, "access", what, "go through current.machine or the accessors over it"


def _links(code: Code) -> Iterator[Raw]:
    """A link is a function that one can read."""
    variant = code.module.definition("VARIANT")
    line = variant.node.lineno if variant is not None else 1
    for link, function in code.links.items():
        if function is None:
            yield (
                line,
                "link",
                f"{link} is not a function that a module defines by def",
                "define one at module level and name it in VARIANT",
            )


def _unreached(code: Code) -> Iterator[Raw]:
    for each in _own(code):
        if each.name in LINKS and each.name not in code.links:
            yield (
                each.node.lineno,
                "link",
                f"{each.name} is a link that VARIANT does not declare, so the drivers call that of kmm.mm",
                f"add {each.name}={each.name} to VARIANT, or rename it",
            )
        elif each.kind != "constant" and each not in code.reached:
            yield (
                each.node.lineno,
                "unreached",
                f"no link of VARIANT reaches {each.name}, so nothing judges it",
                "call it, give it to VARIANT, or remove it",
            )


def _shadows(code: Code) -> Iterator[tuple[int, str, str]]:
    """Functions that stand in for one of ``kmm.mm``, and who still calls that one."""
    for each in _own(code):
        theirs = in_port(each.name)
        if theirs is None or each.kind != "function" or code.reached.get(each, (INTENDED,)) == (INTENDED,) or code.link_of(each):
            continue
        others = _callers(theirs)
        still = f"{', '.join(others[:3])}{' and others' if len(others) > 3 else ''} of kmm.mm still call that one"
        advice = still if others else "nothing in kmm.mm calls that one"
        yield each.node.lineno, f"{each.name} stands in for {theirs.place} where this file calls it", advice


def _callers(function: Definition) -> list[str]:
    """Functions of ``kmm.mm`` that name a function."""
    everything = [each for name in sorted(port()) for each in port()[name] if each.kind == "function" and each is not function]
    return [each.name for each in everything if function.name in dotted_names(each.node)]


def _own(code: Code) -> list[Definition]:
    return [each for each in code.definitions if each.path == code.module.path]
