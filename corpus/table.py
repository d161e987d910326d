"""The confusion table: what the labels say, and what the judge said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from corpus.answers import FAILED, Answer
from corpus.pairs import Pair

WORDS: Final = ("equivalent", "no-difference-found", "refines", "different", "undetermined", FAILED)
OPEN: Final = "not judged yet"
SAME: Final = ("equivalent", "no-difference-found")
UNKNOWN: Final = ("undetermined", FAILED)

Asked = Sequence[tuple[Pair, Answer | None]]


def contradicts(pair: Pair, answer: Answer) -> bool:
    """The judge says the opposite of the label."""
    return answer.word not in UNKNOWN and (answer.word in SAME) != (pair.label == "equivalent")


def exit_code(asked: Asked) -> int:
    """2: a label is contradicted; 3: not all are judged, or some without an answer; else 0."""
    if any(answer is not None and contradicts(pair, answer) for pair, answer in asked):
        return 2
    return 3 if any(answer is None or answer.word in UNKNOWN for _, answer in asked) else 0


def report(asked: Asked) -> str:
    """All tables, and the list of what was not answered as labelled."""
    parts = (confusion(asked), shares(asked), times(asked), by_operator(asked), "\n".join(wrong(asked)))
    return "\n\n".join(part for part in parts if part)


def group(pair: Pair) -> str:
    """How a pair is labelled, and how the judge has to be asked."""
    if pair.label == "equivalent":
        return "equivalent"
    return f"different, {pair.kind}" + (", with store buffers" if pair.memory == "pso" else "")


def confusion(asked: Asked) -> str:
    """Label by verdict."""
    rows: dict[str, Counter[str]] = {}
    for pair, answer in asked:
        rows.setdefault(group(pair), Counter())[OPEN if answer is None else answer.word] += 1
    return _table(["label", *WORDS, OPEN], [[name, *(str(row[word]) for word in (*WORDS, OPEN))] for name, row in sorted(rows.items())])


def shares(asked: Asked) -> str:
    """What is to be reached, in numbers."""
    answered = [(pair, answer) for pair, answer in asked if answer is not None]
    missed = sum(pair.label == "different" and answer.word in SAME for pair, answer in answered)
    alarms = sum(pair.label == "equivalent" and contradicts(pair, answer) for pair, answer in answered)
    unknown = sum(answer.word in UNKNOWN for _, answer in answered)
    share = f"{100 * unknown / len(answered):.1f} %" if answered else "-"
    return (
        f"Called equivalent and is not: {missed}. Called different and is not: {alarms}. "
        f"Undetermined: {unknown} of {len(answered)} ({share}). Not judged yet: {len(asked) - len(answered)} of {len(asked)}."
    )


def times(asked: Asked) -> str:
    """From start to printed counterexample, of the pairs that were found to differ."""
    rows = []
    for name in sorted({group(pair) for pair, _ in asked if pair.label == "different"}):
        found = [answer for pair, answer in asked if answer is not None and answer.word == "different" and group(pair) == name]
        if found:
            whole, judged = sorted(each.seconds for each in found), sorted(each.judged_s for each in found)
            rows.append([name, str(len(found)), *(f"{each:.1f} s" for each in (*_both(whole), *_both(judged)))])
    head = ["label", "found", "median, start to end", "95th percentile", "median, of which judging", "95th percentile"]
    return _table(head, rows) if rows else ""


def _both(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile (the nearest rank) of sorted values."""
    return median(values), values[max(0, -(-95 * len(values) // 100) - 1)]


def by_operator(asked: Asked) -> str:
    """Operator by whether the answer was right."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for pair, answer in asked:
        rows.setdefault((pair.label, pair.kind, pair.operator), Counter())[_mark(pair, answer)] += 1
    marks = ("right", "wrong", "undetermined", OPEN)
    head = ["label", "kind", "operator", "pairs", *marks]
    return _table(head, [[*name, str(row.total()), *(str(row[mark]) for mark in marks)] for name, row in sorted(rows.items())])


def _mark(pair: Pair, answer: Answer | None) -> str:
    if answer is None:
        return OPEN
    if answer.word in UNKNOWN:
        return "undetermined"
    return "wrong" if contradicts(pair, answer) else "right"


def wrong(asked: Asked) -> Iterator[str]:
    """A line for each pair that was not answered as labelled."""
    for pair, answer in asked:
        mark = _mark(pair, answer)
        if answer is not None and mark != "right":
            yield f"* {mark}: `{pair.id}` is {group(pair)}, called {answer.word}{': ' * bool(answer.shown)}{answer.shown}; label: {pair.by}"


def paired(pairs: Iterable[Pair], answers: Mapping[str, Answer]) -> list[tuple[Pair, Answer | None]]:
    """Every pair with its answer."""
    return [(pair, answers.get(pair.id)) for pair in pairs]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
