"""What the command line shows to people: tables, sentences, a progress bar.

In: the api's plain data and events. Out: text on a `rich` console, stdout for results and stderr
for what goes on meanwhile. Knows no api call and no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from distill_core.events import Event
from distill_core.runs.pace import Pace, PhasePace
from distill_core.scores import SCORES


def console() -> Console:
    """Return a console for results; never narrower than a table needs when nobody looks."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=160)


# --- numbers in words ---------------------------------------------------------------------------


def size(count: float | None) -> str:
    """Write bytes for people, powers of 1000."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def amount(count: float | None) -> str:
    """Write a number of parameters: 1.7 M."""
    return _scaled(count, ("", "k", "M", "B", "T"))


def duration(seconds: float | None) -> str:
    """Write seconds for people: 1 h 02 min, 3 min 20 s, 12 s."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def share(value: float | None) -> str:
    """Write 0–1 as a percentage."""
    return "–" if value is None else f"{value:.1%}"


def _scaled(count: float | None, units: tuple[str, ...]) -> str:
    if count is None:
        return "–"
    power = 0
    while abs(count) >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    number = f"{count:.3g}" if power else f"{count:.0f}"
    return f"{number} {units[power]}".rstrip()


# --- results ------------------------------------------------------------------------------------


def runs_table(runs: list[dict[str, Any]]) -> Table:
    """Lay out the list of runs."""
    shown = table("run", "state", ">progress", "teacher", ">student", ">score", ">retention")
    for run in runs:
        status, summary = run["status"], run["summary"]
        state = status["state"]
        if state == "queued" and status.get("queue_position"):
            state += f" ({status['queue_position']})"
        shown.add_row(
            run["run"],
            state,
            f"{status['progress']:.0%}",
            str(summary.get("teacher") or "–"),
            amount(summary.get("student_parameters")),
            _score(summary),
            share(summary.get("retention")),
        )
    return shown


def _score(summary: dict[str, Any]) -> str:
    """What the student of a finished run reached, by the score that its task is judged by."""
    metric = str(summary.get("metric") or "exact_match")
    value = summary.get("score", summary.get("exact_match"))
    if value is None or metric not in SCORES:
        return "–"
    words = share(value) if SCORES[metric].unit == "0–1" else number(value)
    return f"{words} {SCORES[metric].title}"


def run_sentences(run: dict[str, Any]) -> list[str]:
    """Describe one run, a fact a line."""
    status = run["status"]
    lines = [
        f"run        {run['run']}",
        f"folder     {run['path']}",
        f"state      {status['state']}",
    ]
    if status["phase"]:
        lines.append(f"phase      {status['phase']}")
    if status["total_steps"]:
        stage = f", stage {status['stage'] + 1} of {status['stages']}" if status["stages"] else ""
        lines.append(f"step       {status['step']} of {status['total_steps']}{stage}")
    if status["eta_s"] is not None:
        lines.append(f"time left  {duration(status['eta_s'])}")
    message = (status["error"] or {}).get("message") or status["message"]
    lines += [f"message    {line}" for line in message.splitlines()]
    if status["checkpoint"] and status["checkpoint"]["step"]:
        saved = status["checkpoint"]
        lines.append(f"saved      step {saved['step']} of stage {saved['stage'] + 1}")
    return lines


def estimate_table(estimate: dict[str, Any]) -> Table:
    """Lay out a forecast of memory, by part."""
    shown = table("memory", ">size")
    for part, count in estimate["memory_bytes"].items():
        shown.add_row(part, size(count))
    shown.add_row("together", size(estimate["total_memory_bytes"]), style="bold")
    shown.add_row("available", size(estimate["available_memory_bytes"]))
    return shown


def cache_sentences(estimate: dict[str, Any]) -> list[str]:
    """Say what will be kept of teachers, a stage a line."""
    return [
        f"teacher cache of stage {one['stage'] + 1} ({one['kind']}): "
        f"{'up to ' if one['at_most'] else ''}{one['bytes_per_token']:,} bytes a token × "
        f"{one['tokens']:,} tokens, {size(one['bytes'])} on disk with the head."
        for one in estimate["caches"]
    ]


