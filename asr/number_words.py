"""Digits to English words, as people read them aloud. No "and": two hundred seventy five.

Every function takes ASCII digits as a string, so that no length is too long, and gives a list of
words. `asr.text` decides which function reads which digits.
"""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = ["", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split()]
_SCALES = ["", "thousand", "million", "billion", "trillion"]
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_MAX_CARDINAL_DIGITS = 3 * len(_SCALES)
_MAX_PLAIN_DIGITS = 6  # a longer number without commas is an account or a telephone, unless round
_MAX_SIGNIFICANT_DIGITS = 3  # of a round number: 2500000 is two million five hundred thousand


def _below_hundred(value: int) -> list[str]:
    if value < 20:
        return [_ONES[value]]
    tens, ones = divmod(value, 10)
    return [_TENS[tens], _ONES[ones]] if ones else [_TENS[tens]]


def _below_thousand(value: int) -> list[str]:
    hundreds, rest = divmod(value, 100)
    words = [_ONES[hundreds], "hundred"] if hundreds else []
    return words + _below_hundred(rest) if rest else words


def digits_one_by_one(digits: str) -> list[str]:
    """`007` -> zero zero seven."""
    return [_ONES[int(digit)] for digit in digits]


def cardinal(digits: str) -> list[str]:
    """`1,042` -> one thousand forty two; with a leading zero or past the trillions, one by one."""
    digits = digits.replace(",", "")
    if len(digits) > _MAX_CARDINAL_DIGITS or (digits[0] == "0" and len(digits) > 1):
        return digits_one_by_one(digits)
    value = int(digits)
    words: list[str] = []
    for power in reversed(range(len(_SCALES))):
        group = value // 1000**power % 1000
        if group:
            words += _below_thousand(group)
            words += [_SCALES[power]] if power else []
    return words or ["zero"]


def pair(digits: str) -> list[str]:
    """The last two digits of a year, a time or a code: `05` -> oh five, `42` -> forty two."""
    value = int(digits)
    return ["oh", _ONES[value]] if value < 10 else _below_hundred(value)


def number(digits: str) -> list[str]:
    """A number that stands alone: years in pairs, accounts one by one, all others as cardinals."""
    if len(digits) == 4 and "1000" <= digits <= "2099" and digits[1:3] != "00":
        high = _below_hundred(int(digits[:2]))
        return high + (["hundred"] if digits[2:] == "00" else pair(digits[2:]))
    is_plain = "," not in digits
    is_round = len(digits.rstrip("0")) <= _MAX_SIGNIFICANT_DIGITS
    if is_plain and len(digits) > _MAX_PLAIN_DIGITS and not is_round:
        return digits_one_by_one(digits)
    return cardinal(digits)


def code(digits: str) -> list[str]:
    """Digits of a name: `323` -> three twenty three, `404` -> four oh four, else as `number`."""
    if len(digits) == 3 and digits[0] != "0" and digits[1:] != "00":
        return [_ONES[int(digits[0])], *pair(digits[1:])]
    return number(digits)


def ordinal(words: list[str]) -> list[str]:
    """Makes the last word an ordinal: twenty one -> twenty first."""
    *rest, last = words
    if last in _ORDINALS:
        return [*rest, _ORDINALS[last]]
    return [*rest, last[:-1] + "ieth" if last.endswith("y") else last + "th"]


def plural(words: list[str]) -> list[str]:
    """Makes the last word a plural: nineteen ninety -> nineteen nineties."""
    *rest, last = words
    if last.endswith("y"):
        return [*rest, last[:-1] + "ies"]
    return [*rest, last + ("es" if last.endswith("x") else "s")]


def fraction(numerator: str, denominator: str) -> list[str]:
    """`3`, `4` -> three quarters."""
    names = {"2": "half", "4": "quarter"}
    name = names.get(denominator) or ordinal(cardinal(denominator))[-1]
    if numerator == "1":
        return ["one", name]
    return [*cardinal(numerator), "halves" if name == "half" else name + "s"]
