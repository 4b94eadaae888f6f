"""The one text normaliser: transcripts, references, hypotheses and grammars all pass through it.

`normalize` turns written English into the words that were spoken: lower-case words of `a-z` with
apostrophes inside them, separated by single spaces. What it decides, and why:

apostrophes  Kept between letters only (don't, o'clock, rock'n'roll). At the edge of a word they go:
             `James'` -> james, `'tis` -> tis, `'em` -> em. There an apostrophe can't be told from a
             quotation mark, and is not heard.
letters      Accents are stripped (café -> cafe; æ -> ae, ß -> ss). What is written in other scripts
             than Latin can't be said in English letters and is dropped.
joints       Hyphens, dashes, slashes and underscores are spaces: re-enter -> re enter.
periods      Spaces: A.M. -> a m, U.S. -> u s. In names of the network they are "dot", www is w w w.
asides       <tags>, {directions} and [noises] are dropped; (words in parentheses) are spoken.
integers     Without "and": two hundred seventy five. Digit by digit, with zero for 0: seven digits
             or more (unless round: 2500000), a leading zero, a number after "dial", and 911.
years        Four digits from 1000 to 2099 without a comma are read in pairs: eighteen forty two,
             nineteen oh five, fifteen hundred, twenty twenty four; but one thousand five and two
             thousand nine. From 2100 on they are cardinals: two thousand five hundred.
codes        Digits after a letter are read as names are: H.323 h three twenty three, a1 a one.
fractions    3.5 three point five, 1.2.3 one dot two dot three, 3/4 three quarters, 2½ two and one
             half, -5 minus five.
times        10:30 ten thirty, 10:05 ten oh five, 10:00 ten o'clock, 3pm three p m.
money        $13.25 thirteen dollars and twenty five cents, £2 million two million pounds.
other        21st twenty first, 1990s nineteen nineties, 555-1234 digit by digit, No. 5 number five.
symbols      & and, + plus, = equals, @ at, % percent, ° degrees, × times, ÷ divided by. `*` alone
             or before digits is star. `#` alone is pound (as the Asterisk prompts say), before
             digits number, before a letter hashtag. Others are dropped.
titles       As LibriSpeech spells them: mister, missus, doctor, saint ("st" at the end: street).
             Roman numerals stay as written: Henry VIII -> henry viii.

What comes out is a fixed point: every rule needs a character that no output has, except the last
step, which looks up whole words and writes none that it would look up again.
"""

import re
import unicodedata
from collections.abc import Callable

from asr import number_words as say

Match = re.Match[str]

