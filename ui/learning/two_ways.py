"""Distilling against fine-tuning, line by line, and where in the app each line can be tried.

In: nothing. Out: text. Knows nothing of Gradio. Figures are published ones, not promises.
"""

from __future__ import annotations

from dataclasses import dataclass

from ui.learning.lessons import (
    ARXIV,
    GKD,
    HINTON,
    LAYERS,
    LORA_FORGETS,
    MINILLM,
    MINITRON,
    SCALING,
    TURC,
    Source,
)

PANGAKIS = Source("Pangakis and Wolken 2024")
CACHED = Source("2608.03796", f"{ARXIV}2608.03796")
LIMA = Source("LIMA, 2023", f"{ARXIV}2305.11206")


@dataclass(frozen=True)
class Line:
    """One topic: what distilling does, what fine-tuning does, and where to try it."""

    topic: str
    distilling: str
    fine_tuning: str
    sources: tuple[Source, ...]
    tab: str
    """Which tab opens."""
    button: str
    recipe: str = ""
    """A ready recipe that Build opens with; "" where none is meant."""


LINES: tuple[Line, ...] = (
    Line(
        "Purpose",
        "Pass on what a larger model can do to a smaller, faster one.",
        "Make one model better at one task, or give it a tone; its size stays.",
        (HINTON,),
        "advisor",
        "Say what you want to gain",
    ),
    Line(
        "Architecture",
        "Two networks: the teacher, which is never changed, and a student: a published small "
        "model, some of the teacher's own layers, a narrower teacher, or new weights.",
        "One network, trained whole or with a small adapter beside frozen weights.",
        (LAYERS, MINITRON, LORA_FORGETS),
        "build",
        "Cut a student from its teacher",
        "task_specific",
    ),
    Line(
        "Training",
        "The student matches the teacher's probability of every token, its hidden states or its "
        "attention; a small share of cross-entropy on labels stays. Open answers may end with "
        "steps on the student's own samples.",
        "Cross-entropy on the labels alone: one right token at a time, the others all wrong.",
        (HINTON, GKD, MINILLM),
        "build",
        "Let the teacher judge own samples",
        "on_policy",
    ),
    Line(
        "Data",
        "Labels are few and prompts are many: the teacher answers what nobody has labelled. With "
        "3 % of the labels 57.0 % against 44.5 %, with all of them 58.9 %.",
        "Labels decide: first gains at 50 to 100 rows, a style at about 1,000. Labels of people "
        "taught better than labels of language models, F1 .641 against .586.",
        (HINTON, PANGAKIS, LIMA),
        "build",
        "Learn from unlabelled rows alone",
        "unlabelled_only",
    ),
    Line(
        "Compute",
        "The teacher runs along and adds N_teacher / (3 × N_student) of the student's own "
        "training, or answers once beforehand; steps on own samples cost about twice as much.",
        "The student alone. An adapter needs 2 bytes for each frozen weight instead of 18.",
        (SCALING, CACHED),
        "build",
        "Fine-tune with an adapter",
        "fine_tune_lora",
    ),
    Line(
        "Use cases",
        "A phone, a laptop, a bill that grows with every call; a teacher that is good already, or "
        "that will teach several students; wrong labels, which a teacher evens out.",
        "Thousands of good labels; no teacher that can do the task; a tone or a format; general "
        "skills that must stay, with an adapter.",
        (SCALING, LORA_FORGETS),
        "advisor",
        "See which one your answers speak for",
    ),
    Line(
        "Outcomes",
        "Half the depth kept 97 % of GLUE, four layers 96.8 % at 9.4 × the speed. The gain fades "
        "as labels grow, and a teacher far too strong can hurt.",
        "Exactly as good as its labels. A small model that was pre-trained and fine-tuned reached "
        "81.6 where distilling reached 82.1.",
        (Source("DistilBERT, 2019", f"{ARXIV}1910.01108"), TURC, SCALING),
        "runs",
        "Compare your own runs",
    ),
    Line(
        "Fine-tune, then distil",
        "The teacher learns the task first, then teaches: over 6 % lower validation loss than "
        "with a teacher that has never seen such rows.",
        "Pays when the teacher serves several students, or is not good at the task yet.",
        (MINITRON,),
        "build",
        "Fine-tune the teacher, then distil",
        "fine_tune_then_distil",
    ),
    Line(
        "Distil, then fine-tune",
        "The student takes the teacher's breadth from many rows first.",
        "Then a short stage on a thousand or more clean labels has the last word.",
        (TURC,),
        "build",
        "Distil, then fine-tune",
        "distil_then_fine_tune",
    ),
    Line(
        "Step by step",
        "Above about ten times smaller, a student of middle size may stand in between. Sources "
        "disagree: MiniLLM still gains from a larger teacher directly.",
        "A gap does not matter where nobody teaches.",
        (Source("Mirzadeh et al. 2019", f"{ARXIV}1902.03393"), MINILLM),
        "build",
        "Distil in two steps",
        "progressive",
    ),
)
