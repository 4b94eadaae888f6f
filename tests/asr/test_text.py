"""Protects the one spelling of words that training, scoring and grammars share."""

import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.text import normalize, unspoken_letters

SPOKEN = re.compile(r"([a-z]+('[a-z]+)*( (?!$)|$))*")

CASES = {
    "apostrophes": [
        ("Don't stop at five o'clock", "don't stop at five o'clock"),
        ("James' hat and the debtors' side", "james hat and the debtors side"),
        ("'Tis for 'em, 'til then", "tis for em til then"),
        ("rock'n'roll, rock 'n' roll", "rock'n'roll rock n roll"),
        ("He’s ‘here’, she said. ''Quite''", "he's here she said quite"),
        ("I don´t, I don`t", "i don't i don't"),
    ],
    "letters": [
        ("Café naïve Ærøskøbing straße", "cafe naive aeroskobing strasse"),
        ("Łódź İzmir ﬁne ｗｉｄｅ", "lodz izmir fine wide"),
        ("北京 Москва 東京", ""),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("Brand™ new", "brand new"),
    ],
    "joints and asides": [
        ("re-enter a well‑ordered -- and/or _odd_ room", "re enter a well ordered and or odd room"),
        ("any <emph> time </emph> {whispers} [noise] (awkward!)", "any time awkward"),
        ("get the f*%# out, *every* one", "get the f out every one"),
        ("a < b", "a b"),
    ],
    "periods": [
        ("1 for A.M, or 2 for P.M.", "one for a m or two for p m"),
        ("the U.S. and the I.D. of a Ph.D.", "the u s and the i d of a ph d"),
        ("Visit www.asterisk.org.", "visit w w w dot asterisk dot org"),
        ("me@mail.example.com", "me at mail dot example dot com"),
        ("unexplainable...Go", "unexplainable go"),
    ],
    "integers": [
        ("0 7 13 20 42 100", "zero seven thirteen twenty forty two one hundred"),
        ("275 pages", "two hundred seventy five pages"),
        ("1,000 and 68,728", "one thousand and sixty eight thousand seven hundred twenty eight"),
        ("10000", "ten thousand"),
        ("5000000 or 2,500,001", "five million or two million five hundred thousand one"),
        ("007", "zero zero seven"),
        ("5551234", "five five five one two three four"),
        ("call (555) 123-4567", "call five five five one two three four five six seven"),
        ("dial 411, not 911", "dial four one one not nine one one"),
        ("in 5, 4, 3", "in five four three"),
    ],
    "years": [
        ("in 1842", "in eighteen forty two"),
        ("1905, 1500, 1066", "nineteen oh five fifteen hundred ten sixty six"),
        ("1000 1005 2000 2009", "one thousand one thousand five two thousand two thousand nine"),
        ("2010 2024", "twenty ten twenty twenty four"),
        ("2500", "two thousand five hundred"),
        ("1,842 votes", "one thousand eight hundred forty two votes"),
        ("the 1990s and the '60s", "the nineteen nineties and the sixties"),
    ],
    "ordinals": [
        ("1st 2nd 3rd 5th 8th 9th", "first second third fifth eighth ninth"),
        ("12th 16th 20th 21st 100th", "twelfth sixteenth twentieth twenty first one hundredth"),
    ],
    "codes": [
        (
            "H.323 q.931 A380 C404",
            "h three twenty three q nine thirty one a three eighty c four oh four",
        ),
        ("a1 R2D2 3D 12-digit", "a one r two d two three d twelve digit"),
    ],
    "fractions": [
        ("3.5 and 0.05 and .5", "three point five and zero point zero five and point five"),
        ("1,234.5", "one thousand two hundred thirty four point five"),
        ("v1.5, 1.2.3", "v one point five one dot two dot three"),
        ("1/2, 3/4, 2½", "one half three quarters two and one half"),
        ("2/3 of 24/7", "two thirds of twenty four seven"),
        ("-5, 7 − 3", "minus five seven minus three"),
    ],
    "times": [
        ("10:30 10:05 10:00", "ten thirty ten oh five ten o'clock"),
        ("3pm, 3 P.M. and 10:00 am", "three p m three p m and ten a m"),
        ("8.20a.m.", "eight twenty a m"),
    ],
    "money": [
        ("$5 $1 $1,000", "five dollars one dollar one thousand dollars"),
        ("$13.25, $1.01", "thirteen dollars and twenty five cents one dollar and one cent"),
        ("$0.50 £0.01", "fifty cents one penny"),
        ("£200 or 5€", "two hundred pounds or five euros"),
        ("$2.5 million, €3.00", "two point five million dollars three euros"),
    ],
    "symbols": [
        ("Research & Development, AT&T", "research and development at and t"),
        ("50% + 1 = a", "fifty percent plus one equals a"),
        ("press * or #.", "press star or pound"),
        ("*67, #1, #tag", "star sixty seven number one hashtag tag"),
        ("Caller*ID", "caller id"),
        ("20°C, 90°", "twenty degrees celsius ninety degrees"),
        ("5×3 ÷ 2", "five times three divided by two"),
        ("~ ^ | \\ §", ""),
    ],
    "titles": [
        ("Mr. Smith, Mrs Jones and Dr. Who", "mister smith missus jones and doctor who"),
        ("St. Louis on Main St.", "saint louis on main street"),
        ("the Hon. H. G. Bennet, hon", "the honorable h g bennet hon"),
        ("No. 5, no.", "number five no"),
        ("etc. is ok", "et cetera is okay"),
        ("Henry VIII", "henry viii"),
    ],
}


