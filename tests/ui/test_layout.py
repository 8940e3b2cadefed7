"""The window and its server: all tabs, this machine only, nothing from outside."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from tests.ui.fake_run import write_run
from ui import layout, server, sidebar, text, theme
from ui.state import TABS

ROOT = Path(__file__).parents[2]

START = """
import sys
from ui import layout
layout.launch(runs_dir=sys.argv[1], port=int(sys.argv[2]), inbrowser=False)
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    """The app, laid out but not served."""
    return layout.build(str(tmp_path_factory.mktemp("none")))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, served by a process of its own on a port that was busy at first."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder, ends="stopped", upto=12)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        asked = busy.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(folder), str(asked)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = next((line for line in process.stderr if "Distill Studio is at" in line), "")
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    assert found, said
    assert int(found[1]) > asked
    assert f"port {asked} is taken" in said
    yield found[0]
    process.terminate()
    process.wait(timeout=30)
    process.stderr.close()


def get(url: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(url.rstrip("/") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = {key.lower(): value for key, value in answer.headers.items()}
            return answer.status, answer.read().decode(), told
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", {}


def test_forecasts_learn_from_the_app_s_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def laid_out(folder: str) -> gr.Blocks:
        raise RuntimeError(folder)

    monkeypatch.setenv("DISTILL_RUNS_DIR", "elsewhere")
    monkeypatch.setattr(layout, "build", laid_out)
    with pytest.raises(RuntimeError, match=str(tmp_path)):
        layout.launch(runs_dir=str(tmp_path), inbrowser=False)
    assert os.environ["DISTILL_RUNS_DIR"] == str(tmp_path)


def test_every_tab_is_there_and_build_is_open(demo: gr.Blocks) -> None:
    tabs = [block for block in demo.blocks.values() if isinstance(block, gr.Tab)]
    ours = [tab for tab in tabs if tab.id in TABS]
    assert [(tab.id, tab.label) for tab in ours] == list(text.TAB_LABELS.items())
    assert all(tab.children for tab in ours)
    container = next(b for b in demo.blocks.values() if getattr(b, "elem_id", "") == "ds-tabs")
    assert container.selected == "build"


def test_a_page_opens_where_it_matters(tmp_path: Path) -> None:
    assert layout.first_tab(str(tmp_path)) == ""
    write_run(tmp_path, ends="finished", steps=4)
    assert layout.first_tab(str(tmp_path)) == ""
    write_run(tmp_path, ends="running", upto=4)
    assert layout.first_tab(str(tmp_path)) == "train"


def test_drafts_outlive_the_page_and_the_app(tmp_path: Path) -> None:
    """The browser finds them again only under the same key and secret."""

    def stores() -> set[tuple[str, str]]:
        blocks = layout.build(str(tmp_path)).blocks.values()
        return {(b.storage_key, b.secret) for b in blocks if isinstance(b, gr.BrowserState)}

    first = stores()
    assert {key for key, _ in first} >= {"ds-recipe", "ds-run"}
    assert first == stores()


def test_no_timer_makes_events_and_the_pulses_never_queue(demo: gr.Blocks) -> None:
    """An event costs the page more than anything that it shows: none is made without a reason."""
    blocks = demo.blocks.values()
    assert not [block for block in blocks if isinstance(block, gr.Timer)]
    pulse = next(block for block in blocks if getattr(block, "elem_id", "") == "ds-pulse")
    heard = {
        event: fn for fn in demo.fns.values() for target, event in fn.targets if target == pulse._id
    }
    assert set(heard) == {"advisor", "compare", "runs", "train"}
    for listener in heard.values():
        assert listener.queue is False
        assert listener.show_progress == "hidden"
        assert listener.trigger_mode == "always_last", "the last change would be lost"


# --- the server ---------------------------------------------------------------------------------


def test_a_foreign_host_is_refused(url: str) -> None:
    assert get(url, "/")[0] == 200
    assert get(url, "/", Host="evil.example")[0] == 400
    assert get(url, "/", Host="evil.example:17860")[0] == 400


def test_the_page_names_no_other_machine_to_load_from(url: str) -> None:
    _, page, _ = get(url, "/")
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']([^"']+)""", page)
    assert loaded
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []
    config = get(url, "/config")[1]
    assert json.loads(config)["stylesheets"] == []
    assert re.findall(r"""(?:src=\\?["']|url\(["']?|@import )(?:https?:)?//[^"')]+""", config) == []
    css = (ROOT / "assets" / "style.css").read_text()
    assert "http" not in css
    assert "@import" not in css


def test_the_browser_itself_refuses_other_machines(url: str) -> None:
    headers = get(url, "/")[2]
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_plotly_is_served_from_its_package_packed_and_kept(url: str) -> None:
    status, script, headers = get(url, "/studio/plotly.min.js")
    assert status == 200
    assert "plotly.js v" in script[:200]
    assert "immutable" in headers["cache-control"]
    request = urllib.request.Request(
        url + "studio/plotly.min.js", headers={"Accept-Encoding": "gzip"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(answer.read()) < len(script) / 2


def test_no_file_outside_the_static_folders_is_served(url: str) -> None:
    for path in ("/studio/../../app.py", "/studio/%2e%2e/%2e%2e/app.py", "/studio/../style.css"):
        assert get(url, path)[0] in (403, 404)
    secret = ROOT / "pyproject.toml"
    assert get(url, f"/gradio_api/file={secret}")[0] in (403, 404)


def test_what_gradio_offers_beyond_the_app_is_off(url: str) -> None:
    options = server.LAUNCH_OPTIONS
    off = ("share", "mcp_server", "ssr_mode", "run_history", "enable_monitoring")
    assert [name for name in off if options[name] is not False] == []
    assert options["allowed_paths"] == options["blocked_paths"] == options["footer_links"] == []
    config = json.loads(get(url, "/config")[1])
    assert config["analytics_enabled"] is False
    assert config["enable_queue"] is True
    assert get(url, "/monitoring")[0] != 200
    assert get(url, "/docs")[0] != 200
    assert get(url, "/gradio_api/mcp/")[0] != 200


def test_curves_can_be_asked_for_over_http(url: str) -> None:
    config = json.loads(get(url, "/config")[1])
    charts = [c for c in config["components"] if "points" in c["props"].get("server_fns", [])]
    assert len(charts) == 1
    question = {
        "component_id": charts[0]["id"],
        "fn_name": "points",
        "session_hash": "test",
        "data": {"run": "latest", "since": 0},
    }
    request = urllib.request.Request(
        url + "gradio_api/component_server/",
        data=json.dumps(question).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["series"]["0/forward_kl"]["step"]) == 12


def test_a_client_can_connect(url: str) -> None:
    from gradio_client import Client

    client = Client(url, verbose=False)
    assert client.config["title"] == "Distill Studio"
    client.close()


def test_other_machines_need_a_login() -> None:
    for host in ("0.0.0.0", "192.168.1.20", "::", "studio.example"):
        with pytest.raises(ValueError, match="Add --auth user:password"):
            server.refuse_open_door(host, None)
        server.refuse_open_door(host, ("me", "secret"))
    for host in ("127.0.0.1", "localhost", "::1"):
        server.refuse_open_door(host, None)


def test_credentials() -> None:
    assert server.credentials("me:a:b") == ("me", "a:b")
    assert server.credentials(("me", "x")) == ("me", "x")
    assert server.credentials(None) is None
    for half in ("me", "me:", ":x"):
        with pytest.raises(ValueError, match="user:password"):
            server.credentials(half)


def test_only_a_login_opens_the_host_check() -> None:
    def hosts(host: str, auth: tuple[str, str] | None) -> list[str]:
        return server.app_options(host, auth)["middleware"][0].kwargs["allowed_hosts"]

    assert hosts("127.0.0.1", None) == ["127.0.0.1", "localhost"]
    assert hosts("127.0.0.1", ("me", "x")) == ["127.0.0.1", "localhost"]
    assert hosts("0.0.0.0", ("me", "x")) == ["*"]


def test_starting_the_app_loads_no_torch() -> None:
    code = (
        "import sys; from ui import layout; layout.build('nowhere'); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "False", done.stderr


# --- sidebar, theme -----------------------------------------------------------------------------


def test_the_sidebar_tells_what_runs_and_what_waits(tmp_path: Path) -> None:
    from ui.state import list_runs

    assert "Press Start in Build" in sidebar.running_html(list_runs(str(tmp_path)))
    write_run(tmp_path, name="rests", ends="paused", steps=20, upto=10)
    html = sidebar.running_html(list_runs(str(tmp_path)))
    assert "1 paused: rests" in html
    assert "Nothing is running" not in html
    write_run(tmp_path, name="waits", ends="queued")
    assert "1 queued" in sidebar.running_html(list_runs(str(tmp_path)))
    write_run(tmp_path, name="runs-now", upto=12)
    html = sidebar.running_html(list_runs(str(tmp_path)))
    assert "runs-now" in html
    assert "training · step 12 of 120" in html
    assert 'aria-valuenow="5"' in html
    assert "1 queued" in html


def test_sidebar_and_train_draw_the_same_bar(tmp_path: Path) -> None:
    from ui import tab_train
    from ui.state import list_runs

    write_run(tmp_path, ends="caching")
    (run,) = list_runs(str(tmp_path))
    for html in (sidebar.running_html([run]), tab_train.header_html(run)):
        assert 'aria-valuenow="16"' in html
    scored = {"phase": "evaluating", "done": 1, "total": 4, "progress": 1.0}
    run["status"] |= scored
    for html in (sidebar.running_html([run]), tab_train.header_html(run)):
        assert 'aria-valuenow="25"' in html


def test_the_sidebar_shows_the_memory_that_training_uses() -> None:
    machine = {
        "device": "cuda", "name": "A <GPU>", "dtype": "bf16", "note": "", "cores": 8,
        "memory_total_bytes": 2**36, "memory_free_bytes": 2**35,
        "device_memory_total_bytes": 2**34, "device_memory_free_bytes": 2**33,
    }  # fmt: skip
    html = sidebar.machine_html(machine)
    assert "Memory 8.0 of 16.0 GiB" in html
    assert "A &lt;GPU&gt;" in html
    assert 'aria-valuenow="50"' in html
    on_cpu = machine | {"device_memory_total_bytes": None, "device_memory_free_bytes": None}
    assert "Memory 32.0 of 64.0 GiB" in sidebar.machine_html(on_cpu)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [":root", ".dark"])
def test_colours_can_be_read(mode: str) -> None:
    css = (ROOT / "assets" / "style.css").read_text()
    block = css.split(mode + " {", 1)[1].split("}", 1)[0]
    colours = dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block))
    for ink in ("teacher", "student", "other", "good", "warn", "bad"):
        assert contrast(colours[f"{ink}-ink"], colours["ds-card"]) >= 4.5, ink
        assert contrast(colours[f"{ink}-ink"], colours[f"{ink}-soft"]) >= 4.5, ink
    assert contrast(colours["ds-muted"], colours["ds-bg"]) >= 4.5
    for curve in ("teacher", "student", "other", "curve-2", "curve-3", "curve-4", "curve-5"):
        assert contrast(colours[curve], colours["ds-card"]) >= 3, curve


def test_small_pieces_of_html_escape_and_speak() -> None:
    assert "&lt;x&gt;" in theme.chip("<x>", "good", "✓")
    assert 'aria-hidden="true">✓' in theme.chip("done", "good", "✓")
    assert 'aria-valuenow="100"' in theme.bar(1.7, label="p")
    assert 'role="alert"' in theme.alert("t", "a\nb")
    assert "a<br>b" in theme.alert("t", "a\nb")
    assert "&lt;i&gt;" in theme.empty("<i>", "next")
