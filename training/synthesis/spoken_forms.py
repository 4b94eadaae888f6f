"""Sentences of what novels lack: numbers, dates, times, amounts, telephones, spelled words, orders.

Each is made as it would be written, and its words are those that `asr.text.normalize` reads it as.
"""

from collections.abc import Callable, Sequence

import numpy as np

from training.synthesis.sentence import Sentence, as_spoken

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMES = (
    *("Adams", "Anna", "Baker", "Brown", "Carol", "Clark", "David", "Davis", "Edward", "Emma"),
    *("Evans", "Frank", "George", "Grace", "Green", "Harris", "Henry", "Irene", "Jack", "James"),
    *("Jones", "Kelly", "King", "Laura", "Lewis", "Maria", "Martin", "Morgan", "Nancy", "Nelson"),
    *("Oliver", "Oscar", "Parker", "Paul", "Peter", "Quinn", "Robert", "Ruth", "Sarah", "Scott"),
    *("Smith", "Susan", "Taylor", "Thomas", "Turner", "Victor", "Walker", "Watson", "Wright"),
    *("Xavier", "Young", "Zachary"),
)
_THINGS = ("lights", "television", "radio", "heating", "fan", "camera", "alarm", "music")
_PLACES = ("kitchen", "bedroom", "garden", "office", "hall", "garage", "living room", "bathroom")
_ORDERS = (
    *("yes", "no", "stop", "start", "go", "help", "cancel", "repeat", "enter", "erase", "continue"),
    *("go back", "next page", "start again", "good morning", "thank you", "volume up"),
    *("volume down", "take a picture", "read my messages", "open the door", "close the window"),
    *("play the next song", "what time is it", "what is the weather like", "call me a taxi"),
    *("where is the nearest station", "turn left", "turn right", "answer the phone", "hang up"),
)

Draw = np.random.Generator


def _below(draw: Draw, low: int, high: int) -> int:
    return int(draw.integers(low, high))


def _pick(draw: Draw, choices: Sequence[str]) -> str:
    return choices[_below(draw, 0, len(choices))]


def _digits(draw: Draw, count: int) -> str:
    return "".join(str(digit) for digit in draw.integers(0, 10, count))


def _digit_string(draw: Draw) -> str:
    zero = _pick(draw, ("0", "oh"))  # read aloud, it is as often a letter
    return " ".join(digit.replace("0", zero) for digit in _digits(draw, _below(draw, 1, 9)))


def _number(draw: Draw) -> str:
    number = f"{_below(draw, 0, 10 ** _below(draw, 1, 7)):,}"
    forms = ("{}", "number {}.", "there are {} of them.", "page {}.", "about {} people.")
    return _pick(draw, forms).format(number)


def _decimal(draw: Draw) -> str:
    number = f"{_below(draw, 0, 200)}.{_digits(draw, _below(draw, 1, 4))}"
    return _pick(draw, ("{}", "{} percent.", "{} degrees.", "it weighs {} pounds.")).format(number)


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _date(draw: Draw) -> str:
    day, month = _ordinal(_below(draw, 1, 32)), _pick(draw, _MONTHS)
    year, weekday = _below(draw, 1800, 2030), _pick(draw, _DAYS)
    forms = (
        f"{month} {day}, {year}.",
        f"the {day} of {month}, {year}.",
        f"on {weekday}, {month} {day}.",
        f"it was in {month} {year}.",
        f"the {day} of {month}.",
    )
    return _pick(draw, forms)


def _time(draw: Draw) -> str:
    hour, minute = _below(draw, 1, 13), _below(draw, 0, 60)
    half = _pick(draw, ("A M", "P M"))
    clock = f"{hour}:{minute:02}"
    forms = (
        *(f"{clock}.", f"{clock} {half}." if minute else f"{hour} {half}.", f"at {clock}."),
        *(f"half past {hour}.", f"a quarter to {hour}.", f"it is {clock} now."),
        f"wake me up at {clock}.",
    )
    return _pick(draw, forms)


def _amount(draw: Draw) -> str:
    symbol = _pick(draw, ("$", "$", "£", "€"))
    whole = _below(draw, 1, 10 ** _below(draw, 1, 5))
    price = _pick(draw, (f"{symbol}{whole}", f"{symbol}{whole}.{_below(draw, 1, 100):02}"))
    return _pick(draw, ("{}.", "it costs {}.", "send {} to my account.", "{} a day.")).format(price)


def _telephone(draw: Draw) -> str:
    groups = [_digits(draw, count) for count in (3, 3, 4)][_below(draw, 0, 2) :]
    number = ", ".join(" ".join(group) for group in groups)
    if draw.random() < 0.5:
        number = number.replace("0", "oh")
    return _pick(draw, ("{}.", "call {}.", "my number is {}.", "dial {}.")).format(number)


def _spelled_name(draw: Draw) -> str:
    name = _pick(draw, _NAMES)
    letters = _spell(draw, name)
    return _pick(draw, (f"{letters}.", f"{name}, {letters}.", f"my name is {name}, {letters}."))


def _letters(draw: Draw) -> str:
    drawn = "".join(chr(ord("a") + letter) for letter in draw.integers(0, 26, _below(draw, 1, 7)))
    # The first one is no word, so that all are known to be letters.
    spelled = _spell(draw, _pick(draw, "bcdefghjklmnopqrstuvwxyz") + drawn)
    forms = ("{}.", "enter {}.", "{} {}.")
    return _pick(draw, forms).format(spelled, _below(draw, 0, 100))


def _spell(draw: Draw, word: str) -> str:
    return _pick(draw, (" ", ", ")).join(word.upper())


def _order(draw: Draw) -> str:
    thing, place, name = _pick(draw, _THINGS), _pick(draw, _PLACES), _pick(draw, _NAMES)
    switch, minutes = _pick(draw, ("on", "off")), _below(draw, 2, 60)
    forms = (
        *(f"turn {switch} the {thing}.", f"turn the {place} {thing} {switch}.", f"call {name}."),
        *(f"send a message to {name}.", f"set a timer for {minutes} minutes."),
        *(f"go to the {place}.", f"set the {thing} to {minutes}.", f"ask {name} to come."),
    )
    return _pick(draw, (_pick(draw, _ORDERS), _pick(draw, forms)))


_FORMS: tuple[Callable[[Draw], str], ...] = (
    *(_digit_string, _number, _decimal, _date, _time, _amount, _telephone, _spelled_name),
    *(_letters, _order),
)


def spoken_form(draw: Draw) -> Sentence:
    """Return a sentence of a kind that is drawn first, each as often as any other."""
    return as_spoken(_FORMS[_below(draw, 0, len(_FORMS))](draw))
