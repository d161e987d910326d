"""Every probe of kmm doctor, on machines that are made up."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import mmap
import os
import platform
import re
import signal
import struct
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmm.live import doctor_capture, doctor_host, doctor_kernel, doctor_python, doctor_tools
from kmm.live.doctor import PARTS, Part
from kmm.live.doctor_host import Finding, Host, State, in_child, version_of
from tests.fake_proc import ONCE, PRESENT, SOFT_DIRTY

ROOT = Path(__file__).parent.parent
THP = "sys/kernel/mm/transparent_hugepage"
OK, LIMITED, MISSING = State.OK, State.LIMITED, State.MISSING
ADDRESS = 3 * mmap.PAGESIZE


class FakeHost:
    """A root with the files that a test asks for, and a directory of programs."""

    def __init__(self, root: Path) -> None:
        self.root = root / "machine"
        self.bin = root / "bin"
        self.root.mkdir()
        self.bin.mkdir()
        self.environ = {"PATH": str(self.bin), "HOME": "/home", "TERM": "xterm"}

    @property
    def host(self) -> Host:
        return Host(self.root, self.environ)

    def file(self, name: str, text: str | bytes = "") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def word(self, word: int) -> None:
        """The page map's word of the page that the probes write."""
        self.file("proc/self/pagemap", bytes(ADDRESS // mmap.PAGESIZE * 8) + struct.pack("=Q", word))


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def known_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes' own page lies where the fake page map has a word."""

    @contextlib.contextmanager
    def at() -> Iterator[int]:
        yield ADDRESS

    monkeypatch.setattr(doctor_capture, "own_page", at)


def said(finding: Finding) -> tuple[State, str]:
    """State and text; a remedy is there exactly when one is needed."""
    assert bool(finding.remedy) == (finding.state is not OK)
    return finding.state, finding.found


def denied(*_args: object, **_named: object) -> object:
    raise PermissionError(errno.EACCES, "Permission denied")


STATUS = "Name:\tx\nUid:\t{0}\t{0}\t{0}\t{0}\nCapEff:\t{1}\n"
MEMCG = {"proc/self/cgroup": "1:name=x:/\n0::/a\n", "sys/fs/cgroup/a/cgroup.procs": ""}

FILES: list[tuple[Callable[[Host], Finding], dict[str, str], State, str]] = [
    (doctor_capture.kernel, {"proc/sys/kernel/ostype": "Linux\n", "proc/sys/kernel/osrelease": "6.18.1\n"}, OK, "Linux 6.18.1"),
    (doctor_capture.kernel, {}, MISSING, "this is no Linux, or /proc is not mounted"),
    (
        doctor_capture.kernel,
        {"proc/sys/kernel/ostype": "GNU", "proc/sys/kernel/osrelease": "1"},
        MISSING,
        "this is no Linux, or /proc is not mounted",
    ),
    (doctor_capture.privileges, {"proc/self/status": STATUS.format(0, "000001ffffffffff")}, OK, "root, with CAP_SYS_ADMIN"),
    (doctor_capture.privileges, {"proc/self/status": STATUS.format(1000, "0000000000200000")}, OK, "uid 1000, with CAP_SYS_ADMIN"),
    (doctor_capture.privileges, {"proc/self/status": STATUS.format(1000, "0000000000000000")}, LIMITED, "uid 1000, without CAP_SYS_ADMIN"),
    (doctor_capture.privileges, {"proc/self/status": STATUS.format(0, "ffffffffffdfffff")}, LIMITED, "root, without CAP_SYS_ADMIN"),
    (doctor_capture.privileges, {}, LIMITED, "/proc/self/status does not tell"),
    (doctor_capture.kpageflags, {"proc/kpageflags": "12345678"}, OK, "readable"),
    (doctor_capture.kpageflags, {"proc/kpagecount": "12345678"}, MISSING, "there is no /proc/kpageflags"),
    (doctor_capture.kpagecount, {"proc/kpagecount": "12345678"}, OK, "readable"),
    (doctor_capture.kpagecount, {}, MISSING, "there is no /proc/kpagecount"),
    (doctor_capture.pagemap, {}, MISSING, "/proc/self/pagemap cannot be read"),
    (doctor_capture.pagemap, {"proc/self/pagemap": "short"}, MISSING, "/proc/self/pagemap cannot be read"),
    (doctor_capture.soft_dirty, {}, LIMITED, "it cannot be told without the page map"),
    (doctor_capture.pfns, {}, MISSING, "hidden from this user"),
    (doctor_capture.thp, {}, MISSING, "no /sys/kernel/mm/transparent_hugepage"),
    (doctor_capture.thp, {f"{THP}/enabled": "always [madvise] never\n", f"{THP}/hpage_pmd_size": "2097152\n"}, OK, "enabled: madvise"),
    (doctor_capture.thp, {f"{THP}/enabled": "[always] madvise never\n"}, OK, "enabled: always"),
    (doctor_capture.thp, {f"{THP}/enabled": "[never]", f"{THP}/hpage_pmd_size": "536870912"}, MISSING, "a PMD maps 536870912 bytes"),
    (doctor_capture.mthp, {f"{THP}/enabled": ""}, MISSING, "no hugepages-*kB in sysfs"),
    (doctor_capture.mthp, {f"{THP}/hugepages-{size}kB/enabled": "" for size in (1024, 64, 2048)}, OK, "64, 1024, 2048 kB"),
    (doctor_kernel.khugepaged_mthp, {f"{THP}/hugepages-64kB/stats/swpout": ""}, MISSING, "no collapse_alloc in sysfs"),
    (doctor_kernel.khugepaged_mthp, {f"{THP}/hugepages-64kB/stats/collapse_alloc": ""}, OK, "there is a collapse_alloc for each size"),
    (doctor_kernel.tracefs, {}, MISSING, "no tracefs in /sys/kernel/tracing"),
    (doctor_kernel.tracefs, {"sys/kernel/tracing/events/sched/enable": ""}, LIMITED, "no events of huge_memory"),
    (
        doctor_kernel.tracefs,
        {
            f"sys/kernel/tracing/events/huge_memory/{name}": ""
            for name in ("enable", "filter", "mm_collapse_huge_page/id", "mm_khugepaged_scan_pmd/id")
        },
        OK,
        "2 events of huge_memory",
    ),
    (doctor_kernel.swap, {}, MISSING, "no /proc/swaps"),
    (doctor_kernel.swap, {"proc/swaps": "Filename Type Size Used Priority\n"}, MISSING, "no swap area is in use"),
    (
        doctor_kernel.swap,
        {"proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 8 0 100\n/swapfile file 8 0 -2\n"},
        OK,
        "2 in use, 1 of them zram",
    ),
    (doctor_kernel.memcg, {}, MISSING, "no cgroup v2"),
    (doctor_kernel.memcg, {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/cgroup.controllers": "memory"}, MISSING, "no cgroup v2"),
    (doctor_kernel.memcg, {"sys/fs/cgroup/cgroup.controllers": "cpu pids", **MEMCG}, LIMITED, "v2 without the memory controller"),
    (doctor_kernel.memcg, {"sys/fs/cgroup/cgroup.controllers": "cpu memory", **MEMCG}, OK, "v2, writable"),
    (
        doctor_kernel.memcg,
        {"sys/fs/cgroup/unified/cgroup.controllers": "", "proc/self/cgroup": "0::/"},
        LIMITED,
        "v2 without the memory controller",
    ),
    (doctor_kernel.ksm, {}, MISSING, "no /sys/kernel/mm/ksm"),
    (doctor_kernel.ksm, {"sys/kernel/mm/ksm/run": "1\n"}, OK, "running"),
    (doctor_kernel.ksm, {"sys/kernel/mm/ksm/run": "0\n"}, OK, "there, not running"),
    (doctor_tools.kernel_image, {}, MISSING, "no image in /boot or /lib/modules"),
    (doctor_tools.kernel_image, {"boot/vmlinuz-6.9.1": "", "boot/vmlinuz-6.10.0": "", "boot/initrd.img-7": ""}, OK, "6.10.0"),
    (doctor_tools.kernel_image, {"usr/lib/modules/6.12.0-fc/vmlinuz": "", "lib/modules/7.0.0/modules.dep": ""}, OK, "6.12.0-fc"),
    (doctor_tools.browser, {}, MISSING, "neither Chromium nor one of Playwright"),
    (
        doctor_tools.browser,
        {"home/.cache/ms-playwright/chromium-1148/x": "", "home/.cache/ms-playwright/ffmpeg-1/x": ""},
        OK,
        "chromium-1148 of Playwright",
    ),
    (doctor_tools.qemu, {"dev/kvm": ""}, MISSING, "not found"),
]


@pytest.mark.parametrize(("probe", "files", "state", "found"), FILES, ids=[f"{probe.__name__}-{found}" for probe, _, _, found in FILES])
def test_files_of_the_machine(fake: FakeHost, probe: Callable[[Host], Finding], files: dict[str, str], state: State, found: str) -> None:
    for name, text in files.items():
        fake.file(name, text)
    assert said(probe(fake.host)) == (state, found)


@pytest.mark.parametrize(
    ("word", "pagemap", "pfns", "soft_dirty"),
    [
        (PRESENT | ONCE | SOFT_DIRTY | 0x1234, OK, OK, OK),
        (PRESENT | ONCE | 0x1234, OK, OK, MISSING),
        (PRESENT | ONCE | SOFT_DIRTY, OK, MISSING, OK),
        (0, LIMITED, MISSING, MISSING),
    ],
)
@pytest.mark.usefixtures("known_page")
def test_the_page_map(fake: FakeHost, word: int, pagemap: State, pfns: State, soft_dirty: State) -> None:
    fake.word(word)
    assert said(doctor_capture.pagemap(fake.host))[0] is pagemap
    assert said(doctor_capture.pfns(fake.host))[0] is pfns
    assert said(doctor_capture.soft_dirty(fake.host))[0] is soft_dirty


@pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no readable /proc/self/pagemap here")
def test_own_page_is_present() -> None:
    with doctor_capture.own_page() as address, open("/proc/self/pagemap", "rb", buffering=0) as file:
        assert address % mmap.PAGESIZE == 0
        (word,) = struct.unpack("=Q", os.pread(file.fileno(), 8, address // mmap.PAGESIZE * 8))
    assert word & PRESENT


def test_page_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "PAGESIZE", 4096)
    assert said(doctor_capture.page_size(Host())) == (OK, "4096 bytes")
    monkeypatch.setattr(mmap, "PAGESIZE", 65536)
    assert said(doctor_capture.page_size(Host())) == (MISSING, "65536 bytes")


def test_files_that_may_not_be_read(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(os, "listdir", denied)
    assert said(doctor_capture.kpageflags(fake.host)) == (MISSING, "/proc/kpageflags may not be read")
    assert said(doctor_kernel.tracefs(fake.host)) == (LIMITED, "/sys/kernel/tracing may not be read")
    assert said(doctor_capture.pagemap(fake.host)) == (MISSING, "/proc/self/pagemap cannot be read")


def test_groups_and_images_of_somebody_else(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.file("sys/fs/cgroup/cgroup.controllers", "memory")
    for name, text in MEMCG.items():
        fake.file(name, text)
    fake.file("boot/vmlinuz-6.8.0")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert said(doctor_kernel.memcg(fake.host)) == (LIMITED, "v2, but this user may not make groups")
    assert said(doctor_tools.kernel_image(fake.host)) == (LIMITED, "6.8.0, readable by root only")


@pytest.mark.parametrize(
    ("script", "state", "found"),
    [
        ("echo git version 2.39.5", OK, "2.39.5"),
        ("echo nothing to tell", LIMITED, "found, but it does not tell its version"),
        ("echo 1.2.3; exit 1", LIMITED, "found, but it does not tell its version"),
        ("exec sleep 60", LIMITED, "found, but it does not tell its version"),
    ],
)
def test_programs(fake: FakeHost, monkeypatch: pytest.MonkeyPatch, script: str, state: State, found: str) -> None:
    monkeypatch.setattr(doctor_host, "PATIENCE_S", 0.5)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    assert said(doctor_tools.git(fake.host)) == (MISSING, "not found")
    assert said(doctor_tools.make(fake.host)) == (MISSING, "not found")
    fake.program("git", script)
    fake.program("make", script)
    assert said(doctor_tools.git(fake.host)) == (state, found)
    assert said(doctor_tools.make(fake.host)) == (state, found)


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    assert version_of(str(tmp_path / "none")) is None


def test_qemu(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.program("qemu-system-x86_64", "echo 'QEMU emulator version 8.2.2 (x)'")
    assert said(doctor_tools.qemu(fake.host)) == (LIMITED, "8.2.2, without /dev/kvm: slow")
    fake.file("dev/kvm")
    assert said(doctor_tools.qemu(fake.host)) == (OK, "8.2.2, with /dev/kvm")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("dev/kvm"))
    assert said(doctor_tools.qemu(fake.host))[0] is LIMITED


def test_the_browser_is_not_started(fake: FakeHost, tmp_path: Path) -> None:
    fake.program("chromium", f"touch {tmp_path}/started")
    assert said(doctor_tools.browser(fake.host)) == (OK, "chromium")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("code", "state", "found"),
    [
        (0, OK, "works"),
        (errno.EINVAL, MISSING, "refused (EINVAL)"),
        (errno.ENOMEM, LIMITED, "known, but no huge page now (ENOMEM)"),
        (errno.EAGAIN, LIMITED, "known, but no huge page now (EAGAIN)"),
        (255, MISSING, "could not be tried"),
        (None, LIMITED, "no answer within 5 s"),
    ],
)
def test_madv_collapse(monkeypatch: pytest.MonkeyPatch, code: int | None, state: State, found: str) -> None:
    monkeypatch.setattr(doctor_kernel, "in_child", lambda _call: code)
    assert said(doctor_kernel.madv_collapse(Host())) == (state, found)


@pytest.mark.parametrize(
    ("full", "user_mode", "state", "found"),
    [
        (0, 0, OK, "faults of user and kernel mode"),
        (errno.EPERM, 0, LIMITED, "faults of user mode only"),
        (errno.EPERM, errno.EPERM, MISSING, "not for this user"),
        (errno.ENOSYS, errno.ENOSYS, MISSING, "this kernel has none"),
        (254, 254, LIMITED, "could not be tried; vm.unprivileged_userfaultfd is 0"),
        (None, None, LIMITED, "could not be tried; vm.unprivileged_userfaultfd is 0"),
    ],
)
def test_userfaultfd(
    fake: FakeHost, monkeypatch: pytest.MonkeyPatch, full: int | None, user_mode: int | None, state: State, found: str
) -> None:
    answers = iter([full, user_mode])
    fake.file("proc/sys/vm/unprivileged_userfaultfd", "0\n")
    monkeypatch.setattr(doctor_kernel, "in_child", lambda _call: next(answers))
    assert said(doctor_kernel.userfaultfd(fake.host)) == (state, found)


def test_an_architecture_without_a_known_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    assert doctor_kernel.open_userfaultfd(0) == 254


def test_a_refused_userfaultfd() -> None:
    assert doctor_kernel.open_userfaultfd(1 << 20) in (errno.EINVAL, errno.EPERM, errno.ENOSYS, 254)


def test_trials_leave_nothing_open() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    doctor_kernel.open_userfaultfd(0)
    doctor_kernel.collapse_own_memory()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_children(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    fork = os.fork

    def recorded() -> int:
        pids.append(fork())
        return pids[-1]

    def fail() -> int:
        raise MemoryError

    def die() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def hang() -> int:
        time.sleep(60)
        return 0

    def interrupt(_pid: int, _patience_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fork", recorded)
    with monkeypatch.context() as patch:
        patch.setattr(doctor_host, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            in_child(hang)
    start = time.monotonic()
    assert [in_child(lambda: 9), in_child(fail), in_child(die), in_child(hang, 0.2)] == [9, 255, 255, None]
    assert time.monotonic() - start < 10
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    assert len(pids) == 5


@pytest.mark.parametrize(
    ("version", "state", "found"),
    [
        ((3, 10, 14), MISSING, "3.10.14"),
        ((3, 11, 0), OK, "3.11.0"),
        ((3, 13, 5), OK, "3.13.5"),
        ((3, 14, 0), LIMITED, "3.14.0, newer than what kmm is tested with"),
    ],
)
def test_python(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], state: State, found: str) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert said(doctor_python.python(Host())) == (state, found)


def test_the_pythons_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = [
        tuple(map(int, each.split(".")[:2])) for line in project["classifiers"] for each in re.findall(r"Python :: (3\.\d+)$", line)
    ]
    assert [min(supported), max(supported)] == [doctor_python.FIRST_PYTHON, doctor_python.LAST_PYTHON]


REQUIRES = [
    "attrs<27,>=24.2",
    "rich >=13.9, <16",
    "tomli-w (>=1.1)",
    "sphinx<10,>=8; extra == 'dev'",
    'pyright[nodejs]<2,>=1.1.390; extra == "dev"',
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Distributions and their versions, instead of those that are installed."""
    versions = {
        "attrs": "26.1.0",
        "rich": "15.0.0",
        "tomli-w": "1.2.0",
        "sphinx": "9.0.4",
        "myst-parser": "5",
        "furo": "1",
        "pyright": "1.1.390",
    }

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: REQUIRES)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions


def test_libraries(installed: dict[str, str]) -> None:
    assert doctor_python.requirements(extra=False) == {"attrs": "<27,>=24.2", "rich": ">=13.9, <16", "tomli-w": ">=1.1"}
    assert said(doctor_python.libraries(Host())) == (OK, "attrs 26.1.0, rich 15.0.0, tomli-w 1.2.0")
    del installed["attrs"]
    installed["rich"] = "16.0"
    assert said(doctor_python.libraries(Host())) == (MISSING, "attrs is missing; rich is 16.0, wanted is >=13.9, <16; tomli-w 1.2.0")


def test_development(installed: dict[str, str]) -> None:
    assert said(doctor_python.docs(Host())) == (OK, "sphinx 9.0.4, myst-parser 5, furo 1")
    assert said(doctor_python.pyright(Host())) == (OK, "pyright 1.1.390")
    assert said(doctor_python.tests(Host()))[0] is MISSING
    installed["pyright"] = "1.1.39"
    assert said(doctor_python.pyright(Host())) == (MISSING, "pyright is 1.1.39, wanted is <2,>=1.1.390")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_python, "DISTRIBUTION", "no-such-distribution")
    assert said(doctor_python.libraries(Host()))[0] is LIMITED
    monkeypatch.setattr(doctor_python, "LIBRARIES", ("attrs", "no-such-library"))
    assert said(doctor_python.libraries(Host()))[0] is MISSING


@pytest.mark.parametrize(
    ("version", "wanted", "met"),
    [
        ("1.2", "", True),
        ("1.2", ">=1.2", True),
        ("1.2.0", "==1.2", True),
        ("1.10", ">=1.9", True),
        ("1.9", ">=1.10", False),
        ("2", "<2", False),
        ("1.99.9", ">=1,<2", True),
        ("0.9", ">=1,<2", False),
        ("2.0.1", "<=2", False),
        ("2.0", "!=2", False),
        ("2.1", ">2", True),
        ("26.1.0rc1", ">=26", True),
        ("unknown", ">=1", False),
    ],
)
def test_versions(version: str, wanted: str, met: bool) -> None:
    assert doctor_python.satisfies(version, wanted) is met


def test_every_clause_of_the_package_is_understood() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tuple(re.split(r"[<>=]", line)[0] for line in project["dependencies"]) == doctor_python.LIBRARIES
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        found = doctor_python._REQUIREMENT.fullmatch(line)
        assert found is not None
        assert all(doctor_python._CLAUSE.fullmatch(clause) for clause in found.group(2).split(",")), line


def test_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(doctor_python.fork(Host())) == (OK, "works")
    monkeypatch.setattr(doctor_python, "in_child", lambda _call: None)
    assert said(doctor_python.fork(Host()))[0] is MISSING
    monkeypatch.setattr(doctor_python, "in_child", denied)
    assert said(doctor_python.fork(Host())) == (MISSING, "no child process could be started (Permission denied)")
    monkeypatch.delattr(os, "fork")
    assert said(doctor_python.fork(Host()))[0] is MISSING


@pytest.mark.parametrize(
    ("cpus", "meminfo", "state", "found"),
    [
        (8, "MemTotal: 9 kB\nMemAvailable:    4194304 kB\n", OK, "8 CPUs, 4096 MiB of memory free"),
        (8, "MemAvailable: 131072 kB\n", LIMITED, "8 CPUs, 128 MiB of memory free"),
        (1, "MemAvailable: 4194304 kB\n", LIMITED, "1 CPU, 4096 MiB of memory free"),
        (4, "garbage", OK, "4 CPUs"),
        (None, "", OK, "1 CPU"),
    ],
)
def test_workers(fake: FakeHost, monkeypatch: pytest.MonkeyPatch, cpus: int | None, meminfo: str, state: State, found: str) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    fake.file("proc/meminfo", meminfo)
    assert said(doctor_python.workers(fake.host)) == (state, found)


@pytest.mark.parametrize(
    ("terminal", "environ", "state", "found"),
    [
        (False, {"TERM": "xterm"}, LIMITED, "standard output is no terminal: plain text"),
        (True, {"TERM": "xterm"}, OK, "120 columns, colour"),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, LIMITED, "120 columns, no colour: NO_COLOR is set"),
        (True, {"TERM": "dumb"}, LIMITED, '120 columns, no colour: TERM is "dumb"'),
        (True, {}, LIMITED, '120 columns, no colour: TERM is ""'),
    ],
)
def test_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool, environ: dict[str, str], state: State, found: str) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert said(doctor_python.terminal(Host(environ=environ))) == (state, found)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_no_probe_fails_on_an_empty_machine(fake: FakeHost, part: Part) -> None:
    part.probe(Host(fake.root, {}))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_no_probe_fails_on_a_machine_full_of_rubbish(fake: FakeHost, part: Part) -> None:
    names = re.findall(
        r'"((?:proc|sys|dev|boot)/[\w/.-]+)"', "".join(path.read_text() for path in sorted((ROOT / "kmm/live").glob("doctor_*.py")))
    )
    assert len(names) > 8
    for name in names:
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            fake.file(name, b"\xff\x00\x1b[31m" * 100)
    finding = part.probe(Host(fake.root, {}))
    assert finding.found.isprintable()
