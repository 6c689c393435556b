"""Rounds take turns, and their figures are printed in one form."""

from benchmarks.rounds import alternate, percentile, ratios, spread, table


def test_every_second_round_runs_in_reverse_order() -> None:
    called: list[str] = []

    def call(name: str) -> int:
        called.append(name)
        return len(called)

    found = alternate({"a": lambda: call("a"), "b": lambda: call("b")}, 3, warm_up=lambda: called.append("warm"))
    assert called == ["warm", "a", "b", "b", "a", "a", "b"]
    assert found == {"a": [2, 5, 6], "b": [3, 4, 7]}


def test_a_ratio_is_taken_within_a_round() -> None:
    assert ratios([2, 9], [1, 3]) == [2, 3]


def test_a_spread_has_the_digits_that_mean_something() -> None:
    assert spread([1234.5, 1000.0, 2000.4], " ms") == "1,234 ms (1,000–2,000)"
    assert spread([0.123]) == "0.12"
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert percentile([], 50) == 0


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
