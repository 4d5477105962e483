"""Counting, merging, and the text of Prometheus: pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from skate.serve._observing import page, rates
from skate.serve._observing.families import FAMILIES, MILLISECONDS
from skate.serve._observing.ledger import Ledger, merged
from skate.serve._observing.metrics import Metrics, Snapshot

ROUTED = "ray_serve_num_router_requests"
LATENCY = "ray_serve_deployment_processing_latency_ms"
ONGOING = "ray_serve_replica_processing_queries"
OF = ("Model", "default")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the values of a page, as Prometheus' own parser reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_one_series_for_the_same_labels() -> None:
    metrics = Metrics()
    metrics.counter(ROUTED, *OF).value += 1
    metrics.counter(ROUTED, *OF).value += 2
    metrics.counter(ROUTED, "Other", "default").value += 5
    assert metrics.snapshot() == {(ROUTED, OF): 3, (ROUTED, ("Other", "default")): 5}


def test_wrong_kinds_and_labels_are_refused() -> None:
    metrics = Metrics()
    with pytest.raises(TypeError, match="is a counter with the labels"):
        metrics.histogram(ROUTED, *OF)
    with pytest.raises(TypeError, match="is a counter with the labels"):
        metrics.counter(ROUTED, "Model")


def test_readers_are_asked_at_each_look() -> None:
    metrics, ongoing = Metrics(), [1]
    metrics.add_reader(lambda: {(ONGOING, (*OF, "r1")): ongoing[0]})
    assert metrics.snapshot()[ONGOING, (*OF, "r1")] == 1
    ongoing[0] = 4
    assert metrics.snapshot()[ONGOING, (*OF, "r1")] == 4


def test_values_at_the_ends_of_buckets() -> None:
    metrics = Metrics()
    histogram = metrics.histogram(LATENCY, *OF, "/")
    for value in (0.0, 0.5, 0.51, 60000.0, 60000.1):
        histogram.observe(value)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[-2:] == [1, 1]
    assert sum(histogram.counts) == 5
    found = samples(page.text(metrics.snapshot()))
    labels = {"deployment": "Model", "application": "default", "route": "/"}

    def bucket(end: str) -> float:
        return found[f"{LATENCY}_bucket", tuple(sorted({**labels, "le": end}.items()))]

    assert [bucket(end) for end in ("0.5", "1", "30000", "60000", "+Inf")] == [2, 3, 3, 4, 5]
    assert found[f"{LATENCY}_count", tuple(sorted(labels.items()))] == 5
    assert found[f"{LATENCY}_sum", tuple(sorted(labels.items()))] == pytest.approx(120001.11)


def test_pages_parse_whatever_the_labels_contain() -> None:
    odd = 'a"b\\c\nd'
    text = page.text({(ROUTED, (odd, "default")): 1.5}, ["r7"])
    assert samples(text) == {(f"{ROUTED}_total", (("application", "default"), ("deployment", odd))): 1.5}
    assert text.startswith("# No answer in time, so the latest known values count: r7\n")


def test_every_family_can_be_written_and_parsed() -> None:
    series: Snapshot = {}
    for name, family in FAMILIES.items():
        value = (1.0, *[1] * (len(family.bounds) + 1)) if family.kind == "histogram" else 1
        series[name, tuple(f"v{index}" for index, _ in enumerate(family.labels))] = value
    families = {one.name: one.type for one in text_string_to_metric_families(page.text(series))}
    assert families == {name: family.kind for name, family in FAMILIES.items()}


counts = st.dictionaries(
    st.sampled_from([(ROUTED, OF), (ROUTED, ("Other", "x")), (ONGOING, (*OF, "r"))]), st.integers(0, 9)
)
programs = st.lists(
    st.tuples(st.sampled_from(["grow", "see", "end"]), st.sampled_from("abc"), counts), max_size=40
)


@given(programs)
def test_counters_never_go_back(program: list[tuple[str, str, Snapshot]]) -> None:
    """Processes count, are seen, and end; new ones of the same name begin at zero, as none is used twice."""
    ledger, living, number = Ledger(), {}, 0
    before: Snapshot = {}
    counted: Snapshot = {}
    for what, letter, more in program:
        name, series = living.setdefault(letter, (f"{letter}{number}", {}))
        if what == "grow":
            living[letter] = (name, merged([series, more]))
            counted = merged([counted, more])
        elif what == "see":
            ledger.saw(name, series)
        else:
            ledger.saw(name, series)
            ledger.ended(name)
            ledger.ended(name)
            del living[letter]
            number += 1
        total = ledger.total()
        for key, value in before.items():
            if FAMILIES[key[0]].kind == "counter":
                assert total[key] >= value
        before = total
    for name, series in living.values():
        ledger.saw(name, series)
    total = ledger.total()
    assert {key: value for key, value in total.items() if key[0] == ROUTED and value} == {
        key: value for key, value in counted.items() if key[0] == ROUTED and value
    }
    assert set(ledger.ended_sum) <= {(ROUTED, OF), (ROUTED, ("Other", "x"))}


def test_histograms_of_processes_add_up() -> None:
    both = []
    for value in (1.0, 100.0):
        metrics = Metrics()
        metrics.histogram(LATENCY, *OF, "/").observe(value)
        both.append(metrics.snapshot())
    together = Metrics()
    for value in (1.0, 100.0):
        together.histogram(LATENCY, *OF, "/").observe(value)
    assert merged(both) == together.snapshot()


def replica(latencies: list[float], ongoing: int, name: str) -> Snapshot:
    metrics = Metrics()
    for value in latencies:
        metrics.histogram(LATENCY, *OF, "/").observe(value)
    metrics.add_reader(lambda: {(ONGOING, (*OF, name)): ongoing})
    return metrics.snapshot()


def test_rows_of_the_live_view() -> None:
    before = {"r1": replica([1.0] * 10, 0, "r1"), "controller": {}}
    now = {
        "r1": replica([1.0] * 10 + [15.0] * 4, 2, "r1"),
        "r2": merged(
            [replica([150.0] * 4, 1, "r2"), {("ray_serve_deployment_queued_queries", (*OF, "r2")): 7}]
        ),
        "controller": {},
    }
    every, first, second = rates.rows(before, now, 2.0)
    assert (every.deployment, every.application, every.replica) == (*OF, "")
    assert (every.rate, every.ongoing, every.queued, every.batch) == (4.0, 3, 7, None)
    assert every.p50_ms == 20.0
    assert 100.0 < (every.p99_ms or 0) <= 200.0
    assert (first.replica, first.rate, first.ongoing, first.queued) == ("r1", 2.0, 2, None)
    assert (second.replica, second.rate, second.ongoing, second.queued) == ("r2", 2.0, 1, None)
    idle = rates.rows(now, now, 1.0)[0]
    assert (idle.rate, idle.p50_ms, idle.p99_ms) == (0.0, None, None)


@given(st.lists(st.floats(0.0, 50_000.0), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    metrics = Metrics()
    histogram = metrics.histogram(LATENCY, *OF, "/")
    for value in values:
        histogram.observe(value)
    found = rates.quantile(MILLISECONDS, histogram.counts, share)
    assert found is not None
    wanted = sum(values is not None for values in values) * share
    true = next(value for rank, value in enumerate(sorted(values), 1) if rank >= wanted - 1e-9)
    low = max([0.0, *[end for end in MILLISECONDS if end < true]])
    high = min(end for end in MILLISECONDS if end >= true)
    assert low <= found <= high * (1 + 1e-9)
