"""The command line from end to end, as a script would use it.

In: recipes of seconds on the starter. Out: exit codes, JSON documents, folders.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.e2e.drive import Cli, write_recipe

COMMANDS = {
    *("init", "check", "estimate", "run", "start", "runs", "show", "events", "stop", "pause"),
    *("resume", "delete", "evaluate", "compare", "advise", "export", "ui"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, dict[str, Any]]:
    """A command line whose runs folder holds one finished run, and what `run --json` said."""
    cli = Cli(tmp_path_factory.mktemp("cli"))
    recipe = write_recipe(cli.folder, evaluation__baselines=["fine_tuned_on_labels"])
    told = cli.json("run", recipe, "--set", "name=told-by-set")
    return cli, told


def test_help_names_every_command(cli: Cli) -> None:
    told = cli("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", told), command


def test_init_writes_a_recipe_that_check_accepts(cli: Cli) -> None:
    cli("init", "mine.yaml")
    text = (cli.folder / "mine.yaml").read_text()
    assert "pocket-teacher" in text
    assert not [p for p in problems(cli.json("check", "mine.yaml")) if p["severity"] == "error"]
    again = cli("init", "mine.yaml", code=1)
    assert "mine.yaml" in again.stderr
    assert (cli.folder / "mine.yaml").read_text() == text


def test_usage_errors_exit_with_two(cli: Cli) -> None:
    cli("check", code=2)
    cli("no-such-command", code=2)


def test_check_tells_all_problems_and_exits_with_one(cli: Cli) -> None:
    recipe = write_recipe(
        cli.folder, seed=-1, stages__0__optim__learning_rate=0, data__max_seq_length=12
    )
    found = problems(cli.json("check", recipe, code=1))
    fields = {problem["field"] for problem in found}
    assert {"seed", "stages.0.optim.learning_rate", "data.max_seq_length"} <= fields
    unknown = next(p for p in found if p["field"] == "data.max_seq_length")
    assert "max_seq_len" in unknown["fix"]


def problems(document: Any) -> list[dict[str, Any]]:
    return document["problems"] if isinstance(document, dict) else document


def test_estimate_tells_memory_and_time(cli: Cli) -> None:
    told = cli.json("estimate", write_recipe(cli.folder))
    assert told["total_memory_bytes"] == sum(told["memory_bytes"].values())
    assert 0 < told["time_s"][0] <= told["time_s"][1]
    assert told["steps"] == 6


def test_run_writes_everything_down(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, told = finished
    assert told["status"]["state"] == "finished"
    folder = cli.runs_dir / told["run"]
    for name in ("recipe.yaml", "environment.json", "status.json", "events.jsonl"):
        assert (folder / name).stat().st_size > 0, name
    assert (folder / "student" / "model.safetensors").is_file()
    assert (folder / "evaluation.json").is_file()
    assert "name: told-by-set" in (folder / "recipe.yaml").read_text()


def test_runs_show_and_events_tell_the_same_run(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, told = finished
    listed = cli.json("runs")
    assert [run["run"] for run in listed] == [told["run"]]
    shown = cli.json("show", "latest")
    assert shown["run"] == told["run"]
    assert shown["status"]["progress"] == 1
    events = cli.json("events", told["run"])
    assert "run_started" in {event["type"] for event in events[:5]}
    assert events[-1]["type"] == "run_finished"
    trained = [event for event in events if event["type"] == "step" and event["stage"] == 0]
    assert [event["step"] for event in trained] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "forward_kl", "cross_entropy"} <= e["metrics"].keys() for e in trained)


def test_evaluate_compares_all_models(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, told = finished
    scores = cli.json("evaluate", told["run"])
    assert {"teacher", "student", "untrained_student"} <= scores["models"].keys()
    teacher, student = scores["models"]["teacher"], scores["models"]["student"]
    assert teacher["exact_match"] > 0.9
    low, high = teacher["exact_match_ci95"]
    assert 0 <= low <= teacher["exact_match"] <= high <= 1
    assert scores["size_ratio"] == pytest.approx(teacher["parameters"] / student["parameters"])
    assert scores["data"]["overlap_with_training"] == 0
    assert scores["verdict"] in {"beats", "no difference", "worse", "inconclusive"}


def test_evaluate_takes_a_file(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, told = finished
    shown = cli.json("events", told["run"])
    sample = next(event for event in shown if event["type"] == "sample")
    row = {"prompt": sample["prompt"], "response": sample["reference"]}
    file = cli.folder / "own.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"prompt": "lights off please"}))
    scores = cli.json("evaluate", told["run"], "--data", file)
    assert scores["data"]["rows"] == 2


def test_compare_answers_with_every_model(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, told = finished
    document = cli.json("compare", told["run"], "--prompt", "turn on the light in the kitchen")
    text = json.dumps(document)
    assert "kitchen" in text
    for model in ("teacher", "student", "untrained_student"):
        assert model in text


def test_export_loads_in_transformers(finished: tuple[Cli, dict[str, Any]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cli, told = finished
    out = cli.folder / "exported"
    cli("export", told["run"], "--format", "hf", "--out", out)
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.num_hidden_layers == 1
    assert len(tokenizer) <= model.config.vocab_size
    card = (out / "README.md").read_text()
    assert "pocket-teacher" in card
    assert not list(out.rglob("*.bin"))


def test_export_never_overwrites(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, told = finished
    out = cli.folder / "taken"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    cli("export", told["run"], "--format", "hf", "--out", out, code=1)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]


def test_advise_answers_from_a_file(cli: Cli) -> None:
    answers = "{data.labelled_rows: 500, data.unlabelled_rows: 20000, data.held_out_rows: 1000}"
    (cli.folder / "answers.yaml").write_text(answers)
    told = cli.json("advise", "answers.yaml")
    assert told["verdict"] == "distill"
    assert told["reasons"]


def test_delete_removes_the_folder_and_nothing_else(cli: Cli) -> None:
    few = {"evaluation__rows": 1, "evaluation__final_rows": 1}
    recipe = write_recipe(cli.folder, stages__0__optim__max_steps=1, **few)
    cli("run", recipe)
    kept = cli.json("run", recipe)["run"]
    gone = next(run["run"] for run in cli.json("runs") if run["run"] != kept)
    cli("delete", gone)
    assert [run["run"] for run in cli.json("runs")] == [kept]
    assert not (cli.runs_dir / gone).exists()
    cli("show", gone, code=1)


def test_nothing_left_the_machine(finished: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = finished
    log = cli.folder / "network.log"
    assert not log.exists(), log.read_text()
