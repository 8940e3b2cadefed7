"""How things look: colours of the roles, Gradio's theme, and small pieces of HTML.

In: text. Out: a theme, and HTML in which every text is escaped. Knows nothing of runs.
"""

from __future__ import annotations

from html import escape
from typing import Literal

import gradio as gr

TEACHER = "var(--teacher)"
STUDENT = "var(--student)"
OTHER = "var(--other)"
"""Colours of the roles as CSS; `assets/style.css` holds the values for light and dark.

`--teacher-ink`, `--student-ink`, `--other-ink` are the same for text, dark enough to read."""

Tone = Literal["neutral", "teacher", "student", "good", "warn", "bad"]


BLUE = gr.themes.Color(
    name="teacher",
    c50="#eef2ff",
    c100="#dfe6ff",
    c200="#c3cffc",
    c300="#a0b2f8",
    c400="#7d97ff",
    c500="#3b5bdb",
    c600="#3451c6",
    c700="#2c45a9",
    c800="#263a8a",
    c900="#22336f",
    c950="#172149",
)
"""Gradio's own controls in the teacher's blue."""


def theme() -> gr.themes.Base:
    """Make the studio's theme; no font and no file from outside."""
    sans = ("Inter", "system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Consolas", "DejaVu Sans Mono", "monospace")
    return gr.themes.Default(primary_hue=BLUE, neutral_hue="slate", font=sans, font_mono=mono).set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#0f141b",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="#3b5bdb",
        button_primary_background_fill_dark="#3b5bdb",
        button_primary_background_fill_hover="#2f4bc0",
        button_primary_background_fill_hover_dark="#4a6aea",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="#1e2733",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        button_large_text_size="14px",
        button_large_padding="9px 16px",
        button_large_radius="9px",
        button_small_text_size="13px",
        block_background_fill="white",
        block_background_fill_dark="#171e28",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_label_text_color="#18202b",
        block_label_text_color_dark="#e8edf4",
        block_title_text_color="#18202b",
        block_title_text_color_dark="#e8edf4",
        block_title_text_weight="600",
        block_title_text_size="13px",
        block_padding="8px 0px",
        block_shadow="none",
        block_shadow_dark="none",
        input_background_fill="white",
        input_background_fill_dark="#121821",
        input_border_color="#cbd2dc",
        input_border_color_dark="#3a4453",
        input_radius="8px",
        border_color_primary="#e1e5eb",
        border_color_primary_dark="#2a3442",
        background_fill_secondary="#fafbfc",
        background_fill_secondary_dark="#121821",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="#8391a5",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
    )


def chip(text: str, tone: Tone = "neutral", icon: str = "") -> str:
    """A small rounded label; the icon says what the colour says."""
    mark = f'<span aria-hidden="true">{escape(icon)}</span> ' if icon else ""
    return f'<span class="ds-chip ds-{tone}">{mark}{escape(text)}</span>'


def bar(share: float | None, *, label: str, colour: str = STUDENT) -> str:
    """A progress bar; `share` 0–1, None: moving, since nobody knows; `label` for screen readers."""
    if share is None:
        return (
            f'<div class="ds-bar ds-waiting" role="progressbar" aria-label="{escape(label)}">'
            f'<span style="background:{colour}"></span></div>'
        )
    percent = 100 * min(1.0, max(0.0, share))
    return (
        f'<div class="ds-bar" role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent:.0f}">'
        f'<span style="width:{percent:.1f}%;background:{colour}"></span></div>'
    )


def alert(title: str, body: str, tone: Tone = "bad", *, icon: str = "⚠") -> str:
    """A message that must not be overlooked: a title, then what to do; line breaks are kept."""
    lines = "<br>".join(escape(line) for line in body.splitlines())
    return (
        f'<div class="ds-alert ds-{tone}" role="alert"><b>'
        f'<span aria-hidden="true">{icon}</span> {escape(title)}</b><div>{lines}</div></div>'
    )


def empty(title: str, what_next: str) -> str:
    """What stands where there is nothing yet, and what to do next."""
    return f'<div class="ds-empty"><b>{escape(title)}</b><p>{escape(what_next)}</p></div>'
