from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from alerting import render, wording
from fleetwatch.records import AlertState, RuleKind, Severity
from tests.fakes.alerts import NOW, make_alert, waiting
from tests.fakes.bot_html import visible_text

EN, HE = wording.catalog("en"), wording.catalog("he")
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6000)
ALERTS = st.builds(
    make_alert,
    st.text(st.sampled_from("0123456789abcdef"), min_size=1, max_size=64),
    rule=ANY_TEXT,
    device_id=ANY_TEXT,
    site=ANY_TEXT,
    summary=ANY_TEXT | st.just("<" * 5000),
    severity=st.sampled_from(Severity),
    kind=st.sampled_from(RuleKind),
    value=st.floats(),
    threshold=st.floats(),
    after=st.none() | st.floats(0, 1e6),
)


def test_console_line_of_a_beginning():
    assert render.console_line(make_alert(), NOW) == (
        "FIRING WARNING temp-north-03: level above 80 °C (site north, now 93.2), started 14:03:05 UTC [alert 1f0c9a]"
    )


def test_console_line_of_an_end():
    alert = make_alert(after=12, value=71.0, severity=Severity.CRITICAL)
    assert render.console_line(alert, NOW) == (
        "RESOLVED CRITICAL temp-north-03: level above 80 °C (site north, now 71), "
        "started 14:03:05 UTC, resolved after 12 s [alert 1f0c9a]"
    )


def test_the_device_is_not_named_twice():
    line = render.console_line(make_alert(summary="temp-north-03 is above 80: 93.2 °C", site=""), NOW)
    assert line == ("FIRING WARNING temp-north-03 is above 80: 93.2 °C, started 14:03:05 UTC [alert 1f0c9a]")


def test_an_empty_summary_falls_back_to_the_fields():
    line = render.console_line(make_alert(summary=" \n"), NOW)
    assert line.startswith("FIRING WARNING temp-north-03 has passed its limit 80: 93.2 (site north), started")


def test_json_line_is_json_and_has_no_nan():
    read = json.loads(render.json_line(make_alert(after=12, value=float("nan"), summary="a\nb")))
    assert (read["alert_id"], read["state"], read["value"]) == ("1f0c9a", "RESOLVED", None)
    assert read["ended_at"] == "2026-03-09T14:03:17+00:00"
    assert "\n" not in render.json_line(make_alert(summary="a\nb"))


def test_telegram_message_of_a_beginning():
    alert = make_alert(severity=Severity.CRITICAL, summary="level > 80 & <rising>")
    assert render.telegram_html(alert, NOW, EN) == (
        "🔴 <b>CRITICAL</b> temp-north-03: level &gt; 80 &amp; &lt;rising&gt;\n"
        "site north · now 93.2\n"
        "started 14:03:05 UTC\n"
        "rule too-hot · alert <code>1f0c9a</code>"
    )


def test_telegram_message_of_an_end():
    assert render.telegram_html(make_alert(after=125), NOW, EN) == (
        "✅ <b>RESOLVED (WARNING)</b> temp-north-03: level above 80 °C\n"
        "site north · now 93.2\n"
        "started 14:03:05 UTC, resolved after 2 min 5 s\n"
        "rule too-hot · alert <code>1f0c9a</code>"
    )


def test_telegram_group_lists_every_alert():
    alerts = [make_alert("a1"), make_alert("b2", device_id="temp-<b>"), make_alert("a1", after=2)]
    text, taken = group(alerts)
    assert taken == 3
    assert text == (
        "🟠 <b>3 WARNING alerts of rule too-hot</b> (2 firing, 1 resolved)\n"
        "🟠 temp-north-03: level above 80 °C (now 93.2), started 14:03:05 UTC <code>a1</code>\n"
        "🟠 temp-&lt;b&gt;: level above 80 °C (now 93.2), started 14:03:05 UTC <code>b2</code>\n"
        "✅ temp-north-03: level above 80 °C (now 93.2), started 14:03:05 UTC, "
        "resolved after 2 s <code>a1</code>"
    )


def test_a_group_of_ends_only_says_so():
    text, _ = group([make_alert("a", after=1), make_alert("b", after=1)])
    assert text.startswith("✅ <b>2 WARNING alerts of rule too-hot</b> (2 resolved)\n")


def test_a_storm_fits_some_thirty_alerts_into_a_message():
    text, taken = group([make_alert(f"{n:032x}") for n in range(500)])
    assert 20 <= taken <= 60
    assert text.count("<code>") == taken


@given(ALERTS, st.sampled_from([EN, HE]))
@settings(max_examples=200)
def test_whatever_the_alert_says_the_message_is_taken_and_has_the_id(alert, say):
    text = render.telegram_html(alert, NOW, say, is_repeat=True)
    assert units(text) <= 4096
    assert f"{say('alert.id')} {alert.alert_id}" in visible_text(text)
    line = render.console_line(alert, NOW)
    assert line.isprintable()
    assert f"[alert {alert.alert_id}]" in line


@given(st.lists(ALERTS, min_size=1, max_size=20), st.sampled_from([EN, HE]))
@settings(max_examples=50)
def test_whatever_the_alerts_say_the_group_is_taken_and_has_each_id(alerts, say):
    text, taken = group(alerts, say)
    assert 1 <= taken <= len(alerts)
    assert units(text) <= 4096
    seen = visible_text(text)
    assert all(alert.alert_id in seen for alert in alerts[:taken])


def test_states_are_told_apart_in_every_text():
    for text_of in (
        lambda alert: render.console_line(alert, NOW),
        lambda alert: render.telegram_html(alert, NOW, EN),
        lambda alert: group([alert, alert])[0],
    ):
        ended = make_alert(after=0)
        assert ended.state is AlertState.RESOLVED
        assert text_of(make_alert()) != text_of(ended)


def group(alerts, say=EN):
    return render.telegram_group_html([waiting(n, alert) for n, alert in enumerate(alerts)], NOW, say)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
