"""Protects that an alignment on the screen shows what happened to each word."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from asr.cli.eval_view import alignment_lines, groups_table, print_worst
from asr.evaluation.accuracy.alignment import align
from asr.evaluation.accuracy.scoring import Group
from asr.evaluation.accuracy.wer import WordErrors
from tests.asr.evaluated import scored

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dddddddd"]), max_size=12)


def test_wrong_words_stand_out_without_colour() -> None:
    edits = align("the cat sat down".split(), "a the cat stood".split()).edits
    ((reference, hypothesis),) = alignment_lines(edits, 80)
    assert reference.plain == "* the cat SAT DOWN  "
    assert hypothesis.plain == "A the cat *** STOOD "


def test_each_kind_of_error_has_its_colour() -> None:
    edits = align("the cat sat down".split(), "a the cat stood".split()).edits
    ((reference, hypothesis),) = alignment_lines(edits, 80)
    for line, words in ((reference, ("*", "SAT", "DOWN")), (hypothesis, ("A", "***", "STOOD"))):
        styles = {
            line.plain[span.start : span.end]: span.style for span in line.spans if span.style
        }
        assert styles == dict(zip(words, ("cyan", "red", "yellow"), strict=True))


@settings(deadline=None, max_examples=50)
@given(WORDS, WORDS)
def test_lines_fit_and_spell_both_sides(reference: list[str], hypothesis: list[str]) -> None:
    lines = list(alignment_lines(align(reference, hypothesis).edits, 20))
    for side, words in ((0, reference), (1, hypothesis)):
        shown = " ".join(pair[side].plain for pair in lines).replace("*", "").lower().split()
        assert shown == words
    for pair in lines:
        assert len(pair[0]) == len(pair[1]) <= 21, "with the space behind the last word"


def test_the_worst_utterance_on_a_narrow_terminal() -> None:
    console = Console(width=20, record=True, file=None, quiet=False)
    with console.capture() as capture:
        print_worst([scored("long/id", "one two three four", "one too three for")], console)
    assert capture.get().splitlines()[1:] == [
        "long/id  WER 50%: 0 inserted, 0 deleted, 2 substituted of 4 words",
        "REF: one TWO three ",
        "HYP: one TOO three ",
        "REF: FOUR ",
        "HYP: FOR  ",
    ]


def test_many_groups_are_cut_and_that_is_said() -> None:
    groups = [Group(f"[red]{number}", 1, WordErrors(hits=1)) for number in range(25)]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(groups_table("speaker", [Group(None, 2, WordErrors(hits=3)), *groups]))
    shown = capture.get()
    assert "(none)" in shown
    assert "[red]18" in shown, "a value is no markup"
    assert "[red]19" not in shown
    assert "and 6 more, all in the --report" in shown
