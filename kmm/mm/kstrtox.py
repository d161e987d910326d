"""How the kernel reads what is written to a file (lib/kstrtox.c, lib/string_helpers.c, lib/cmdline.c)."""

from __future__ import annotations

from typing import Final

ULONG_MAX: Final = (1 << 64) - 1
UINT_MAX: Final = (1 << 32) - 1

_DIGITS: Final = "0123456789"
_HEX: Final = "0123456789abcdef"
_MOST_DIGITS: Final = 20
_SUFFIXES: Final = "KMGTPE"
_BLANKS: Final = " \t\n\v\f\r\xa0"
_TRUE: Final = "eEyYtT1"
_FALSE: Final = "dDnNfF0"


def c_string(text: str) -> str:
    """What C sees of a text: it ends at the first NUL."""
    return text.partition("\0")[0]


def kstrtoul(s: str) -> tuple[str, int]:
    """``kstrtoul`` with base 10: digits, with at most one plus sign before them and one newline behind them.

    :param s: ``const char *``
    :returns: the errno's name and the value: EINVAL for anything else, ERANGE above ``ULONG_MAX``, whatever follows the digits
    """
    rest = s.removeprefix("+")
    behind = rest.lstrip(_DIGITS)
    digits = rest[: len(rest) - len(behind)]
    significant = digits.lstrip("0")
    if len(significant) > _MOST_DIGITS or int(significant or "0") > ULONG_MAX:
        return "ERANGE", 0
    if not digits or behind not in ("", "\n"):
        return "EINVAL", 0
    return "", int(significant or "0")


def kstrtouint(s: str) -> tuple[str, int]:
    """``kstrtouint`` with base 10: as :func:`kstrtoul`, with ERANGE above ``UINT_MAX``."""
    err, value = kstrtoul(s)
    return ("ERANGE", 0) if not err and value > UINT_MAX else (err, value)


def kstrtobool(s: str) -> tuple[str, bool]:
    """``kstrtobool``: looks at the first letter only, and at the second one after an o."""
    first, second = s[:1], s[1:2]
    if first and first in "oO" and second and second in "nNfF":
        return "", second in "nN"
    if first and first in _TRUE + _FALSE:
        return "", first in _TRUE
    return "EINVAL", False


def sysfs_streq(s1: str, s2: str) -> bool:
    """``sysfs_streq``: the same but for one newline at the end."""
    return s1.removesuffix("\n") == s2.removesuffix("\n")


def memparse(s: str) -> tuple[int, str]:
    """``memparse``: a number, octal after a 0 and hexadecimal after a 0x, and one of the letters K, M, G, T, P, E behind it.

    :returns: the value, of 64 bits, and what follows; no digit at all is 0
    """
    base, rest = _radix(s)
    behind = rest.lstrip(_HEX[:base] + _HEX[10:base].upper())
    digits = rest[: len(rest) - len(behind)]
    value = 0
    for digit in digits:
        value = value * base + int(digit, 16) & ULONG_MAX
    if behind and behind[0].upper() in _SUFFIXES:
        value = value << 10 * (_SUFFIXES.index(behind[0].upper()) + 1) & ULONG_MAX
        behind = behind[1:]
    return value, behind


def _radix(s: str) -> tuple[int, str]:
    """The base that a number says itself, and the number without that."""
    if s[:1] != "0":
        return 10, s
    if s[1:2] in ("x", "X") and s[2:3] and s[2] in _HEX + _HEX.upper():
        return 16, s[2:]
    return 8, s


def strstrip(s: str) -> str:
    """``strstrip``: without the blanks at both ends."""
    return s.strip(_BLANKS)
