"""A model in Model Explorer, with what each of its layers loses, costs, and where it runs as node data.

https://github.com/google-ai-edge/model-explorer, the extra `explorer`. The one rule: no request leaves this
machine, neither the server's (which would ask for newer versions of itself) nor the page's (for fonts).
"""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from edgeq import layers, node_data
from edgeq.errors import ConfigError, ToolError
from edgeq.graph import read
from edgeq.lint import as_json as lint_as_json
from edgeq.lint import lint
from edgeq.node_data import NodeData
from edgeq.probing import Question, Tell, has_samples, losses
from edgeq.ptq.layer_errors import Errors, plain
from edgeq.quantization import DETAILS
from edgeq.target import Target, find

HOST, PORT = "127.0.0.1", 8080
LOCAL = ("127.0.0.1", "::1", "localhost", "")
READER = "builtin_tflite_flatbuffer"  # the adapter that numbers nodes as the file does its operators
PATIENCE_S = 60.0
FONTS = b"https://fonts.gstatic.com/s/googlesanstext/v25/"  # most of what is there lies beside the page, too
HINT = b'<link rel="preconnect" href="https://fonts.gstatic.com" crossorigin>'
POLICY = ("default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
          "style-src 'self' 'unsafe-inline'")
INSTALL = "pip install 'edgeq[explorer]'"


@dataclass(frozen=True)
class View:
    """What is shown: the .tflite at `model`, and node data by a name for a file."""

    model: Path
    data: Mapping[str, NodeData]

    def save(self, folder: Path) -> list[Path]:
        """Write the node data into `folder`, a file each, to be loaded by hand."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in self.data.items():
                (folder / f"{name}.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror}",
                              "name another with --output-dir") from error
        return [folder / f"{name}.json" for name in self.data]


@dataclass(frozen=True)
class Wanted:
    """Which model is looked at; `target` names whose rules place its operators, or which job of `build`."""

    question: Question
    target: str = ""
    build: Path | None = None


def view(wanted: Wanted, tell: Tell) -> View:
    """What there is to show of a model.

    With a build: what that told of the layers of the very same model. Without: of a model that there are
    samples for, quantized as static-int8 does it, errors and multiply-accumulates; of any other .tflite these
    alone. Raises ConfigError where there is no such model, target, or job.
    """
    model = wanted.question.model
    if wanted.build:
        described = delivered(wanted.build, model, wanted.target)
        return View(model, node_data.node_data(described, node_data.graph_id(model)))
    target = _ruled(wanted) if wanted.target else None
    if model.suffix == ".tflite" and not has_samples(wanted.question):
        errors = Errors(0, tuple(plain(read(model))))
    else:
        model, errors = losses(wanted.question, target.quantization if target else {}, tell)
    described = _told(errors, model, target)
    return View(model, node_data.node_data(described, node_data.graph_id(model)))


def delivered(build: Path, model: Path, target: str) -> Mapping[str, Any]:
    """What a build told of the layers of the .tflite at `model`; ConfigError where no job has just these."""
    if model.suffix != ".tflite":
        raise ConfigError(f"{model} is not what was built",
                          f"name a .tflite, as in {build}/host/MODEL/model.tflite")
    found = _with_layers(model, build, target)
    ours = [place for place in found if model.resolve().is_relative_to(place.parents[1].resolve())]
    if ours or len(found) == 1:
        return found[[*ours, *found][0]]
    names = ", ".join(sorted(place.parents[2].name for place in found)) or "none"
    raise ConfigError(f"{build} has {len(found)} jobs with the layers of {model}: {names}",
                      "name one with --target, or the folder of a build of this very model")


def _with_layers(model: Path, build: Path, target: str) -> dict[Path, Mapping[str, Any]]:
    """What `build` told of the layers of those jobs whose operators are just those of `model`."""
    rows = [(row.operator, row.name) for row in plain(read(model))]
    return {place: told for place, told in _described(build, target) if _names(told) == rows}


def serve(shown: View, port: int | None, started: Callable[[str], None], *, browser: bool) -> None:
    """Show it at a port of this machine until Ctrl-C; `started` hears its address, and a `browser` opens it.

    Raises ToolError where Model Explorer is not installed, ConfigError where the port is taken.
    """
    if importlib.util.find_spec("model_explorer") is None:
        raise ToolError("Model Explorer is not installed", INSTALL)
    place = _port(port)
    with _without("torch"):  # a reader of .tflite files has no use for it, and loading it takes seconds
        import model_explorer
        from model_explorer import server

    config = model_explorer.config()
    config.add_model_from_path(str(shown.model.absolute()), READER)
    for data in shown.data.values():
        for graph in data.values():
            config.add_node_data(graph["name"], json.dumps(data))
    _keep_local()
    address = f"http://{HOST}:{place}"
    page = f"{address}/?data={config.to_url_param_value()}"
    threading.Thread(target=_when_ready, args=(address, page, started, browser), daemon=True).start()
    server.print = _nothing  # what it prints of itself would stand among our own results
    server._check_new_version = _nothing_newer  # it asks PyPI and GitHub
    server.start(host=HOST, port=place, config=config, no_open_in_browser=True, skip_health_check=True)


def _ruled(wanted: Wanted) -> Target:
    """The target that is asked for; ConfigError where there is no such, or it has no rules."""
    pipeline = wanted.question.pipeline
    target = find(pipeline.parent if pipeline else Path(), wanted.target)
    if target.rules is None:
        raise ConfigError(f"target {wanted.target} has no operator rules",
                          "name a build for it with --build, or leave out --target")
    return target


def _told(errors: Errors, model: Path, target: Target | None) -> Mapping[str, Any]:
    """The layers of a model that was not built: multiply-accumulates, and where a target's rules place it."""
    places: Mapping[int, layers.Place] = {}
    if target and target.rules:
        places = layers.linted(lint_as_json(lint(read(model), target.rules), model.name, target.name))
    return layers.as_json(errors.samples, errors.layers, (layers.by_macs(errors.layers), places, {}))


