"""What a figure may be: a value with its spread, or a reason; never both, never neither."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.evaluation.bench.rows import Row, figure, not_available, percentile, rows_to_dict


def test_a_repeated_figure_is_its_median_with_quartiles() -> None:
    row = figure([4.0, 1.0, 2.0, 3.0, 100.0], "ms", "somewhere")
    assert (row.value, row.spread, row.n, row.source) == (3.0, (2.0, 4.0), 5, "somewhere")
    assert str(row) == "3 ms (2 to 4)"


def test_a_single_figure_has_no_spread() -> None:
    assert figure(7, "MB") == Row(7.0, "MB", None, None, 1, None)


def test_what_could_not_be_measured_says_why() -> None:
    row = not_available("mJ", "no counter")
    assert str(row) == "n/a: no counter"
    assert rows_to_dict({"energy": row})["energy"]["value"] is None


@pytest.mark.parametrize(("value", "reason"), [(None, None), (1.0, "why"), (float("nan"), None)])
def test_a_row_is_a_number_or_a_reason(value: float | None, reason: str | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        Row(value, "ms", reason)


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no value"):
        figure([], "ms")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(1, 100))
@settings(max_examples=50)
def test_a_percentile_is_a_value_with_enough_below_it(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-6
    assert sum(value < found for value in values) < percent / 100 * len(values) + 1e-6