@pytest.mark.parametrize(
    ("written", "spoken"),
    [pytest.param(*case, id=f"{group}-{case[0]}") for group in CASES for case in CASES[group]],
)
def test_says_what_a_reader_says(written: str, spoken: str) -> None:
    assert normalize(written) == spoken


# Digits, symbols and the pieces of the rules are drawn more often than chance would.
PIECES = st.sampled_from(
    [
        *["st", "st.", "mr", "dial ", "www", ".com", "°c", "p.m.", "no.", "etc", "1st", "s", "''"],
        *"0123456789.,:/-*#$£€%&+=@°½²⁄′´'İſŉßŀ\u0301\u200b <>[]{}日",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.characters())).map("".join))


@settings(deadline=None, max_examples=200)
@given(TEXTS)
@example("st 日 a")
@example("1'" * 3)
@example("ŉ't")
def test_any_text_becomes_words_that_stay_as_they_are(text: str) -> None:
    spoken = normalize(text)
    assert SPOKEN.fullmatch(spoken)
    assert normalize(spoken) == spoken


@settings(deadline=None)
@given(st.lists(st.from_regex("[a-z]+('[a-z]+)?", fullmatch=True)))
def test_what_is_already_spoken_keeps_its_word_count(words: list[str]) -> None:
    """Only the abbreviations of the word table may change, so references can't lose words."""
    assert len(normalize(" ".join(words)).split()) >= len(words)


@pytest.mark.parametrize("hostile", ["9" * 50_000, "<a" * 20_000, "1." * 20_000, "'" * 50_000])
def test_long_input_does_not_hang(hostile: str) -> None:
    """A pattern that backtracks would take hours here; int() would refuse so many digits."""
    assert SPOKEN.fullmatch(normalize(hostile))


@pytest.mark.parametrize(
    ("written", "letters"),
    [
        *(("Café Æsop's 2½ ﬁne №5 – “yes” …", ""), ("plain words", ""), ("100 € ☺", "")),
        *(("I said жук", "жук"), ("πr²", "π"), ("中 and 文", "中文"), ("٣ times", "٣"), ("ə", "ə")),
    ],
)
def test_letters_that_no_word_can_hold_are_told(written: str, letters: str) -> None:
    assert unspoken_letters(written) == letters


def test_imports_nothing_heavy() -> None:
    """The normaliser is for tools that start in milliseconds: no numpy, no onnxruntime."""
    code = "import sys, asr; old = set(sys.modules); import asr.text; print(set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "asr.text" in done.stdout
    assert not re.search("numpy|onnxruntime|sentencepiece", done.stdout)