def _described(build: Path, target: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """What the jobs in a build tell of layers, and where; those of a `target` alone where it is named."""
    if not build.is_dir():
        raise ConfigError(f"there is no build at {build}", "name the folder that `edgeq build` wrote")
    for above in (build, build / "failed"):
        for place in sorted(above.glob(f"{target or '*'}/*/{DETAILS}/{layers.FILE}")):
            yield place, _read(place)


def _names(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(layer["operator"], layer["name"]) for layer in described["layers"]]


def _read(place: Path) -> Mapping[str, Any]:
    try:
        described: Mapping[str, Any] = json.loads(place.read_bytes())
        if described["schema"] != layers.SCHEMA:
            raise ConfigError(f"{place} is of the schema {described['schema']}, and this edgeq reads "
                              f"{layers.SCHEMA}", "build again")
        node_data.node_data(described, "")
        _names(described)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(f"{place} is damaged, or cut short", "build again") from error
    return described


def _port(asked: int | None) -> int:
    """A free port: the one asked for, else the usual one, else any."""
    for port in (asked,) if asked else (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise ConfigError(f"port {asked} is taken", "name another with --port, or none")


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let imports in the block do without `module`, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as importlib has it: there is none
    try:
        yield
    finally:
        del sys.modules[module]


def _nothing(*_: object, **__: object) -> None:
    """In place of `print`."""


def _nothing_newer(*_: object) -> dict[str, str]:
    """The answer that the page takes for: there is no newer version."""
    return dict.fromkeys(("version", "runningVersion", "releaseUrl", "desktopAppUrl"), "")


def _keep_local() -> None:
    """Let this process reach this machine alone, and the pages that it serves itself alone."""
    import flask

    sys.addaudithook(_refuse_elsewhere)
    flask.request_finished.connect(_confine)


def _refuse_elsewhere(event: str, given: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = given[1] if event == "socket.connect" else given
        host = address[0] if isinstance(address, tuple) else ""  # a path is a socket of this machine
        if (host.decode() if isinstance(host, bytes) else host or "") not in LOCAL:
            raise OSError(f"{host} is elsewhere, and `edgeq explore` stays on this machine")


def _confine(_: object, response: Any, **__: object) -> None:
    """A page of Model Explorer, told to load nothing from elsewhere."""
    response.headers["Content-Security-Policy"] = POLICY
    if response.mimetype == "text/html" and response.status_code == 200:
        response.direct_passthrough = False
        response.set_data(response.get_data().replace(FONTS, b"/static_files/").replace(HINT, b""))


def _when_ready(address: str, page: str, started: Callable[[str], None], browser: bool) -> None:  # noqa: FBT001
    """Say where the page is once the server answers, and open it."""
    end = time.monotonic() + PATIENCE_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end:
        try:
            with opener.open(f"{address}/check_health"):
                break
        except URLError:
            time.sleep(0.1)
    started(page)
    if browser:
        webbrowser.open_new_tab(page)
