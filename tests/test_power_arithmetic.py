"""Energy out of traces, on numbers that fit on paper; and all that makes a trace no evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.errors import ConfigError
from edgeq.measurement import Value, invalid, metered, unavailable, value_of
from edgeq.power import units
from edgeq.power.arithmetic import (
    Asked,
    energy_in,
    floor_w,
    idle_before,
    marked,
    pulses,
    taken,
    unfit,
    windows,
)
from edgeq.power.clocks import drift, shift
from edgeq.power.instruments.rapl import unwrapped
from edgeq.power.trace import Trace, cumulated

GPIO = Asked(2, 2, "gpio")


def trace(**changes: object) -> Trace:
    """1 s idle at 1 mW, then two inferences of 100 ms at 11 mW, 100 ms apart; a sample a millisecond."""
    times = np.arange(0, 1601) / 1000
    high = ((times >= 1.1) & (times < 1.2)) | ((times >= 1.3) & (times < 1.4))
    power = np.where(high, 0.011, 0.001)
    made = Trace(times, cumulated(times, power), "rig", trigger=high, period_s=0.001)
    return replace(made, **changes)


def test_the_trapezoid_rule_over_uneven_times() -> None:
    assert cumulated([0, 1, 3, 3.5], [2, 4, 4, 0]).tolist() == [0, 3, 11, 12]
    assert cumulated([], []).size == 0
    assert cumulated([5], [1]).tolist() == [0]


def test_energy_between_samples() -> None:
    ramp = Trace(np.asarray([0.0, 1, 2]), np.asarray([0.0, 2, 6]), "rig")
    assert energy_in(ramp, (0.5, 1.5)) == 3
    assert energy_in(ramp, (0, 2)) == 6


def test_windows_are_those_of_the_trigger() -> None:
    assert [tuple(round(at, 6) for at in each) for each in pulses(trace())] == [(1.1, 1.2), (1.3, 1.4)]
    assert pulses(trace(trigger=np.zeros(1601, bool))) == ()
    open_end = trace().trigger.copy()
    open_end[-5:] = True
    assert len(pulses(trace(trigger=open_end))) == 2


def test_windows_are_those_of_the_host() -> None:
    marks = ((1.0, "begun"), (1.2, "ended"), (1.3, "begun"), (1.5, "ended"))
    made = trace(marks=marks)
    assert windows(made, "serial") == marked(made) == ((1.0, 1.2), (1.3, 1.5))
    assert windows(made, "host") == ((1.0, 1.5),)
    assert windows(trace(), "host") == ()


def test_energy_an_inference_is_net_of_the_idle_floor() -> None:
    made = trace()
    floor = floor_w(made, idle_before(1.1, 1.0))
    found = taken(made, pulses(made), floor, 2)
    assert found.floor_mw == pytest.approx(1)
    assert found.net_uj == pytest.approx(1000, rel=0.01)  # 10 mW for 100 ms
    assert found.gross_uj == pytest.approx(1100, rel=0.01)
    assert found.run_mw == pytest.approx(11, rel=0.01)
    assert found.window_ms == pytest.approx(100)


def test_the_floor_is_not_moved_by_a_peak() -> None:
    times = np.arange(0, 1001) / 1000
    power = np.where((times > 0.4) & (times < 0.5), 1.0, 0.002)
    assert floor_w(Trace(times, cumulated(times, power), "rig"), (0, 1)) == pytest.approx(0.002)
    assert np.isnan(floor_w(trace(), (0, 0.005)))


def test_a_sound_trace_is_fit() -> None:
    made = trace()
    assert unfit(made, pulses(made), GPIO) == ""


def backwards() -> Trace:
    times = trace().times.copy()
    times[700] = times[690]
    return trace(times=times)


def lossy() -> Trace:
    whole = trace()
    kept = np.ones(1601, bool)
    kept[1150:1160] = False
    return trace(times=whole.times[kept], energy=whole.energy[kept], trigger=whole.trigger[kept])


def saturated() -> Trace:
    beyond = np.zeros(1601, bool)
    beyond[1150] = True
    return trace(beyond=beyond)


def bouncing() -> Trace:
    high = trace().trigger.copy()
    high[1150] = False
    return trace(trigger=high)


def endless() -> Trace:
    energy = trace().energy.copy()
    energy[800:] = np.nan
    return trace(energy=energy)


@pytest.mark.parametrize(("made", "reason"), [
    (Trace(np.zeros(0), np.zeros(0), "rig"), "recorded nothing"),
    (backwards(), "ran backwards or stood still, 1 times"),
    (endless(), "holds what is no number"),
    (trace(drift=0.5), "clock is 50 % slow by the host's"),
    (trace(drift=-0.3), "clock is 30 % fast by the host's"),
    (lossy(), "10 % of the samples were lost"),
    (saturated(), "out of its range"),
    (bouncing(), "3 windows for 2 inferences"),
    (trace(trigger=np.zeros(1601, bool)), "no edge was seen on the trigger"),
    (trace(trigger=~trace().trigger), "high before the run: it is inverted, or floats"),
    (trace(marks=((0.0, "begun"), (1.4, "ended"))), "a run of 0.3 s, the host's clock one of 1.4 s"),
])
def test_what_speaks_against_a_trace(made: Trace, reason: str) -> None:
    assert reason in unfit(made, pulses(made), GPIO)


def test_windows_that_are_missing_too_short_or_cut_off() -> None:
    made = trace()
    assert "only 2 windows for 3 inferences" in unfit(made, pulses(made), Asked(3, 3, "gpio"))
    short = ((1.1, 1.105), (1.3, 1.4))
    assert "a window lasts 5 ms, and its samples lie 1 ms apart: 10 times that" in unfit(made, short, GPIO)
    unsure = replace(made, slack_s=0.02)
    assert "the host's marks are off by up to 20 ms" in unfit(unsure, pulses(made), Asked(2, 2, "serial"))
    assert unfit(unsure, pulses(made), GPIO) == ""  # the windows are the instrument's own
    assert "does not hold the whole run" in unfit(made, ((1.1, 1.2), (1.5, 1.7)), GPIO)


def test_what_is_out_of_range_beside_the_run_does_not_matter() -> None:
    beyond = np.zeros(1601, bool)
    beyond[:1000] = True
    made = trace(beyond=beyond)
    assert unfit(made, pulses(made), GPIO) == ""


def test_the_earliest_arrival_tells_the_clocks_apart() -> None:
    own = np.asarray([0.0, 1, 2, 3])
    begun, slack = shift(own + 100 + np.asarray([0.3, 0.1, 0.2, 0.5]), own)
    assert begun == pytest.approx(100.1)
    assert slack == pytest.approx(0.15)


def test_a_clock_that_runs_at_another_rate_is_told_in_spite_of_stalls() -> None:
    own = np.arange(100) / 100
    stalled = np.where((own > 0.2) & (own < 0.5), 0.4, 0.0)
    assert drift(own + 7 + stalled, own) == pytest.approx(0)
    assert drift(1.5 * own + 7 + stalled, own) == pytest.approx(0.5, rel=0.05)
    assert drift(own[:1], own[:1]) == 0


def test_a_counter_that_begins_anew_goes_on() -> None:
    assert unwrapped([90, 95, 3, 8], 100).tolist() == [0, 5, 13, 18]


def test_units() -> None:
    assert units.quantity("voltage", "3300 mV", "V") == pytest.approx(3.3)
    assert units.quantity("voltage", 3, "V") == 3
    assert units.scale("uA", "A") == units.scale("µA", "A") == 1e-6
    with pytest.raises(ConfigError, match=r"voltage: '3\.3\.1 V' is not a number"):
        units.quantity("voltage", "3.3.1 V", "V")
    with pytest.raises(ConfigError, match="'mA' is no unit of V"):
        units.quantity("voltage", "3 mA", "V")


@pytest.fixture
def estimate() -> Value:
    return value_of("energy_uj", 45.6, "estimated")


def test_what_is_measured_takes_the_place_of_an_estimate_and_says_so(estimate: Value) -> None:
    value = replace(value_of("energy_uj", 50, "measured"), basis="net of 1 mW idle")
    made = metered({"energy_uj": estimate, "macs": estimate}, {"energy_uj": value})
    assert made["energy_uj"].value == 50
    assert made["energy_uj"].basis == "net of 1 mW idle; the estimate was 45.6"
    assert made["macs"] is estimate


def test_an_estimate_stays_where_nothing_is_measured_and_says_why(estimate: Value) -> None:
    made = metered({"energy_uj": estimate}, {"energy_uj": unavailable("energy_uj", "no device")})
    assert (made["energy_uj"].value, made["energy_uj"].source) == (45.6, "estimated")
    assert made["energy_uj"].basis == "not measured: no device"


def test_an_invalid_measurement_is_never_hidden_by_an_estimate(estimate: Value) -> None:
    made = metered({"energy_uj": estimate}, {"energy_uj": invalid("energy_uj", "saturated")})
    assert made["energy_uj"].value is None
    assert made["energy_uj"].invalid
    missing = {"energy_uj": unavailable("energy_uj", "no device")}
    assert metered({}, missing) == missing
