"""report.html in the browser that reviewers have: it loads, sorts, draws, prints, and stays by itself."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from edgeq import tool
from edgeq.errors import ConfigError
from edgeq.html import figures, library
from edgeq.html.front import front
from edgeq.html.page import rendered
from edgeq.html.reading import checked
from edgeq.measurement import Value

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=\"pwned=1\">'\"`${pwned=1}{{7*7}}-->]]>"
RUN = {"id": "20261122T022031Z-00c0ffee", "started": "2026-11-22T02:20:31Z", "seconds": 12.5,
       "project": "wearable", "commit": "0123456789" * 4, "branch": "main", "dirty": False}


def value(number: float | None, unit: str, source: str, **more: Any) -> dict[str, Any]:
    return {"value": number, "unit": unit, "source": source, **more}


def verdict(metric: str, limit: float, found: float, source: str) -> dict[str, Any]:
    passed = found <= limit
    return {"metric": metric, "max": limit, "value": found, "source": source, "passed": passed,
            "reason": None if passed else "failed", "explanation": None if passed else f"wanted <= {limit}"}


def rung(recipe: str, drop: float, size: float, **more: Any) -> dict[str, Any]:
    metrics = {
        "accuracy": value(0.91 - drop, "ratio", "simulated", n=2000, interval=[0.89 - drop, 0.93 - drop]),
        "baseline_accuracy": value(0.91, "ratio", "simulated", n=2000),
        "accuracy_drop": value(drop, "ratio", "simulated", n=2000, p_value=0.7, discordant=[3, 5]),
        "model_bytes": value(size, "bytes", "measured"),
        "latency_ms": value(size / 5000, "ms", "estimated", basis="clock of a data sheet"),
        "energy_uj": value(None, "uj", "unavailable", reason="no meter"),
    }
    verdicts = [verdict("accuracy_drop", 0.01, drop, "simulated"),
                verdict("model_bytes", 131072, size, "measured")]
    state = "passed" if all(each["passed"] for each in verdicts) else "failed"
    return {"recipe": recipe, "options": {}, "state": state, "reason": None, "notes": [], "metrics": metrics,
            "verdicts": verdicts, "digests": {"program": "ab" * 32}, **more}


def result(target: str, *rungs: dict[str, Any], model: str = "fashion", **more: Any) -> dict[str, Any]:
    best = next((each for each in rungs if each["state"] == "passed"), rungs[-1])
    return {"model": model, "target": target, "passed": best["state"] == "passed", "error": None,
            "recipe": best["recipe"], "options": {}, "evaluation": "evaluation.npz", "notice": None,
            "warnings": [], "audit": AUDIT, "identity": {"data": {"source": "cd" * 32},
                                                         "runner": {"name": "host"}},
            "metrics": best["metrics"], "verdicts": best["verdicts"], "artifacts": [],
            "rungs": list(rungs), **more}


def report(*results: dict[str, Any]) -> dict[str, Any]:
    return {"schema": "edgeq-report/1", "edgeq": "0.1.0", "passed": all(r["passed"] for r in results),
            "host": {"machine": "x86_64"}, "tools": {"numpy": "2.4"}, "results": list(results)}


AUDIT = {"calibration": 200, "distinct": 199, "constant": 0, "evaluation": 2000, "overlap": 3,
         "missing_classes": [{"class": 7, "evaluation": 9, "expected": 2}], "looked_at": 200,
         "activations": 15, "saturated": [{"tensor": "net/relu", "outside": 0.02, "samples": 0.5}]}
LAYERS = {"schema": "edgeq-layers/1", "samples": 100,
          "cost": {"metric": "instructions", "source": "simulated"},
          "layers": [{"index": index, "operator": "CONV_2D", "name": f"net/conv_{index};fused", "macs": 900,
                      "shape": [1, 8, 8, 4], "sqnr_db": 40.0 - index, "alone_quantized_db": 50.0 + index,
                      "weight_bytes": 64, "cost": 1000 * (index + 1), "kernel": "dsp",
                      "placed": "cpu" if index == 4 else "npu", "reason": "too wide" if index == 4 else None}
                     for index in range(5)]}
ARENA = {"schema": "edgeq-arena/1", "arena_bytes": 300, "steps": 2, "buffers": [
    {"name": "input", "offset": 0, "bytes": 100, "first": 0, "last": 0},
    {"name": "output of 0 CONV_2D", "offset": 100, "bytes": 200, "first": 0, "last": 1},
    {"name": "scratch of 1 CONV_2D", "offset": 0, "bytes": 64, "first": 1, "last": 1}]}
TRENDS = [{"model": "fashion", "target": "cortex-m4", "metric": metric, "points": [
    {"run": f"r{index}", "started": f"2026-11-0{index + 1}T00:00:00Z", "commit": "01" * 20, "branch": "main",
     "value": start + step * index, "unit": "ratio", "source": "simulated", "interval": None,
     "passed": index != 2} for index in range(5)]}
    for metric, start, step in (("accuracy", 0.9, 0.001), ("accuracy_drop", 0.01, 0.0))]


def detail(folder: Path, name: str, content: Any) -> dict[str, Any]:
    """Write a detail of a job, and describe it as report.json does."""
    text = json.dumps(content).encode()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text)
    return {"path": name, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def content(folder: Path) -> dict[str, Any]:
    """Three jobs: one that passes at its third rung, one that fails, one that a tool stopped."""
    files = [detail(folder, "cortex-m4/fashion/details/layers.json", LAYERS),
             detail(folder, "cortex-m4/fashion/details/arena.json", ARENA)]
    skipped = {"recipe": "qat-int8", "state": "skipped", "reason": "no training data"}
    stopped = {**result("zulu", rung("static-int8", 0.02, 9e4)), "rungs": [], "metrics": {}, "verdicts": [],
               "recipe": None, "error": {"kind": "tool", "message": "vela was killed", "hint": "install it"}}
    return report(
        result("cortex-m4", skipped, rung("static-int8", 0.05, 90000), rung("equalized-int8", 0.004, 91000),
               artifacts=files, notice="not compiled: no compiler", warnings=["few samples"]),
        result("alpha", rung("static-int8", 0.08, 250000)), stopped)


@pytest.fixture(scope="module")
def page(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "report.html").write_text(rendered(content, RUN, folder, TRENDS), encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium, without a screen; its driver is the one on the PATH, and none is fetched."""
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = shutil.which("chromedriver")
    assert driver, "chromedriver is not on the PATH: apt-get install chromium-driver"
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    found.set_script_timeout(60)
    yield found
    found.quit()