# Letters and marks that have no decomposition, and the many forms of the quote and the dash.
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′ʹʻʼʽˈ`", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―⸺⸻", "-"),
        **{"æ": "ae", "œ": "oe", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"},
        **{"ħ": "h", "ı": "i", "ŋ": "ng", "ŧ": "t"},
    }
)
_BEFORE_NFKC = [  # characters that NFKC turns into something else than what is said
    (re.compile("´"), "'"),
    (re.compile("[™℠]"), ""),
    (re.compile("([¼-¾⅐-⅞])"), r" \1"),  # 2½ would become 21/2
]

_NUMBER = r"(?<![0-9])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DAY_HALF = r"\s?([ap])\.?\s?m\b"
_ALONE_BEFORE = r"(?<!\S)"
_ALONE_AFTER = r"(?=[\s.,;:!?]|$)"
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
_TITLES = {  # words of their own without the period: only before a name
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "hon": "honorable",
    "lieut": "lieutenant",
    "prof": "professor",
    "rev": "reverend",
}
_WORDS = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "mme": "madame",
    "mlle": "mademoiselle",
    "jr": "junior",
    "etc": "et cetera",
    "vs": "versus",
    "ok": "okay",
    "pm": "p m",
    "www": "w w w",
}


def _money(match: Match) -> list[str]:
    symbol, whole, decimals, scale = match.groups(default="")
    one, many, cent, cents = _CURRENCIES[symbol]
    words = say.cardinal(whole)
    if scale or len(decimals) not in (0, 2):
        point = ["point", *say.digits_one_by_one(decimals)] if decimals else []
        return [*words, *point, *([scale] if scale else []), many]
    words.append(one if words == ["one"] else many)
    if decimals in ("", "00"):
        return words
    minor = say.cardinal(decimals.lstrip("0"))
    minor.append(cent if minor == ["one"] else cents)
    return minor if whole == "0" else [*words, "and", *minor]


def _time(match: Match) -> list[str]:
    hour, minute, day_half = match.groups()
    words = say.cardinal(str(int(hour)))
    if minute != "00":
        words += say.pair(minute)
    elif not day_half:
        words.append("o'clock")
    return [*words, day_half, "m"] if day_half else words


def _fraction(match: Match) -> list[str]:
    numerator, denominator = match.groups()
    if 0 < int(numerator) < int(denominator):
        return say.fraction(numerator, denominator)
    return [*say.number(numerator), *say.number(denominator)]  # 24/7, 9/4


def _decimal(match: Match) -> list[str]:
    whole, decimals = match.groups()
    return [*(say.cardinal(whole) if whole else []), "point", *say.digits_one_by_one(decimals)]


def _dotted(match: Match) -> list[str]:
    first, *others = match[0].split(".")
    words = say.code(first)
    for group in others:
        words += ["dot", *say.code(group)]
    return words


def _one_by_one(match: Match) -> list[str]:
    return say.digits_one_by_one(re.sub("[^0-9]", "", match[0]))


Words = Callable[[Match], list[str]]

# Applied in this order to lower-case text; what a rule writes is set between spaces.
_RULES: list[tuple[str, str | Words]] = [
    # Asides, and oaths (f*%#)
    (r"</?[a-z][^<>]*>|\{[^{}]*\}|\[[^\[\]]*\]", ""),
    (r"[*%#@$&^]{3,}", ""),
    # Names of the network
    (r"\bwww\.", "w w w dot"),
    (r"(?<=[a-z0-9])\.(?=(?:[a-z0-9-]+\.){0,3}(?:com|org|net|edu|gov|info|io|co\.uk)\b)", "dot"),
    # Money; the symbol may come behind
    (rf"({_NUMBER}(?:\.[0-9]+)?)\s?([$£€])(?!\s?[0-9])", r"\2\1"),
    (
        rf"([$£€])\s?({_NUMBER})(?:\.([0-9]+))?"
        r"(?:\s(hundred|thousand|million|billion|trillion)\b)?",
        _money,
    ),
    # Times
    (rf"\b([01]?[0-9]|2[0-4])[:.]([0-5][0-9]){_DAY_HALF}", _time),
    (r"\b([01]?[0-9]|2[0-4]):([0-5][0-9])(?![0-9:])()", _time),
    (rf"(?<=[0-9]){_DAY_HALF}", r"\1 m"),
    # Numbers, the special before the general
    (r"(?<![0-9-])(?:\(?[0-9]{3}[-.) ]{1,2})?[0-9]{3}-[0-9]{4}(?![0-9-])", _one_by_one),
    (r"(?<=\bdial )[0-9]{3,}|(?<![0-9.,])911(?![0-9]|[.,][0-9])", _one_by_one),
    (r"(?<=[0-9])\s(?=[0-9]{1,2}[/⁄](?:[2-9]|10)\b)", "and"),
    (r"(?<![0-9/⁄])([0-9]{1,2})[/⁄]([2-9]|10)(?![0-9/⁄])", _fraction),
    (rf"({_NUMBER})(?:st|nd|rd|th)\b", lambda m: say.ordinal(say.cardinal(m[1]))),
    (rf"({_NUMBER})'?s\b", lambda m: say.plural(say.number(m[1]))),
    (r"(?<![0-9])[0-9]+(?:\.[0-9]+){2,}", _dotted),
    (rf"{_ALONE_BEFORE}-(?=\.?[0-9])|−", "minus"),
    (rf"({_NUMBER})\.([0-9]+)", _decimal),
    (r"(?<![0-9a-z])()\.([0-9]+)", _decimal),
    (rf"{_ALONE_BEFORE}\*(?=[0-9]|[\s.,;:!?]|$)", "star"),
    (r"#(?=[0-9])|\bno\.\s?(?=[0-9])", "number"),
    (r"(?<=[a-z])[.-]?([0-9]+)", lambda m: say.code(m[1])),
    (_NUMBER, lambda m: say.number(m[0])),
    # Symbols
    (rf"{_ALONE_BEFORE}#{_ALONE_AFTER}", "pound"),
    (r"#(?=[a-z])", "hashtag"),
    (r"°\s?c\b", "degrees celsius"),
    (r"°\s?f\b", "degrees fahrenheit"),
    (r"°", "degrees"),
    (r"&", "and"),
    (r"%", "percent"),
    (r"\+", "plus"),
    (r"=+", "equals"),
    (r"@", "at"),
    (r"×", "times"),
    (r"÷", "divided by"),
    (r"\$", "dollar"),
    (r"£", "pound"),
    (r"€", "euro"),
    (rf"\b({'|'.join(_TITLES)})\.(?=\s?[a-z])", lambda m: [_TITLES[m[1]]]),
    (r"\bco\.", "company"),
]


def _replacer(words: Words) -> Callable[[Match], str]:
    return lambda match: f" {' '.join(words(match))} "


_COMPILED = [
    (re.compile(pattern, re.ASCII), f" {said} " if isinstance(said, str) else _replacer(said))
    for pattern, said in _RULES
]
_SAID_AS_WRITTEN = re.compile(r"[a-z\s',;:!?\"()-]*")
_NOT_A_LETTER = re.compile(r"(?<![a-z])'+|'+(?![a-z])|[^a-z']+")


def _latin(text: str) -> str:
    """Lower-case text without accents, compatibility forms or the variants of quotes and dashes."""
    if text.isascii():
        return text.lower().replace("`", "'")
    for pattern, replacement in _BEFORE_NFKC:
        text = pattern.sub(replacement, text)
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).lower())
    unheard = ("M", "Cf")  # combining marks; zero-width characters and soft hyphens
    text = "".join(c for c in text if not unicodedata.category(c).startswith(unheard))
    return text.translate(_CHARACTERS)


def unspoken_letters(text: str) -> str:
    """The letters and digits of `text` that `normalize` drops, in their order: those of other
    scripts than Latin, and phonetic ones."""
    if text.isascii():
        return ""
    return "".join(
        c for c in _latin(text) if not c.isascii() and unicodedata.category(c)[0] in "LN"
    )


def normalize(text: str) -> str:
    """The words of `text` as they are spoken: "Dr. Gray's 3" -> "doctor gray's three".

    Takes any text, written or normalised; gives lower-case words of letters and inner apostrophes
    separated by single spaces, and the empty string where nothing can be said. Idempotent.
    """
    text = _latin(text)
    if not _SAID_AS_WRITTEN.fullmatch(text):
        for pattern, said in _COMPILED:
            text = pattern.sub(said, text)
    words = _NOT_A_LETTER.sub(" ", text).split()
    last = len(words) - 1
    spoken = (
        ("saint" if position < last else "street") if word == "st" else _WORDS.get(word, word)
        for position, word in enumerate(words)
    )
    return " ".join(spoken)
