"""The reader's own C: found in a small tree whose text is ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs._ext.beside import page
from docs._ext.csource import FUNCTION, GENERATED, MACRO, Source, find
from docs._ext.kernel_tree import BAD_INPUT, KernelTree, KernelTreeError, main
from tests.sessions import ROOT
from tests.test_docs import build

KHUGEPAGED = """\
// SPDX-License-Identifier: GPL-2.0
static int collapse_test_exit(struct mm_struct *mm);

/* collapse_test_exit() { in a comment } */
static inline int __must_check collapse_test_exit(struct mm_struct *mm)
{
\tif (mm->users == '{')
\t\tpr_warn("a brace { in a text");
\treturn !mm->users;
}

static __always_inline
struct folio *
alloc_charge_folio(struct mm_struct *mm,
\t\t   struct collapse_control *cc, unsigned int order)
\t__must_hold(&mm->lock)
\t__releases(mm)
{
\tfor (;;) {
#ifdef CONFIG_A
\t\tif (order) {
#elif defined(CONFIG_B)
\t\tif (cc) {
#else
\t\tif (mm) {
#endif
\t\t\tbreak;
\t\t}
\t}
\treturn collapse_test_exit(mm) ? NULL : cc;
}
EXPORT_SYMBOL(alloc_charge_folio);

#ifndef CONFIG_C
static int check_pmd_state(pmd_t *pmd) { return 0; }
#else
static int check_pmd_state(pmd_t *pmd)
{
\tpmd_t now = READ_ONCE(*pmd);

\treturn now.val;
}
#endif

static int collapse_huge_page(struct mm_struct *mm, unsigned long pmd_address,
\t\t\t      bool *mmap_locked, unsigned int order, unsigned long offset)
{
\treturn 1;
}

SYSCALL_DEFINE2(munmap, unsigned long, addr, size_t, len)
{
\treturn addr + len;
}
"""
HEADERS = {
    "include/linux/page-flags.h": "FOLIO_FLAG(referenced, HEAD)\n\tFOLIO_MORE(referenced)\nPAGEFLAG(Lru, lru, HEAD)\n",
    "include/linux/pgtable.h": """\
#ifndef set_ptes
static inline void set_ptes(struct mm_struct *mm, int nr)
{
}
#define set_ptes set_ptes
#endif
#define set_pte_at(mm, p) \\
\tset_ptes(mm, 1)
#define PAGE_SIZE\t4096 /* bytes */
""",
    "include/linux/other.h": "static inline int folio_nr_pages(struct folio *folio)\n{\n\treturn 1;\n}\n",
}
MAKEFILE = "# SPDX\nVERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\nEXTRAVERSION = -rc2\nNAME = X\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A kernel tree with a few functions."""
    root = tmp_path / "linux tree"
    for name, text in {"Makefile": MAKEFILE, "mm/khugepaged.c": KHUGEPAGED, **HEADERS}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def found(name: str, text: str = KHUGEPAGED) -> tuple[int, str, str, str]:
    """Line, kind, first and last line of a definition."""
    definition = find(Source.of(text), name)
    assert definition is not None
    lines = definition.text.splitlines()
    return definition.line, definition.kind, lines[0], lines[-1]


def test_the_definition_and_not_the_declaration_or_the_comment() -> None:
    assert found("collapse_test_exit") == (5, FUNCTION, "static inline int __must_check collapse_test_exit(struct mm_struct *mm)", "}")
    definition = find(Source.of(KHUGEPAGED), "collapse_test_exit")
    assert definition is not None
    assert definition.text.count("\n") == 5
    assert "        return !mm->users;" in definition.text


def test_a_type_on_lines_of_its_own_attributes_and_branches() -> None:
    assert found("alloc_charge_folio") == (12, FUNCTION, "static __always_inline", "}")
    definition = find(Source.of(KHUGEPAGED), "alloc_charge_folio")
    assert definition is not None
    assert definition.text.endswith("return collapse_test_exit(mm) ? NULL : cc;\n}")


def test_of_two_branches_the_one_that_is_no_stub() -> None:
    assert found("check_pmd_state")[:2] == (37, FUNCTION)


def test_a_macro_with_a_body() -> None:
    first = "SYSCALL_DEFINE2(munmap, unsigned long, addr, size_t, len)"
    assert found("munmap") == (KHUGEPAGED.splitlines().index(first) + 1, FUNCTION, first, "}")


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("set_ptes", "include/linux/pgtable.h", (2, FUNCTION, "static inline void set_ptes(struct mm_struct *mm, int nr)", "}")),
        ("set_pte_at", "include/linux/pgtable.h", (7, MACRO, "#define set_pte_at(mm, p) \\", "        set_ptes(mm, 1)")),
        (
            "PAGE_SIZE",
            "include/linux/pgtable.h",
            (9, MACRO, "#define PAGE_SIZE       4096 /* bytes */", "#define PAGE_SIZE       4096 /* bytes */"),
        ),
        (
            "folio_test_referenced",
            "include/linux/page-flags.h",
            (1, GENERATED, "FOLIO_FLAG(referenced, HEAD)", "        FOLIO_MORE(referenced)"),
        ),
        ("folio_test_lru", "include/linux/page-flags.h", (3, GENERATED, "PAGEFLAG(Lru, lru, HEAD)", "PAGEFLAG(Lru, lru, HEAD)")),
    ],
)
def test_macros(name: str, file: str, expected: tuple[int, str, str, str]) -> None:
    assert found(name, HEADERS[file]) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("foo", "int bar(void)\n{\n\treturn foo(1);\n}\n"),
        ("foo", "extern int foo(int);\n\nint bar(void)\n{\n}\n"),
        ("foo", "EXPORT_SYMBOL(foo)\nint bar(void)\n{\n}\n"),
        ("foo", "int x = foo(1);\nstruct s {\n\tint a;\n};\n"),
        ("foo", "int bar(int (*foo)(void))\n{\n}\n"),
        ("foo", "#define bar() foo() { }\n"),
        ("foo", "#define foo foo\n"),
        ("foo", 'char *a = "int foo(void) {";\n'),
        ("foo", "int foobar(void)\n{\n}\nint barfoo(void)\n{\n}\n"),
        ("folio_test_x", "FOLIO_FLAG(xy, HEAD)\n"),
    ],
)
def test_what_is_no_definition(name: str, text: str) -> None:
    assert find(Source.of(text), name) is None


