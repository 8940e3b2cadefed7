"""What happens in Compare: asking, looking at a token, scores.

In: a prompt, names of models, a run. Out: HTML, plain values and `gr.update`s. Knows nothing of
the layout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from distill_core import api
from ui import theme
from ui.comparing import answers_drawn, choices, harness_drawn, scores_drawn
from ui.comparing.answers_drawn import Answer
from ui.state import safe_run_id, show_run

OTHERS = " beside "
"""Parts what the mark says of the run in view from the runs beside it."""
REDRAW_S = 0.08
"""Tokens come faster than eyes and browsers want them."""

NO_RUN = ("Nothing to compare yet", "Start a run in Build; its models answer here side by side.")
NOT_SCORED = theme.empty(
    "Not scored yet", "A finished run is scored by itself; or score it as it stands now."
)

# --- the run in view --------------------------------------------------------------------------


def signature(run_id: str, runs_dir: str) -> str:
    """What the tab depends on: the run, its state, when it was scored; and who else is there."""
    shown = show_run(run_id, runs_dir)
    return (
        _signature(shown) + OTHERS + " ".join(choices.runs_beside(shown, runs_dir)) if shown else ""
    )


def _signature(shown: dict[str, Any]) -> str:
    status = shown["status"]
    scored = (shown["evaluation"] or {}).get("data", {}).get("rows", "")
    asked = (shown.get("harness") or {}).get("scored_time_s", "")
    return f"{shown['run']} {status['state']} {status.get('stage')} {scored} {asked}"


def follow_run(run_id: str, seen: str, prompt: str, runs_dir: str) -> tuple[Any, ...]:
    """Show the run in view when it, its state or its scores have changed; else leave all."""
    now = signature(run_id, runs_dir)
    if now == seen:
        return (gr.skip(),) * 11
    shown = show_run(run_id, runs_dir)
    if shown is None:
        hidden = gr.update(visible=False)
        return now, gr.update(visible=True), hidden, *((gr.skip(),) * 8)
    run = shown["run"]
    models = comparable(run, runs_dir)
    beside = choices.runs_beside(shown, runs_dir)
    picker = gr.update(choices=[(label, key) for key, label in beside.items()], value=run)
    if now.split(OTHERS)[0] == seen.split(OTHERS)[0]:  # what is ticked stays
        answering = gr.update(choices=choices.models(models), info=choices.info(models))
        rivals = gr.update(choices=choices.rivals(models))
        return now, *((gr.skip(),) * 3), answering, rivals, *((gr.skip(),) * 4), picker
    prompts = held_out(run, runs_dir)
    return (
        now,
        gr.update(visible=False),
        gr.update(visible=True),
        heading(shown),
        gr.update(
            choices=choices.models(models),
            value=choices.first(models),
            info=choices.info(models),
        ),
        gr.update(choices=choices.rivals(models), value=choices.first_rival(models)),
        prompts,
        gr.skip() if prompt or not prompts else prompts[0]["prompt"],
        scores(shown),
        gr.update(value="Score again" if shown["evaluation"] else "Evaluate now"),
        picker,
    )


def comparable(run: str, runs_dir: str) -> list[dict[str, Any]]:
    """Whose weights can answer; none where the run has not come that far."""
    try:
        return api.comparable(run, runs_dir=runs_dir)
    except (api.DistillError, OSError):
        return []


def held_out(run: str, runs_dir: str) -> list[dict[str, Any]]:
    """Held-out prompts of a run; none where its data cannot be read."""
    try:
        return api.held_out_prompts(run, runs_dir=runs_dir)
    except (api.DistillError, OSError):
        return []


def heading(shown: dict[str, Any]) -> str:
    """Name the run in view and its state; its text changes with all that the tab depends on."""
    state = str(shown["status"]["state"])
    tone: theme.Tone = "good" if state == "finished" else "neutral"
    return (
        f'<div class="ds-row" data-seen="{theme.escape(_signature(shown))}">'
        f"<b>{theme.escape(str(shown['name']))}</b>"
        f"{theme.chip(state, tone)}<span class='ds-muted'>{theme.escape(str(shown['run']))}</span>"
        "</div>"
    )


# --- asking -----------------------------------------------------------------------------------


def another_prompt(prompts: list[dict[str, Any]], at: int) -> tuple[Any, int, str]:
    """Take the next held-out prompt, and show how it is labelled."""
    if not prompts:
        return gr.skip(), at, ""
    now = (at + 1) % len(prompts)
    return prompts[now]["prompt"], now, label_of(prompts[now]["prompt"], prompts)


def label_of(prompt: str, prompts: list[dict[str, Any]]) -> str:
    """Show the label of a held-out prompt; nothing for a prompt of one's own."""
    found = next((entry for entry in prompts if entry["prompt"] == prompt), None)
    if found is None or not found.get("response"):
        return ""
    words = theme.escape(str(found["response"]))
    return f'<p class="ds-small">Labelled in the data: <span class="ds-mono">{words}</span></p>'


