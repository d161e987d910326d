"""Mails as patches come in them: one, an mbox of several, or none around the text."""

from __future__ import annotations

import email
import re
from email.header import decode_header, make_header
from email.message import Message
from typing import Final

import attrs

_FROM: Final = re.compile(r"^From \S+ .*\d{4}\r?\n(?=[A-Za-z-]+: )", re.MULTILINE)
_HEADER: Final = re.compile(r"(?:From|Return-Path|Subject|Date|Message-I[dD]|Received|Delivered-To|X-[\w-]+|MIME-Version): ")
_TAGS: Final = re.compile(r"^(?:Re: )?(?:\[[^]]*\]\s*)*")


@attrs.frozen
class Letter:
    """What somebody wrote.

    :param subject: without ``[PATCH ...]``; empty outside of mails
    :param line: of the file, where the text begins
    """

    subject: str
    text: str
    line: int


def letters(data: bytes) -> list[Letter]:
    """The mails of a file, or the whole of it when it is none.

    :raises ValueError: it is no text
    """
    text = data.decode("utf-8")
    if "\0" in text:
        raise ValueError("it holds a zero byte")
    starts = [match.end() for match in _FROM.finditer(text)]
    if starts:
        ends = [match.start() for match in _FROM.finditer(text)][1:]
        return [_letter(text[a:b], text.count("\n", 0, a) + 1) for a, b in zip(starts, [*ends, len(text)], strict=True)]
    if _HEADER.match(text):
        return [_letter(text, 1)]
    return [Letter("", text, 1)]


def _letter(text: str, line: int) -> Letter:
    mail = email.message_from_bytes(text.encode())
    subject = " ".join(str(make_header(decode_header(str(mail.get("Subject", ""))))).split())
    header = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    return Letter(_TAGS.sub("", subject), _body(mail), line + header.count("\n") + 2)


def _body(mail: Message) -> str:
    """The texts of a mail, its attachments too. Line numbers hold unless it has several parts."""
    out = []
    for part in mail.walk():
        payload = part.get_payload(decode=True) if part.get_content_maintype() == "text" else None
        if isinstance(payload, bytes):
            out.append(_decoded(payload, part.get_content_charset() or "utf-8"))
    return "\n".join(out)


def _decoded(payload: bytes, charset: str) -> str:
    try:
        return payload.decode("utf-8" if charset == "us-ascii" else charset)
    except LookupError:
        return payload.decode("utf-8")
