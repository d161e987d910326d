"""The table, the answers that are kept, and that a wrong label shows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from corpus import judge
from corpus.answers import FAILED, Answer, Answers, key_of
from corpus.judge import Wanted, by_command, main, run
from corpus.pairs import ROOT, Pair, all_pairs, load_pairs
from corpus.table import OPEN, confusion, contradicts, exit_code, paired, report, shares, times

PAIR: Final = Pair(
    id="one",
    operator="off-by-one",
    file="kmm/mm/khugepaged/limits.py",
    function="collapse_test_exit",
    old="== 0",
    new="== 1",
    label="different",
    kind="sequential",
    by="scenario 0 of first look",
)
SAME: Final = attrs.evolve(PAIR, id="two", operator="flip-comparison", new="is 0", label="equivalent", by="so it is")
BESIDE: Final = attrs.evolve(
    PAIR, id="three", operator="dropped-barrier", new="> 0", kind="concurrent", scenario="collapse-load.toml", memory="pso"
)
PAIRS: Final = (PAIR, SAME, BESIDE)


def said(pair: Pair, word: str, seconds: float = 1.0) -> Answer:
    return Answer(id=pair.id, key=key_of(pair, "s"), word=word, seconds=seconds, judged_s=0.5, jobs=1)


def asked(*words: str) -> list[tuple[Pair, Answer | None]]:
    return [(pair, said(pair, word) if word else None) for pair, word in zip(PAIRS, words, strict=True)]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("different", "equivalent", "different"), 0),
        (("different", "equivalent", "refines"), 0),
        (("different", "no-difference-found", "different"), 0),
        (("equivalent", "equivalent", "different"), 2),
        (("different", "different", "different"), 2),
        (("different", "refines", "different"), 2),
        (("different", "different", ""), 2),
        (("different", "equivalent", ""), 3),
        (("undetermined", "equivalent", "different"), 3),
        (("different", FAILED, "different"), 3),
    ],
)
def test_the_exit_code(words: tuple[str, ...], code: int) -> None:
    assert exit_code(asked(*words)) == code


def test_the_table_counts_every_pair_once() -> None:
    rows = [line.strip("| ").split(" | ") for line in confusion(asked("equivalent", "equivalent", "")).splitlines()]
    assert rows[0] == ["label", "equivalent", "no-difference-found", "refines", "different", "undetermined", FAILED, OPEN]
    assert rows[2:] == [
        ["different, concurrent, with store buffers", "0", "0", "0", "0", "0", "0", "1"],
        ["different, sequential", "1", "0", "0", "0", "0", "0", "0"],
        ["equivalent", "1", "0", "0", "0", "0", "0", "0"],
    ]


def test_the_shares_say_what_is_wrong_and_what_is_open() -> None:
    assert "is not: 1. Called different and is not: 0. Undetermined: 1 of 2 (50.0 %). Not judged yet: 1 of 3." in shares(
        asked("equivalent", "undetermined", "")
    )
    assert "is not: 0. Called different and is not: 1." in shares(asked("different", "refines", "different"))


def test_every_wrong_pair_is_listed_and_no_other() -> None:
    text = report(asked("different", "different", "undetermined"))
    assert "wrong: `two` is equivalent, called different" in text
    assert "undetermined: `three`" in text
    assert "`one`" not in text


def test_times_are_those_of_what_was_found() -> None:
    pairs = [attrs.evolve(PAIR, id=str(i)) for i in range(20)]
    found = [(pair, said(pair, "different", float(i + 1))) for i, pair in enumerate(pairs)]
    assert "| different, sequential | 20 | 10.5 s | 19.0 s | 0.5 s | 0.5 s |" in times(found)
    assert times(asked("equivalent", "equivalent", "")) == ""


def test_an_answer_is_known_again_until_the_patch_or_the_source_changes(tmp_path: Path) -> None:
    file = tmp_path / "new/answers.jsonl"
    Answers(file).keep(said(PAIR, "different"))
    known = Answers(file)
    assert known.of({PAIR.id: key_of(PAIR, "s")}) == {PAIR.id: said(PAIR, "different")}
    assert not known.of({PAIR.id: key_of(PAIR, "t")})
    assert not known.of({PAIR.id: key_of(attrs.evolve(PAIR, new="== 2"), "s")})


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    keys = {pair.id: key_of(pair, "s") for pair in PAIRS}
    file = tmp_path / "answers.jsonl"
    calls: list[str] = []

    def ask(pair: Pair) -> Answer:
        calls.append(pair.id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return said(pair, pair.label)

    with pytest.raises(KeyboardInterrupt):
        list(run(PAIRS, Answers(file), keys, ask, None))
    with file.open("a") as out:
        out.write('{"id": "two", "ke')
    list(run(PAIRS, Answers(file), keys, ask, None))
    assert calls == ["one", "two", "two", "three"]
    assert exit_code(paired(PAIRS, Answers(file).of(keys))) == 0


def test_the_limit_and_the_wanted(tmp_path: Path) -> None:
    keys = {pair.id: key_of(pair, "s") for pair in PAIRS}
    assert len(list(run(PAIRS, Answers(tmp_path / "a"), keys, lambda pair: said(pair, pair.label), 2))) == 2
    assert Wanted(only="flip").of(PAIRS) == [SAME]
    assert Wanted(kind="concurrent").of(PAIRS) == [BESIDE]
    assert Wanted(label="different").of(PAIRS) == [PAIR, BESIDE]


def test_a_wrong_label_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = next(pair for pair in load_pairs(ROOT / "corpus/sequential.toml") if pair.function == "collapse_huge_page")
    arguments = ["--answers", str(tmp_path / "answers"), "--jobs", "1"]
    monkeypatch.setattr(judge, "all_pairs", lambda: (right,))
    assert main(arguments) == 0
    assert f"{right.id}: different, as labelled" in capsys.readouterr().out
    monkeypatch.setattr(judge, "all_pairs", lambda: (attrs.evolve(right, label="equivalent"),))
    assert main(arguments) == 2
    assert "Called different and is not: 1." in capsys.readouterr().out


def test_what_the_command_refuses_is_no_answer() -> None:
    bad = attrs.evolve(PAIR, new='== ""')
    answer = by_command(bad, "key", 1)
    assert (answer.word, contradicts(bad, answer)) == (FAILED, False)
    assert "does not type-check" in answer.shown


def test_what_needs_store_buffers_is_asked_so() -> None:
    assert judge._options(BESIDE, 1) == ["--jobs", "1", "--scenario", str(ROOT / "corpus/scenarios/collapse-load.toml"), "--memory", "pso"]
    assert all(judge._options(pair, None) == [] for pair in all_pairs() if pair.memory == "sc")
