"""The columns of an explanation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmm.judge.columns import WIDTH, Event, columns

TASKS = ("khugepaged", "gup", "munmap")


def test_each_event_stands_in_its_task_s_column() -> None:
    lines = columns([Event("b", "stores", "f.c:1 f"), Event("a", "loads", "g.c:2 g")], ("a", "b"), 23)
    assert lines == [
        "a          | b",
        "-          | -",
        "           | stores",
        "           |     f.c:1",
        "           |     f",
        "loads      |",
        "    g.c:2  |",
        "    g      |",
    ]


def test_the_middle_of_what_a_task_does_without_a_break_is_left_out() -> None:
    events = [Event("a", str(number), "") for number in range(11)]
    assert columns(events, ("a",))[2:] == ["0", "1", "... 7 more", "9", "10"]
    events[5] = Event("a", "KASAN: 5", "", is_report=True)
    assert columns(events, ("a",))[2:] == ["0", "1", "... 3 more", "KASAN: 5", "... 3 more", "9", "10"]
    assert columns(events[:10], ("a",))[2:] == [event.text for event in events[:10]]


@given(st.lists(st.builds(Event, st.sampled_from(TASKS), st.text("ab _.", max_size=150), st.text("x:1 ", max_size=90)), max_size=30))
def test_no_line_is_wider_than_a_mail(events: list[Event]) -> None:
    assert all(len(line) <= WIDTH for line in columns(events, TASKS))