@pytest.fixture
def opened(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    return load(browser, page)


def load(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    return browser


def wait(browser: webdriver.Chrome, script: str) -> Any:
    """What `script` gives, once it gives something."""
    return WebDriverWait(browser, 30).until(lambda it: it.execute_script(script))


def look(browser: webdriver.Chrome, job: int) -> None:
    """Open a job, look at each of its plots, and wait until they are drawn."""
    browser.execute_script(f"location.hash = '#job-{job}'")
    wait(browser, f"return document.querySelector('#job-{job} .body')")
    for index in range(len(browser.find_elements(By.CSS_SELECTOR, f"#job-{job} .plot"))):
        plot = f"document.querySelectorAll('#job-{job} .plot')[{index}]"
        browser.execute_script(f"{plot}.scrollIntoView()")
        wait(browser, f"return {plot}.querySelector('svg')")


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: webdriver.Chrome) -> list[str]:
    """The addresses that the page asked for, of whatever kind."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events
            if event["method"] == "Network.requestWillBeSent"]


def column(browser: webdriver.Chrome, index: int) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('#jobs tbody tr')].map("
                                  "row => row.cells[arguments[0]].innerText.split('\\n')[0].trim())", index)


# In the browser

DRAWN = "return [...document.querySelectorAll('[data-drawn]')].map(plot => plot.dataset.kind)"
SORTS = "return [...document.querySelectorAll('#jobs th[aria-sort]')].map(header => header.ariaSort)"


def test_the_page_loads_draws_and_asks_for_nothing_else(opened, page):
    wait(opened, "return document.documentElement.dataset.ready")
    opened.execute_script("document.querySelector('[data-kind=tradeoff]').scrollIntoView()")
    wait(opened, "return document.querySelectorAll('[data-kind=tradeoff] svg').length >= 2")
    look(opened, 0)
    kinds = opened.execute_script(DRAWN)
    assert set(kinds) == {"tradeoff", "layers", "arena", "trends"}
    assert len(opened.find_elements(By.CSS_SELECTOR, "[data-kind=layers] svg path")) > 15
    assert complaints(opened) == []
    assert set(requests(opened)) <= {page.as_uri(), "data:,"}


def test_the_policy_of_the_page_forbids_every_request_and_every_other_script(opened):
    tried = opened.execute_async_script("""
        const done = arguments[0], script = document.createElement("script");
        script.textContent = "window.pwned = 1";
        document.head.append(script);
        fetch("https://example.org/").then(() => done("fetched"), () => done(window.pwned ?? "refused"));""")
    assert tried == "refused"


def test_a_table_sorts_by_mouse_and_keyboard_and_says_so(opened):
    assert column(opened, 0) == ["cortex-m4", "alpha", "zulu"]
    target, *_ = headers = opened.find_elements(By.CSS_SELECTOR, "#jobs th button")
    target.click()
    assert column(opened, 0) == ["alpha", "cortex-m4", "zulu"]
    assert opened.execute_script("return arguments[0].closest('th').ariaSort", target) == "ascending"
    target.send_keys(Keys.ENTER)
    assert column(opened, 0) == ["zulu", "cortex-m4", "alpha"]
    size = next(header for header in headers if header.text == "model size")
    size.click()
    assert column(opened, 0) == ["cortex-m4", "alpha", "zulu"]  # what has no figure comes last
    size.click()
    assert column(opened, 0) == ["alpha", "cortex-m4", "zulu"]
    sorts = opened.execute_script(SORTS)
    assert sorts.count("descending") == 1
    assert sorts.count("none") == len(sorts) - 1


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_scrolls_the_page_one_way_only(opened, width):
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    try:
        for job in range(3):
            look(opened, job)
        opened.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        sizes = opened.execute_script("return [...document.querySelectorAll('.plot svg')].map("
                                      "e => e.getBoundingClientRect().right)")
        assert sizes
        assert max(sizes) <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CONTRAST = """
const light = color => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (!c.endsWith(", 0)")) return c; } return "rgb(255, 255, 255)"; };
const poor = [];
for (const e of document.querySelectorAll("body *:not(script):not(noscript):not(svg *)")) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push([e.className || e.tagName, ratio, e.textContent.slice(0, 30)]);
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(opened, scheme):
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia",
                           {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        for job in range(3):
            look(opened, job)
        opened.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
        back = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") is (scheme == "light")
        assert opened.execute_script(CONTRAST) == []
        axis = opened.execute_script("return getComputedStyle(document.querySelector("
                                     "'[data-kind=layers] svg .role-axis-label text')).fill")
        ink = opened.execute_script("return getComputedStyle(document.querySelector('.sub')).color")
        assert axis == ink  # the plots follow, too, without being drawn again
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_prints_with_everything_open(opened):
    printed = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 3
    assert len(opened.find_elements(By.CSS_SELECTOR, "details.job .body")) == 3  # filled to be printed
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    wide = opened.execute_script("document.body.style.width = '690px';"
                                 "const wide = document.body.scrollWidth;"
                                 "document.body.style.width = ''; return wide")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert wide <= 690  # an A4 page without its margins
    kinds = opened.execute_script(DRAWN)
    assert set(kinds) == {"tradeoff", "layers", "arena", "trends"}
    assert complaints(opened) == []


def test_a_link_opens_its_job(opened):
    opened.execute_script("document.querySelectorAll('details').forEach(e => e.open = false)")
    opened.find_element(By.CSS_SELECTOR, "#jobs a[href='#job-1']").click()
    wait(opened, "return document.getElementById('job-1').open && document.querySelector('#job-1 .body')")


def test_an_estimate_looks_different_and_not_by_its_colour_alone(opened):
    measured, estimated = (opened.execute_script(
        "const s = getComputedStyle(document.querySelector(arguments[0]));"
        "return [s.fontStyle, s.borderBottomStyle, document.querySelector(arguments[0]).innerText[0]]",
        f"#jobs .fig.{source}") for source in ("measured", "estimated"))
    assert measured[:2] == ["normal", "none"]
    assert estimated == ["italic", "dashed", "≈"]


def test_without_scripts_every_figure_is_there(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        load(browser, page)
        text = browser.find_element(By.TAG_NAME, "body").get_attribute("textContent")
        for said in ("net/conv_0", "scratch of 1 CONV_2D", "vela was killed", "3 evaluation samples among"):
            assert said in text
        assert len(browser.find_elements(By.CSS_SELECTOR, "details.job .body table")) > 5
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def hostile(folder: Path) -> dict[str, Any]:
    """A report in which everything that has a name has a hostile one."""
    layers, arena = copy.deepcopy(LAYERS), copy.deepcopy(ARENA)
    for each in layers["layers"]:
        each.update(dict.fromkeys(("operator", "name", "kernel", "placed", "reason"), HOSTILE))
    layers["cost"] = {"metric": HOSTILE, "source": HOSTILE}
    for each in arena["buffers"]:
        each["name"] = HOSTILE
    lint = {"source": HOSTILE, "operators": [
        {"index": 0, "name": HOSTILE, "mapped": False, "reason": HOSTILE, "hint": HOSTILE}]}
    files = [detail(folder, f"evil/{name}", each) for name, each in (
        ("details/layers.json", layers), ("details/arena.json", arena), ("lint.json", lint))]
    bad = rung(HOSTILE, 0.5, 9e9, reason=HOSTILE, notes=[HOSTILE], options={HOSTILE: HOSTILE})
    bad["metrics"] |= {f"accuracy[{HOSTILE}]": value(0.5, "ratio", "simulated", basis=HOSTILE, rig=HOSTILE),
                       HOSTILE: value(1, "value", "measured", aggregation=HOSTILE, group=HOSTILE)}
    bad["verdicts"].append({"metric": HOSTILE, "passed": False, "source": HOSTILE, "reason": HOSTILE,
                            "explanation": HOSTILE})
    return report(
        result(HOSTILE, bad, model=HOSTILE, artifacts=files, notice=HOSTILE, warnings=[HOSTILE],
               identity={"runner": {HOSTILE: HOSTILE}, "meters": [{HOSTILE: {HOSTILE: HOSTILE}}]},
               audit={"calibration": 1, "not_run": HOSTILE, "missing_classes": [{"class": HOSTILE}],
                      "saturated": [{"tensor": HOSTILE, "outside": 1, "samples": 1}]},
               error={"kind": HOSTILE, "message": HOSTILE, "hint": HOSTILE}),
        result("b", rung("x", 0.5, 9), model="b")) | {"tools": {HOSTILE: HOSTILE}, "edgeq": HOSTILE}


def test_hostile_names_are_text(browser, tmp_path):
    run = dict.fromkeys(("id", "started", "project", "commit", "branch"), HOSTILE)
    trends = [{**TRENDS[0], "model": HOSTILE, "target": HOSTILE}]
    trends[0]["points"] = [{**point, "run": HOSTILE + point["run"], "commit": HOSTILE, "branch": HOSTILE,
                            "source": HOSTILE} for point in trends[0]["points"]]
    page = tmp_path / "report.html"
    page.write_text(rendered(hostile(tmp_path), run, tmp_path, trends), encoding="utf-8")
    load(browser, page)
    look(browser, 0)
    browser.execute_script("document.querySelector('[data-kind=tradeoff]').scrollIntoView()")
    wait(browser, "return document.querySelector('[data-kind=tradeoff] svg')")
    browser.execute_script("document.querySelectorAll('svg path').forEach(e => e.dispatchEvent("
                           "new MouseEvent('mousemove', {bubbles: true, clientX: 5, clientY: 5})))")
    assert browser.execute_script("return window.pwned") is None
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert len(browser.find_elements(By.CSS_SELECTOR, "script:not([type])")) == 2  # ours, and the library
    assert browser.find_element(By.CSS_SELECTOR, "#jobs tbody a").text == HOSTILE
    assert complaints(browser) == []
    assert set(requests(browser)) <= {page.as_uri(), "data:,"}


# Made of what


def test_a_report_of_another_schema_or_cut_short_is_refused(folder, content):
    for wrong, why in (({"schema": "edgeq-report/2"}, "edgeq-report/2"), ({}, "of schema None"),
                       ({**content, "results": None}, "results"),
                       ({**content, "results": [{"model": "m"}]}, "target"),
                       (report({**content["results"][0], "metrics": {"a": {}}}), "metrics")):
        with pytest.raises(ConfigError, match=why) as error:
            rendered(wrong, RUN, folder, [])
        assert error.value.hint
    with pytest.raises(ConfigError, match="record of the run"):
        rendered(content, {"started": 5}, folder, [])


def test_a_report_of_the_first_days_is_shown_with_what_it_has(folder):
    page = rendered({"schema": "edgeq-report/1", "passed": False, "results": [
        {"model": "m", "target": "t", "passed": False}]}, {}, folder, [])
    assert "1 of 1 job failed" in page
    empty = rendered({"schema": "edgeq-report/1", "passed": True, "results": []}, {}, folder, [])
    assert "<title>No jobs" in empty
    assert "The report has no jobs" in empty


def test_details_that_are_not_the_reports_own_are_left_out_and_named(folder, content, tmp_path):
    shutil.copytree(folder, tmp_path / "build")
    place = tmp_path / "build/cortex-m4/fashion/details"
    (place / "layers.json").write_text("{}", encoding="utf-8")
    (place / "arena.json").unlink()
    page = rendered(content, RUN, tmp_path / "build", [])
    assert "layers.json is left out: it is not the file that the report was written with" in page
    assert "arena.json is left out" in page
    assert 'data-kind="layers"' not in page


@pytest.mark.parametrize("path", ["../secret/details/arena.json", "/etc/details/arena.json"])
def test_no_detail_is_read_from_elsewhere(tmp_path, path):
    file = {**detail(tmp_path, "secret/details/arena.json", ARENA), "path": path}
    one = report(result("t", rung("x", 0.0, 9), artifacts=[file]))
    (tmp_path / "build").mkdir()
    assert "lies outside the build" in rendered(one, {}, tmp_path / "build", [])


def test_half_of_a_surrogate_pair_and_control_characters_are_written_all_the_same(folder):
    page = rendered(report(result("t\ud800\x00\x1b[31m", rung("x", 0.0, 9))), {}, folder, [])
    assert "t?" in page.encode("utf-8").decode("utf-8")


def test_a_figure_beyond_all_numbers_is_none(folder):
    wild = rung("x", 0.0, 9)
    wild["metrics"]["model_bytes"]["value"] = float("inf")
    page = rendered(report(result("t", wild)), {}, folder, [])
    assert "Infinity" not in page.partition('id="library"')[0]


def test_without_the_plotting_library_the_page_has_its_tables_and_says_so(folder, content, monkeypatch):
    monkeypatch.setattr(library, "PACKAGE", "no-such-package")
    page = rendered(content, RUN, folder, TRENDS)
    assert "pip install vl-convert-python" in page
    assert len(page) < 100_000


def test_the_library_is_bundled_once_and_kept(monkeypatch, tmp_path):
    kept = library.plotting()
    assert "vegaEmbed" in kept
    assert "</script" not in kept.lower()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "_bundled", lambda: "window.vegaEmbed = 1;")
    assert [library.plotting(), library.plotting()] == ["window.vegaEmbed = 1;"] * 2
    [file] = (tool.cache() / "javascript").iterdir()
    file.write_text("window.kept = 1;", encoding="utf-8")
    assert library.plotting() == "window.kept = 1;"


# Arithmetic


@pytest.mark.parametrize(("points", "kept"), [
    ([], []),
    ([(2, 0.5), (1, 0.4)], [1, 0]),
    ([(1, 0.5), (2, 0.5)], [0]),               # no better, and dearer
    ([(1, 0.4), (1, 0.5)], [1]),               # as cheap, and better
    ([(1, 0.5), (1, 0.5), (3, 0.9)], [0, 1, 2]),
    ([(1, 0.9), (2, 0.5), (3, 0.95)], [0, 2]),
])
def test_the_front_has_what_nothing_beats(points, kept):
    assert front(points) == kept


@pytest.mark.parametrize(("metric", "number", "unit", "said"), [
    ("accuracy", 0.9155, "ratio", "91.55 %"), ("accuracy_drop", -0.001, "ratio", "−0.10 pp"),
    ("model_bytes", 69192, "bytes", "67.57 KiB"), ("model_bytes", 512, "bytes", "512 B"),
    ("instructions", 977256, "count", "977.3 k"), ("instructions", 1690, "count", "1690 "),
    ("latency_ms", 12.541452, "ms", "12.54 ms"), ("latency_ms", 0.0123, "ms", "12.3 µs"),
    ("energy_uj", 652.1, "uj", "652.1 µJ"), ("energy_uj", 20236, "uj", "20.24 mJ"),
    ("sqnr_db", 37.087, "db", "37.1 dB"), ("mse", 1.68e-05, "value", "1.68e-05 "),
    ("accuracy", None, "ratio", "— "),
])
def test_a_figure_has_its_unit(metric, number, unit, said):
    found = figures.shown(metric, number, unit)
    assert f"{found.number} {found.unit}" == said


def test_what_a_figure_stands_on_is_told_with_its_rig():
    told = figures.stands_on(Value(1.0, "uj", "measured", rig="PPK2 C0FFEE12 at 3.3 V", basis="idle 2 mW"))
    assert told == "after: idle 2 mW; rig: PPK2 C0FFEE12 at 3.3 V"


def test_within_a_schema_fields_are_only_added(content):
    more = {**content, "new": 1, "results": [{**each, "new": {}} for each in content["results"]]}
    assert checked(more) == checked(content)


# The command line


def test_a_build_leaves_its_page(edgeq, project):
    ended = edgeq("build", "--target", "host")
    assert ended.returncode == 0, ended.stderr
    page = (project / "build/report.html").read_text(encoding="utf-8")
    run = json.loads((project / "build/run.json").read_text(encoding="utf-8"))["id"]
    assert "All 1 job passed" in page
    assert run in page
    assert 'data-kind="layers"' in page


def test_the_page_is_rendered_again_from_its_folder(edgeq, folder, content, project):
    shutil.copytree(folder, project / "again", ignore=shutil.ignore_patterns("*.html"))
    (project / "again/report.json").write_text(json.dumps(content), encoding="utf-8")
    ended = edgeq("report", "again", "--history", "none")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "2 of 3 jobs failed" in (project / "again/report.html").read_text(encoding="utf-8")

    (project / "again/report.json").write_text(json.dumps(content)[:-20], encoding="utf-8")
    for folder_, why in (("again", "cut short"), ("nowhere", "cannot be read")):
        ended = edgeq("report", folder_, "--history", "none")
        assert ended.returncode == 2
        assert why in ended.stderr
        assert "Traceback" not in ended.stderr
