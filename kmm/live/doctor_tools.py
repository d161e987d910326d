"""Probes of programs beside Python, and of a kernel that they could boot."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from kmm.live.doctor_host import Finding, Host, limited, missing, ok, version_of

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
_IMAGES: Final = (("boot", r"vmlinuz-(.+)", ""), ("usr/lib/modules", r"(.+)", "vmlinuz"), ("lib/modules", r"(.+)", "vmlinuz"))


def git(host: Host) -> Finding:
    """Git."""
    return _program(host, "git", "install git")


def make(host: Host) -> Finding:
    """Make."""
    return _program(host, "make", "install make")


def qemu(host: Host) -> Finding:
    """An emulator, and whether it may use the CPU's virtualization."""
    found = _program(host, "qemu-system-x86_64", "install qemu-system-x86 (Debian, Ubuntu) or qemu-kvm (Fedora)")
    if found.remedy:
        return found
    kvm = host.root / "dev/kvm"
    if not kvm.exists():
        return limited(f"{found.found}, without /dev/kvm: slow", "load kvm_intel or kvm_amd, or turn virtualization on in the firmware")
    if not os.access(kvm, os.R_OK | os.W_OK):
        return limited(f"{found.found}, /dev/kvm may not be opened: slow", "add the user to the group kvm")
    return ok(f"{found.found}, with /dev/kvm")


def kernel_image(host: Host) -> Finding:
    """An installed kernel."""
    images = dict(_images(host))
    readable = [release for release, path in images.items() if os.access(path, os.R_OK)]
    if readable:
        return ok(max(readable, key=_by_version))
    if images:
        return limited(f"{max(images, key=_by_version)}, readable by root only", "run as root, or make the image readable")
    return missing(
        "no image in /boot or /lib/modules", "install linux-image-amd64 (Debian), linux-image-generic (Ubuntu) or kernel-core (Fedora)"
    )


def browser(host: Host) -> Finding:
    """A browser without a window. It is not started: that would write a profile."""
    program = host.program(*_BROWSERS)
    if program is not None:
        return ok(Path(program).name)
    cache = host.environ.get("PLAYWRIGHT_BROWSERS_PATH") or f"{host.environ.get('HOME', '')}/.cache/ms-playwright"
    builds = host.names(cache.lstrip("/"), r"chromium\w*-\d+")
    if builds:
        return ok(f"{builds[-1]} of Playwright")
    return missing("neither Chromium nor one of Playwright", "install chromium")


def _program(host: Host, name: str, remedy: str) -> Finding:
    path = host.program(name)
    if path is None:
        return missing("not found", remedy)
    version = version_of(path)
    if version is None:
        return limited("found, but it does not tell its version", f"try {name} --version")
    return ok(version)


def _images(host: Host) -> list[tuple[str, Path]]:
    """Release and path of each kernel image."""
    out: list[tuple[str, Path]] = []
    for folder, pattern, file in _IMAGES:
        for name in host.names(folder, pattern):
            path = host.root / folder / name / file
            if path.is_file():
                out.append((name.removeprefix("vmlinuz-"), path))
    return out


def _by_version(release: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", release)], release
