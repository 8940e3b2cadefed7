"""Answers side by side, token by token, and what two models thought of one token.

In: what the events of `api.compare` told so far. Out: HTML, every text escaped. Knows nothing of
runs or Gradio.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import text

Answer = dict[str, Any]
"""`key, title, role, parameters, bytes, fingerprint, state, text, tokens_per_s, latency_ms, tokens,
mean_kl, top1_agreement`: what is known so far; of classifiers `probability`, `rows_per_s` and
`unit` = class, too."""

FULL_SHADE_NATS = 4.0
VISIBLE = {"\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}

WAITING = {"waiting": "waiting", "loading": "loading its weights …", "writing": "writing …"}


def panes(answers: list[Answer], *, hidden: bool = False) -> str:
    """Draw one pane for each answer; `hidden` shows A, B, … and nothing that tells who it is."""
    teacher = next((answer for answer in answers if answer["role"] == "teacher"), None)
    drawn = (
        _hidden_pane(answer, letter) if hidden else _pane(answer, teacher)
        for answer, letter in zip(answers, "ABCDEFGH", strict=False)
    )
    return f'<div class="ds-panes" aria-live="off">{"".join(drawn)}</div>'


def _pane(answer: Answer, teacher: Answer | None) -> str:
    role = answer["role"]
    mark = text.ROLE_MARKS.get(role, text.ROLE_MARKS["other"])
    facts = [f"{text.count_text(answer.get('parameters'))}", text.bytes_text(answer.get("bytes"))]
    if answer.get("fingerprint"):
        facts.append(f"weights {answer['fingerprint']}")
    return (
        f'<section class="ds-pane ds-pane-{escape(role)}" aria-label="{escape(answer["title"])}">'
        f'<header><h3><span aria-hidden="true">{mark}</span> {escape(answer["title"])}</h3>'
        f"<span>{escape(' · '.join(facts))}</span></header>"
        f'<div class="ds-answer">{_words(answer)}{_likely(answer)}</div>'
        f"<footer>{escape(_speed(answer, teacher))}{_agreement(answer)}</footer></section>"
    )


def _likely(answer: Answer) -> str:
    """How likely the class is for the model that tells it; nothing for one that writes."""
    probability = answer.get("probability")
    if probability is None:
        return ""
    return f' <span class="ds-muted">{text.percent_text(float(probability))}</span>'


def _hidden_pane(answer: Answer, letter: str) -> str:
    body = escape(answer.get("text") or "") or _state(answer)
    return (
        f'<section class="ds-pane ds-pane-hidden" aria-label="Answer {letter}"><header>'
        f'<h3>Answer {letter}</h3></header><div class="ds-answer">{body}</div></section>'
    )


def _state(answer: Answer) -> str:
    state = str(answer.get("state", "waiting"))
    told = WAITING.get(state, "(an empty answer)" if state == "done" else state)
    return f'<span class="ds-muted">{escape(told)}</span>'


def _words(answer: Answer) -> str:
    tokens = answer.get("tokens")
    if not tokens:
        return escape(answer.get("text") or "") or _state(answer)
    return "".join(_token(answer["key"], index, token) for index, token in enumerate(tokens))


def _token(key: str, index: int, token: dict[str, Any]) -> str:
    kl = max(0.0, float(token["kl"]))
    shade = round(45 * min(1.0, (kl / FULL_SHADE_NATS) ** 0.5))
    differs = "" if token["agree"] else " ds-differs"
    prefers = "agrees" if token["agree"] else f"prefers {visible(_first(token['teacher_top']))}"
    says = f"{visible(token['text'])}: KL {kl:.2f} nats, the teacher {prefers}"
    return (
        f'<button type="button" class="ds-answer-token{differs}" data-token '
        f'data-model="{escape(key)}" data-index="{index}" style="--shade:{shade}%" '
        f'title="{escape(says)}" aria-label="{escape(says)}">{escape(visible(token["text"]))}'
        "</button>"
    )


def visible(token: str) -> str:
    """Write a token so that it can be seen: line breaks and empty ones have a sign."""
    shown = "".join(VISIBLE.get(character, character) for character in token)
    return shown or VISIBLE[""]


def _first(top: list[dict[str, Any]]) -> str:
    return str(top[0]["text"]) if top else ""


def _speed(answer: Answer, teacher: Answer | None) -> str:
    speed = "rows_per_s" if answer.get("rows_per_s") else "tokens_per_s"
    rate = answer.get(speed)
    if not rate:
        return WAITING.get(str(answer.get("state")), "") if answer.get("text") else ""
    latency = float(answer.get("latency_ms") or 0)
    parts = [f"{latency:,.1f} ms"]
    if speed == "tokens_per_s":
        parts = [f"{rate:,.0f} tokens/s", f"{latency:,.0f} ms"]
    base = (teacher or {}).get(speed)
    if base and answer is not teacher:
        factor = rate / base
        words = f"{text.factor_text(factor)} faster"
        if factor < 1:
            words = f"{text.factor_text(1 / factor)} slower"
        parts.append(words if abs(factor - 1) > 0.02 else "as fast")
    return " · ".join(parts)


def _agreement(answer: Answer) -> str:
    if answer.get("mean_kl") is None:
        note = str(answer.get("note") or "")
        return f"<br>{escape(note)}" if note else ""
    if answer.get("unit") == "class":
        agrees = "agrees with it" if answer.get("top1_agreement") else "tells another class"
        return f"<br>KL to the teacher {float(answer['mean_kl']):.2f} nats · {agrees}"
    agreed = text.percent_text(answer.get("top1_agreement"), 0)
    dropped = answer.get("dropped_mass")
    lacks = ""
    if dropped is not None:
        share = text.percent_text(dropped, 2)
        lacks = f" · {share} of the teacher's probability is on tokens it lacks"
    return (
        f"<br>KL to the teacher {float(answer['mean_kl']):.2f} nats on average · agrees on "
        f"{agreed} of tokens{lacks}"
    )


# --- one token --------------------------------------------------------------------------------


def token_card(answer: Answer | None, index: int) -> str:
    """Show both distributions at one token of an answer, and what they say in one line."""
    tokens = (answer or {}).get("tokens") or []
    if answer is None or not 0 <= index < len(tokens):
        return (
            "<h3>One token, two opinions</h3><p class='ds-muted'>Ask, then choose a token of a "
            "student's answer: what would the teacher have said there?</p>"
        )
    token = tokens[index]
    if answer.get("unit") == "class":
        return _class_card(answer, token)
    head = "where they agree" if token["agree"] else "where they differ"
    mean = answer.get("mean_kl")
    average = f", {float(mean):.2f} on average" if mean is not None else ""
    return (
        f"<h3>Token {index + 1}: {head}</h3>"
        '<p class="ds-muted">Shade = KL from the teacher, nats; underlined = the teacher prefers '
        "another token. After the same words, each would go on with:</p>"
        f'<div class="ds-opinions">{_bars("teacher", "teacher", token["teacher_top"])}'
        f"{_bars('student', answer['title'], token['student_top'])}</div>"
        f"<p>{escape(reading(token))} KL {float(token['kl']):.2f} nats here{average}.</p>"
    )


def _class_card(answer: Answer, token: dict[str, Any]) -> str:
    """Show what both models think of every class of the text."""
    head = "where they agree" if token["agree"] else "where they differ"
    return (
        f"<h3>One text, two opinions: {head}</h3>"
        '<p class="ds-muted">How likely each model finds each class of this text:</p>'
        f'<div class="ds-opinions">{_bars("teacher", "teacher", token["teacher_top"])}'
        f"{_bars('student', answer['title'], token['student_top'])}</div>"
        f"<p>{escape(reading(token))} KL {float(token['kl']):.2f} nats.</p>"
    )


def _bars(role: str, title: str, top: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(visible(str(entry['text'])))}</th><td>"
        f'<span class="ds-opinion-bar" style="width:{62 * float(entry["probability"]):.1f}%">'
        f"</span> {text.percent_text(float(entry['probability']))}</td></tr>"
        for entry in top
    )
    mark = text.ROLE_MARKS[role]
    return (
        f'<table class="ds-opinion ds-opinion-{role}"><caption class="ds-ink-{role}">'
        f'<span aria-hidden="true">{mark}</span> {escape(title)}</caption>{rows}</table>'
    )


def reading(token: dict[str, Any]) -> str:
    """Say in one sentence what the two distributions mean."""
    teacher, student = token["teacher_top"], token["student_top"]
    if not teacher or not student:
        return ""
    first, ours = teacher[0], student[0]
    sure, ours_sure = float(first["probability"]), float(ours["probability"])
    if first["text"] != ours["text"]:
        return (
            f"The teacher prefers “{visible(first['text'])}” ({text.percent_text(sure, 0)}), the "
            f"student “{visible(ours['text'])}” ({text.percent_text(ours_sure, 0)})."
        )
    if abs(sure - ours_sure) < 0.1:
        return f"Both are as sure of “{visible(first['text'])}”."
    less = "less" if ours_sure < sure else "more"
    return f"Both prefer “{visible(first['text'])}”; the student is {less} sure."
