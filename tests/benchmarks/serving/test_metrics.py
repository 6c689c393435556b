"""What is read from the metrics of a service."""

from benchmarks.serving.metrics import Metrics, grown, mean

EXPOSITION = """# TYPE ernie_requests counter
ernie_requests_total{{model="a",code="200"}} {0}
ernie_requests_total{{model="b",code="200"}} 1
# TYPE ernie_batch_tokens histogram
ernie_batch_tokens_sum{{model="a"}} {1}
ernie_batch_tokens_count{{model="a"}} {0}
"""


def test_samples_are_added_over_the_labels_that_are_not_given() -> None:
    found = Metrics(EXPOSITION.format(3, 30))
    assert found.total("ernie_requests_total") == 4
    assert found.total("ernie_requests_total", model="a") == 3
    assert found.total("ernie_requests_total", model="c") == 0
    assert list(found.series("ernie_requests_total").values()) == [3, 1]


def test_growth_and_mean_are_taken_between_two_scrapes() -> None:
    before, after = (Metrics(EXPOSITION.format(*values)) for values in ((3, 30), (5, 70)))
    assert grown(before, after, "ernie_requests_total") == 2
    assert mean(before, after, "ernie_batch_tokens", model="a") == 20
    assert mean(before, before, "ernie_batch_tokens") == 0