def event_line(event: Event) -> str:
    """Write one event as one line."""
    clock = f"{datetime.fromtimestamp(event['time_s']):%H:%M:%S}"
    where = f" stage {event['stage'] + 1}" if "stage" in event else ""
    where += f" step {event['step']}" if "step" in event else ""
    if metrics := event.get("metrics"):
        told = "  ".join(f"{name} {number(value, 4)}" for name, value in metrics.items())
    elif event["type"] == "sample":
        sure = event.get("student_probability")
        told = f"{event.get('prompt')!r} → {event.get('student')!r}"
        told += f" ({sure:.0%})" if isinstance(sure, float) else ""
    else:
        told = " ".join(
            str(event[key]) for key in ("phase", "title", "message", "reason") if event.get(key)
        )
    return f"{clock} {event['type']}{where}  {told}".rstrip()


def table(*columns: str) -> Table:
    """Make an empty table; a column that begins with > holds numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=not right)
    return made


def number(value: object, digits: int = 3) -> str:
    """Write a number; a tiny one with its power of ten."""
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    tiny = value != 0 and abs(value) < 10**-digits
    return f"{value:.2e}" if tiny else f"{value:,.{digits}f}"


# --- a run in the foreground ----------------------------------------------------------------------


class RunDisplay:
    """Shows a run's events on stderr: a bar in a terminal, a line per phase elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[facts]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("preparing", total=None, count="", facts="")
        self._phase, self._title, self._steps = "", "", 0
        self._pace, self._phase_pace = Pace(), PhasePace()
        self._steps_per_stage: list[int] = []

    def __enter__(self) -> RunDisplay:
        """Show the bar."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away; what was told stays."""
        if self._console.is_terminal:
            self._bar.stop()

    def take(self, event: Event) -> None:
        """Show what an event changes."""
        kind = event["type"]
        if kind == "run_started":
            stages = event.get("stages") or []
            self._steps_per_stage = [stage.get("total_steps") or 0 for stage in stages]
        elif kind == "stage_started":
            self._title, self._steps = event.get("title", ""), event.get("total_steps", 0)
            self.tell(f"{self._title}: {self._steps} steps")
            if rounding := (event.get("teacher") or {}).get("rounding"):
                self.tell(f"  {rounding['words']}")
        elif kind == "rows_ready":
            if kernels := event.get("loss_kernels"):
                self.tell(f"  {kernels['words']}")
        elif kind == "progress":
            left = self._phase_pace.seconds_left(event)
            facts = [] if left is None else [f"{duration(left)} left in this phase"]
            self._show(event["phase"], event["message"], event["done"], event["total"], facts)
        elif kind == "step":
            metrics = event["metrics"]
            facts = [f"{name} {number(metrics[name])}" for name in ("loss",) if name in metrics]
            if "tokens_per_s" in metrics:
                facts.append(f"{metrics['tokens_per_s']:,.0f} tokens/s")
            left = self._pace.seconds_left(event, self._steps_per_stage or [self._steps])
            if left is not None:
                facts.append(f"{duration(left)} left")
            self._show("training", self._title, event["step"], self._steps, facts)
        elif kind == "evaluation":
            told = (
                f"{n.removeprefix('held_out_')} {number(v)}" for n, v in event["metrics"].items()
            )
            self.tell(f"  step {event.get('step', 0)}, held out: {', '.join(told)}")
        elif kind == "warning":
            self.tell(f"warning: {event['message']}")

    def tell(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(
        self, phase: str, message: str, done: int, total: int, facts: Iterable[str] = ()
    ) -> None:
        description = f"{phase}: {message}" if message else phase
        if not self._console.is_terminal and phase not in (self._phase, "training"):
            self.tell(description)
        self._phase = phase
        self._bar.update(
            self._task,
            description=description,
            completed=done,
            total=total or None,
            count=f"{done}/{total}" if total else "",
            facts="  ".join(facts),
        )