def ask(
    prompt: str,
    models: list[str],
    sampling_temperature: float,
    max_new_tokens: int,
    run_id: str,
    runs_dir: str,
) -> Iterator[tuple[Any, Any, Any]]:
    """Let the chosen models answer; yields panes, the answers, and the most telling token."""
    run = run_in_view(run_id, runs_dir)
    known = {model["key"]: model for model in comparable(run, runs_dir)}
    answers = [waiting(known[key]) for key in models or [] if key in known]
    if not answers:
        told = theme.alert("Nobody was asked", "Choose at least one model above.", "warn")
        yield told, [], answers_drawn.token_card(None, 0)
        return
    yield answers_drawn.panes(answers), gr.skip(), answers_drawn.token_card(None, 0)
    try:
        for _ in stream(run, prompt, answers, sampling_temperature, max_new_tokens, runs_dir):
            yield answers_drawn.panes(answers), gr.skip(), gr.skip()
    except (api.DistillError, OSError) as error:
        yield theme.alert("No answer", str(error)), [], gr.skip()
        return
    yield answers_drawn.panes(answers), answers, telling_card(answers)


def run_in_view(run_id: str, runs_dir: str) -> str:
    """Return the id of the run in view, as the api takes it."""
    shown = show_run(run_id, runs_dir)
    return str(shown["run"]) if shown else safe_run_id(run_id)


def waiting(model: dict[str, Any]) -> Answer:
    """Make the answer of a model that has not begun."""
    return {**model, "state": "waiting", "text": "", "tokens": []}


def stream(
    run: str,
    prompt: str,
    answers: list[Answer],
    sampling_temperature: float,
    max_new_tokens: int,
    runs_dir: str,
) -> Iterator[None]:
    """Fill `answers` in place from one stream of events; yields whenever a redraw is due."""
    by_key = {answer["key"]: answer for answer in answers}
    drawn = 0.0
    for event in api.compare(
        run,
        prompt,
        models=list(by_key),
        max_new_tokens=int(max_new_tokens),
        sampling_temperature=float(sampling_temperature),
        runs_dir=runs_dir,
    ):
        take(by_key.get(str(event.get("model"))), event)
        due = time.monotonic() - drawn > REDRAW_S
        if due or event["type"] != "token":
            drawn = time.monotonic()
            yield


def take(answer: Answer | None, event: dict[str, Any]) -> None:
    """Write one event into the answer that it is about."""
    if answer is None:
        return
    kind = event["type"]
    if kind == "loading":
        answer["state"] = "loading"
    elif kind == "loaded":
        answer["state"] = "waiting"
        about = ("parameters", "bytes", "fingerprint")
        answer.update({name: event[name] for name in about if name in event})
    elif kind == "token":
        answer["state"] = "writing"
        answer["text"] += str(event["text"])
    elif kind == "answer":
        answer["state"] = "done"
        facts = ("text", "tokens_per_s", "rows_per_s", "latency_ms", "probability")
        answer.update({name: event[name] for name in facts if name in event})
    elif kind == "tokens":
        answer.update(
            tokens=event["tokens"],
            unit=event.get("unit", "token"),
            mean_kl=event["mean_kl"],
            top1_agreement=event["top1_agreement"],
            note=event.get("note", ""),
            dropped_mass=event.get("dropped_mass"),
        )


def telling_card(answers: list[Answer]) -> str:
    """Show the token at which the student is furthest from its teacher, before anyone clicks."""
    student = next((answer for answer in answers if answer["role"] == "student"), None)
    tokens = (student or {}).get("tokens") or []
    if not tokens:
        return answers_drawn.token_card(None, 0)
    worst = max(range(len(tokens)), key=lambda index: float(tokens[index]["kl"]))
    return answers_drawn.token_card(student, worst)


def show_token(answers: list[Answer], event: gr.EventData) -> str:
    """Show both distributions at the token that was chosen."""
    data = getattr(event, "_data", None) or {}
    return pick_token(answers, data.get("model"), data.get("index"))


def pick_token(answers: list[Answer], model: object, index: object) -> str:
    """Find an answer's token by what the browser sent, which may be anything."""
    answer = next((entry for entry in answers or [] if entry.get("key") == model), None)
    at = int(index) if isinstance(index, int | str) and str(index).isdigit() else -1
    return answers_drawn.token_card(answer, at)


# --- scores -----------------------------------------------------------------------------------


def scores(shown: dict[str, Any]) -> str:
    """Show a run's scores on held-out rows, and on lm-eval's tasks where it has such."""
    evaluation = shown.get("evaluation")
    own = scores_drawn.table(evaluation) if evaluation else NOT_SCORED
    return own + harness_drawn.table(shown.get("harness"))


def evaluate_now(run_id: str, runs_dir: str) -> str:
    """Score the run's models on its held-out rows."""
    try:
        run = run_in_view(run_id, runs_dir)
        found = api.evaluate(run, runs_dir=runs_dir)
        return scores(api.show(run, runs_dir=runs_dir) | {"evaluation": found})
    except (api.DistillError, OSError) as error:
        return theme.alert("Not scored", str(error))
