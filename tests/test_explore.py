"""Model Explorer with what each layer loses and costs: the data by itself, and the server for real."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import demo
import pytest
from graphs import operator, packed, tensor, written

from edgeq import explore
from edgeq.errors import ConfigError, ToolError
from edgeq.explore import View, delivered, serve
from edgeq.graph import read, unpack
from edgeq.node_data import graph_id, node_data
from edgeq.ptq.layer_errors import plain

LAYERS = [
    {"index": 0, "operator": "CONV_2D", "name": "a", "shape": [1, 4], "macs": 16, "weight_bytes": 20,
     "sqnr_db": 30.5, "alone_quantized_db": 41.0, "cost": 100.0, "kernel": "dsp", "placed": None,
     "reason": None},
    {"index": 1, "operator": "SOFTMAX", "name": "b", "shape": [1, 4], "macs": 0, "weight_bytes": 0,
     "sqnr_db": None, "alone_quantized_db": None, "cost": 7.0, "kernel": "dsp", "placed": None,
     "reason": "why"}]
DESCRIBED = {"schema": "edgeq-layers/1", "samples": 32,
             "cost": {"metric": "instructions", "source": "simulated"}, "placement": {"source": None},
             "layers": LAYERS}
SPY = """
import sys
def note(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        with open({place!r}, "a") as file:
            file.write(f"{{event}} {{given[1] if event == 'socket.connect' else given[0]}}\\n")
sys.addaudithook(note)
"""
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def values(data: dict, graph: str = "main") -> dict[str, object]:
    return {index: result["value"] for index, result in data[graph]["results"].items()}


def test_a_figure_stands_under_the_index_of_its_operator() -> None:
    found = node_data(DESCRIBED, "main")
    assert {name: values(data) for name, data in found.items()} == {
        "weights": {"0": 20, "1": 0}, "macs": {"0": 16, "1": 0}, "cost": {"0": 100.0, "1": 7.0},
        "sensitivity": {"0": 41.0}, "error": {"0": 30.5}}
    assert [*found][-1] == "error"  # which is what Model Explorer shows
    assert found["cost"]["main"]["name"] == "instructions (simulated)"


def test_where_layers_run_has_a_colour_and_its_source() -> None:
    placed = [{**layer, "placed": place} for layer, place in zip(LAYERS, ("npu", "cpu"), strict=True)]
    data = node_data({**DESCRIBED, "placement": {"source": "estimated"}, "layers": placed}, "g")["placement"]
    assert values(data, "g") == {"0": "npu", "1": "cpu"}
    assert data["g"]["name"] == "placement (estimated)"
    colours = {result["bgColor"] for result in data["g"]["results"].values()}
    assert len(colours) == 2


def test_a_cost_in_macs_is_told_once() -> None:
    assert "cost" not in node_data({**DESCRIBED, "cost": {"metric": "macs", "source": "estimated"}}, "main")


def test_no_markup_or_path_is_in_the_name_of_a_source() -> None:
    cost = {"metric": "<img src=x>/../{}", "source": "simulated"}
    name = node_data({**DESCRIBED, "cost": cost}, "main")["cost"]["main"]["name"]
    assert not set(name) & set("<>/{}=\"'")


def model(folder: Path, name: bytes | None = b"main") -> Path:
    """A .tflite of two operators, its graph with this name."""
    ends = [tensor("in", (1, 4)), tensor("a", (1, 4)), tensor("b", (1, 4))]
    made = unpack(written(ends, [operator("RELU", "in", "a"), operator("TANH", "a", "b")], outputs="b"), "x")
    made.subgraphs[0].name = name
    place = folder / "model.tflite"
    place.write_bytes(packed(made))
    return place


@pytest.mark.parametrize(("name", "found"), [(b"net", "net"), (None, "main"), ("é".encode(), "é")])
def test_a_graph_is_called_what_model_explorer_calls_it(tmp_path, name, found) -> None:
    from ai_edge_model_explorer_adapter import ConvertFlatbufferDirectlyToJson, VisualizeConfig

    place = model(tmp_path, name)
    theirs = json.loads(ConvertFlatbufferDirectlyToJson(VisualizeConfig(), str(place)))
    assert graph_id(place) == found == theirs[0]["subgraphs"][0]["id"]


def build(folder: Path, *targets: str, **changed: object) -> Path:
    """A build that tells of the layers of `model` for these targets."""
    own = [{**layer, "operator": kind, "name": name}
           for layer, kind, name in zip(LAYERS, ("RELU", "TANH"), "ab", strict=True)]
    for target in targets:
        place = folder / "build" / target / "net/details"
        place.mkdir(parents=True)
        (place / "layers.json").write_text(json.dumps({**DESCRIBED, "layers": own, **changed}))
    return folder / "build"


def test_what_a_build_told_of_the_very_model_is_taken(tmp_path) -> None:
    assert delivered(build(tmp_path, "host"), model(tmp_path), "")["samples"] == 32
    several = build(tmp_path, "failed/rpi4", "tflm", samples=7)
    assert delivered(several, model(tmp_path), "rpi4")["samples"] == 7
    assert delivered(several, model(several / "host/net"), "")["samples"] == 32  # it lies beside its own


@pytest.mark.parametrize(("target", "changed", "error"), [
    ("", {}, "2 jobs with the layers of .*: host, tflm"),
    ("cortex-m4", {}, "0 jobs with the layers"),
    ("host", {"layers": LAYERS}, "0 jobs with the layers"),
    ("host", {"schema": "edgeq-layers/2"}, "of the schema edgeq-layers/2"),
    ("host", {"layers": [{"index": 0}]}, "is damaged, or cut short"),
    ("host", {"cost": None}, "is damaged, or cut short"),
])
def test_a_build_that_does_not_tell_of_it_is_refused(tmp_path, target, changed, error) -> None:
    with pytest.raises(ConfigError, match=error):
        delivered(build(tmp_path, "host", "tflm", **changed), model(tmp_path), target)


def test_a_table_cut_short_and_a_folder_that_is_none_are_told(tmp_path) -> None:
    place = build(tmp_path, "host")
    file = place / "host/net/details/layers.json"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="cut short"):
        delivered(place, model(tmp_path), "")
    with pytest.raises(ConfigError, match="there is no build"):
        delivered(tmp_path / "nowhere", model(tmp_path), "")
    with pytest.raises(ConfigError, match="is not what was built"):
        delivered(place, tmp_path / "model.keras", "")


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(explore.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolError) as raised:
        serve(View(model(tmp_path), {}), None, print, browser=False)
    assert raised.value.hint == "pip install 'edgeq[explorer]'"


def test_a_port_that_is_taken_is_told(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken"):
            serve(View(model(tmp_path), {}), port, print, browser=False)


@pytest.mark.parametrize(("event", "given"), [
    ("socket.connect", (None, ("93.184.216.34", 443))), ("socket.getaddrinfo", ("pypi.org", 443, 0, 0, 0))])
def test_nothing_elsewhere_is_reached(event, given) -> None:
    with pytest.raises(OSError, match="stays on this machine"):
        explore._refuse_elsewhere(event, given)


@pytest.mark.parametrize(("event", "given"), [
    ("socket.connect", (None, ("127.0.0.1", 8080))), ("socket.connect", (None, "/run/x.sock")),
    ("socket.getaddrinfo", (b"localhost", 80, 0, 0, 0)), ("open", ("pypi.org", "r", 0))])
def test_this_machine_is(event, given) -> None:
    explore._refuse_elsewhere(event, given)


def test_without_samples_there_are_costs_alone(edgeq, project, tmp_path) -> None:
    place = model(tmp_path)
    ended = edgeq("explore", place, "--output-dir", "data")
    assert ended.returncode == 0
    assert sorted(file.name for file in (project / "data").iterdir()) == ["macs.json", "weights.json"]
    assert ended.stdout.split() == ["data/weights.json", "data/macs.json"]


def test_with_samples_the_model_is_quantized_and_judged(edgeq, project) -> None:
    ended = edgeq("explore", "models/fashion/model.keras", "--samples", "100", "--target", "edgetpu",
                  "--output-dir", "data")
    assert ended.returncode == 0, ended.stderr
    found = {file.stem: json.loads(file.read_text()) for file in (project / "data").iterdir()}
    assert found.keys() == {"error", "sensitivity", "macs", "weights", "placement"}
    assert [*values(found["error"])] == [*map(str, range(14))]
    assert set(values(found["placement"]).values()) == {"npu"}


@pytest.mark.parametrize(("words", "code", "said"), [
    (("nothing.tflite",), 2, "nothing.tflite"),
    (("models/fashion/model.yaml",), 2, "no frontend reads"),
    (("models/fashion/model.keras", "--target", "nobody", "--output-dir", "x"), 2, "nobody"),
    (("models/fashion/model.keras", "--build", "nowhere"), 2, "is not what was built"),
])
def test_a_wrong_call_is_told_in_words(edgeq, words, code, said) -> None:
    ended = edgeq("explore", *words)
    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def fetched(address: str, given: object = None) -> dict:
    """What the server answers, as JSON."""
    content = None if given is None else json.dumps(given).encode()
    asked = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with NO_PROXY.open(asked, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.fixture
def spied(tmp_path) -> tuple[Path, dict[str, str]]:
    """A file of whom a process asks for, or connects to, and the environment that makes it keep it."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy/sitecustomize.py").write_text(SPY.format(place=str(tmp_path / "asked")))
    return tmp_path / "asked", {**os.environ, "PYTHONPATH": str(tmp_path / "spy"),
                                "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


def test_the_server_has_node_data_for_nodes_that_its_graph_has(store, tmp_path, spied) -> None:
    asked, env = spied
    place = store.path(demo.quantized(store)) / "model.tflite"
    rows = [{**LAYERS[0], "index": row.index, "operator": row.operator, "name": row.name}
            for row in plain(read(place))]
    told = tmp_path / "build/host/fashion/details"
    told.mkdir(parents=True)
    (told / "layers.json").write_text(json.dumps({**DESCRIBED, "layers": rows}))
    words = ["env", "--default-signal=INT", sys.executable, "-m", "edgeq.cli", "explore", str(place),
             "--build", str(tmp_path / "build"), "--no-browser"]
    with subprocess.Popen(words, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            page = server.stdout.readline().strip()
            address = page.partition("/?")[0]
            sources = [fetched(f"{address}/api/v1/load_node_data?node_data_index={i}") for i in range(5)]
            graphs = fetched(f"{address}/apipost/v1/send_command", {
                "cmdId": "convert", "extensionId": "builtin_tflite_flatbuffer", "modelPath": str(place),
                "settings": {}, "deleteAfterConversion": False})
            newer = fetched(f"{address}/api/v1/check_new_version")
            with NO_PROXY.open(address) as answer:
                html, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
            time.sleep(1)  # for whatever it might begin to ask on its own
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
    graph = graphs["graphCollections"][0]["graphs"][0]
    labels = {node["id"]: node["label"].upper() for node in graph["nodes"]}
    for source in sources:
        data = json.loads(source["content"])
        assert [*data] == [graph["id"]]
        assert [*values(data, graph["id"])] == [str(row["index"]) for row in rows]
        assert [labels[index] for index in values(data, graph["id"])] == [row["operator"] for row in rows]
    assert server.returncode == 0
    assert newer["version"] == ""  # the page tells of a newer one where this is anything else
    assert "gstatic.com" not in html
    assert "default-src 'self'" in policy
    assert all("127.0.0.1" in line and "', 9)" not in line for line in asked.read_text().splitlines())
