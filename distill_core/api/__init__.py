"""The one door: every call that the app and the command line may make.

In: recipes, run ids, answers. Out: plain data (dictionaries, lists, text) ready for JSON, or a
`DistillError`. Heavy libraries are imported inside the calls that need them.

A RUN is an id, `latest`, or a path. `runs_dir` defaults to `$DISTILL_RUNS_DIR`, else `./runs`.
"""

from distill_core.api.advising import (
    advise,
    advisor_asks,
    advisor_default,
    advisor_questions,
    observed_answers,
    probe,
    probe_of,
    probe_plan,
    start_probe,
)
from distill_core.api.comparing import (
    comparable,
    compare,
    evaluate,
    export,
    harness,
    held_out_prompts,
)
from distill_core.api.describing import (
    fitting_losses,
    machine,
    model_facts,
    models,
    pair_report,
    pair_reports,
    self_test,
    student_facts,
    temperature_example,
)
from distill_core.api.preparing import (
    check,
    dump_recipe,
    estimate,
    load_recipe,
    preview,
    ready_recipes,
    recipe_schema,
    take_dry_step,
    with_assistants,
)
from distill_core.api.running import (
    delete,
    is_first_process,
    pause,
    read_events,
    read_log,
    read_series,
    resume,
    run_here,
    runs,
    show,
    start,
    stop,
    supervise,
    supervise_apart,
)
from distill_core.errors import DistillError, Problem  # callers need no second import
from distill_core.events import METRICS
from distill_core.scores import SCORES, TASK_METRICS

__all__ = [
    "METRICS",
    "SCORES",
    "TASK_METRICS",
    "DistillError",
    "Problem",
    "advise",
    "advisor_asks",
    "advisor_default",
    "advisor_questions",
    "check",
    "comparable",
    "compare",
    "delete",
    "dump_recipe",
    "estimate",
    "evaluate",
    "export",
    "fitting_losses",
    "harness",
    "held_out_prompts",
    "is_first_process",
    "load_recipe",
    "machine",
    "model_facts",
    "models",
    "observed_answers",
    "pair_report",
    "pair_reports",
    "pause",
    "preview",
    "probe",
    "probe_of",
    "probe_plan",
    "read_events",
    "read_log",
    "read_series",
    "ready_recipes",
    "recipe_schema",
    "resume",
    "run_here",
    "runs",
    "self_test",
    "show",
    "start",
    "start_probe",
    "stop",
    "student_facts",
    "supervise",
    "supervise_apart",
    "take_dry_step",
    "temperature_example",
    "with_assistants",
]