def test_version_and_series(tree: Path) -> None:
    opened = KernelTree.open(str(tree))
    assert opened.version == "6.18.0-rc2"
    assert opened.has_v12
    (tree / "mm/khugepaged.c").write_text(KHUGEPAGED.replace("unsigned long offset", "unsigned long x"))
    assert not KernelTree.open(str(tree)).has_v12


def test_a_function_may_stand_elsewhere(tree: Path) -> None:
    opened = KernelTree.open(str(tree))
    elsewhere = opened.look_up("folio_nr_pages", ("include/linux/mm.h",))
    assert elsewhere is not None
    assert elsewhere.file == "include/linux/other.h"
    assert opened.look_up("folio_nid", ("include/linux/mm.h",)) is None


def test_both_texts_stand_side_by_side(tree: Path) -> None:
    shown = list(page(KernelTree.open(str(tree))))
    text = "\n".join(each.astext() for each in shown)
    assert "Linux 6.18.0-rc2" in text
    assert "takes an order and an offset" in text
    missing = shown[1].astext()
    assert missing.startswith("Not found in this tree")
    assert "folio_nid" in missing
    assert "alloc_charge_folio" not in missing
    blocks = [block for each in shown for block in each.findall() if block.tagname == "literal_block"]
    languages = [block["language"] for block in blocks]
    assert languages == ["c", "python"] * (len(blocks) // 2)
    pairs = {c.astext(): python.astext() for c, python in zip(blocks[::2], blocks[1::2], strict=True)}
    (python,) = [value for key, value in pairs.items() if "alloc_charge_folio(struct" in key]
    assert python.startswith("def alloc_charge_folio(")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda root: (root / "Makefile").unlink(), "Makefile cannot be read (No such file or directory)"),
        (lambda root: (root / "mm/khugepaged.c").unlink(), "mm/khugepaged.c cannot be read (No such file or directory)"),
        (lambda root: (root / "Makefile").write_text("all:\n"), "its Makefile names no kernel version"),
    ],
    ids=["makefile", "khugepaged", "version"],
)
def test_a_directory_that_is_no_tree(spoil: object, problem: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(spoil)
    spoil(tree)
    assert main([str(tree)]) == BAD_INPUT
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"make docs: KERNEL={tree}: ")
    assert problem in err
    assert err.endswith("; name the directory that holds the kernel's top Makefile and mm/khugepaged.c\n")


def test_no_directory() -> None:
    with pytest.raises(KernelTreeError, match=r"KERNEL=/no/such: there is no such directory; name the directory"):
        KernelTree.open("/no/such")


def test_the_makefile_asks_before_it_builds(tree: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\ndocs: ")[2].partition("\n\n")[0]
    assert recipe.index('-m docs._ext.kernel_tree "$(KERNEL)"') < recipe.index("-m sphinx")
    assert " -W " in recipe
    command = [sys.executable, "-m", "docs._ext.kernel_tree", str(tree)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.full
def test_the_page_holds_the_text_and_the_sources_do_not(tree: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*") if "__pycache__" not in path.parts}
    done = build(tmp_path / "html", KERNEL=str(tree))
    assert (done.returncode, done.stderr) == (0, "")
    html = (tmp_path / "html/kernel.html").read_text()
    assert "kmm-beside" in html
    assert "Do not publish" in html
    assert "alloc_charge_folio" in html
    assert "with local kernel text" in html
    assert before == {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.full
def test_a_bad_tree_fails_the_build(tmp_path: Path) -> None:
    done = build(tmp_path / "html", KERNEL="/no/such")
    assert done.returncode != 0
    assert "KERNEL=/no/such: there is no such directory" in done.stderr
