"""What Learn says: short pieces with their sources, and where in the app each can be tried.

In: nothing. Out: text. Knows nothing of Gradio. Figures are published ones, not promises.
"""

from __future__ import annotations

from dataclasses import dataclass

ARXIV = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Source:
    """A paper or page that a sentence leans on."""

    words: str
    url: str = ""


@dataclass(frozen=True)
class Lesson:
    """One piece: a few sentences, its sources, and the tab in which to try it."""

    title: str
    body: tuple[str, ...]
    sources: tuple[Source, ...]
    tab: str
    button: str


HINTON = Source("Hinton et al. 2015", f"{ARXIV}1503.02531")
SCALING = Source("Distillation scaling laws, 2025", f"{ARXIV}2502.08606")
TURC = Source("Turc et al. 2019", f"{ARXIV}1908.08962")
GKD = Source("GKD, 2023", f"{ARXIV}2306.13649")
MINILLM = Source("MiniLLM, 2023", f"{ARXIV}2306.08543")
LORA_FORGETS = Source("LoRA learns less and forgets less, 2024", f"{ARXIV}2405.09673")
LAYERS = Source("Wang et al. 2023", f"{ARXIV}2305.15032")
MINITRON = Source("Minitron, 2024", f"{ARXIV}2408.11796")
MILLER = Source("Miller 2024", f"{ARXIV}2411.00640")

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        "Hard labels and soft targets",
        (
            "A label names one right token and is silent about all others. A teacher answers with "
            "a probability for every token: how sure it is, and which mistakes would be small "
            "ones. A student that learns those probabilities gets far more out of each row.",
            "That is why rows without labels are worth something: the teacher has an opinion on "
            "them too. With 3 % of its speech data, soft targets took a model from 44.5 to 57.0 % "
            "accuracy; with all of the data it reached 58.9 %.",
        ),
        (HINTON,),
        "build",
        "See both losses in Build",
    ),
    Lesson(
        "Temperature",
        (
            "Dividing the logits by T before the softmax flattens the distribution and brings the "
            "small probabilities into view. Teacher and student are softened alike, and only "
            "inside the loss: T never changes how the student writes.",
            "Gradients shrink with about 1/T², so the term is multiplied by T² and keeps its "
            "weight in the sum. For language models with thousands of tokens T = 1 is the usual "
            "choice; 2 to 4 helps where there are few classes. Sources differ: try it.",
        ),
        (HINTON, SCALING),
        "build",
        "Set the temperature in Build",
    ),
    Lesson(
        "KL: how far apart two opinions are",
        (
            "KL(teacher ‖ student) is the number of extra nats that the student needs because it "
            "believes in its own probabilities instead of the teacher's. It is 0 when they agree, "
            "and large when the student gives next to nothing to something the teacher expects.",
            "This direction, forward KL, makes the student cover everything that the teacher finds "
            "possible. The reverse lets it settle on what it can do well; that is used for open "
            "generation. In Compare, the shade of each token is this number.",
        ),
        (GKD, MINILLM),
        "compare",
        "See it token by token in Compare",
    ),
    Lesson(
        "Distil, fine-tune, or both",
        (
            "Fine-tuning learns from labels. Distilling learns from a teacher. Few labels and many "
            "unlabelled rows speak for distilling; thousands of good labels for fine-tuning alone. "
            "If no teacher exists and only one student is wanted, training a teacher first rarely "
            "pays.",
            "Fine-tune → distil: make the teacher good at the task first, then pass it on. "
            "Distil → fine-tune: start from the teacher's view, then sharpen on clean labels. In "
            "one comparison of small encoders, pre-training and then distilling reached 82.1, "
            "pre-training and fine-tuning 81.6, distilling from random weights 80.5.",
        ),
        (TURC, SCALING),
        "advisor",
        "Ask the Advisor",
    ),
    Lesson(
        "Where a student starts",
        (
            "From the teacher's own lower layers, from a published small model, or from new "
            "weights. The first two know the language already. Lower layers in a row beat evenly "
            "spaced ones: 86.2 against 66.5 on one task.",
            "Fewer layers make a student faster; a narrower one keeps more quality at the same "
            "size. New weights are right when the task is small and the data plenty, as in the "
            "default recipe.",
        ),
        (LAYERS, MINITRON),
        "build",
        "Shape a student in Build",
    ),
    Lesson(
        "Training all weights, or LoRA",
        (
            "LoRA trains a small addition to frozen weights. It needs a fraction of the memory and "
            "forgets less of what the model could do before: .648 of the old skill kept, against "
            ".579 with full training. It also learns less. Its learning rate is about ten times "
            "higher.",
        ),
        (LORA_FORGETS,),
        "build",
        "Switch LoRA on in Build",
    ),
    Lesson(
        "Is the difference real?",
        (
            "Every score is measured on a sample of rows and moves with it: at 90 % right, 600 "
            "held-out rows still leave a standard error of 1.2 points. So scores carry intervals, "
            "two models are compared on the same rows, and held-out rows are never trained on.",
        ),
        (MILLER,),
        "runs",
        "Look at your runs",
    ),
)

PUBLISHED: tuple[tuple[str, str, str, str, Source], ...] = (
    (
        "Half the depth (DistilBERT)",
        "97 % of GLUE",
        "1.6 × on CPU",
        "40 % smaller",
        Source("1910.01108", f"{ARXIV}1910.01108"),
    ),
    (
        "Four layers (TinyBERT)",
        "96.8 %",
        "9.4 ×",
        "7.5 × smaller",
        Source("1909.10351", f"{ARXIV}1909.10351"),
    ),
    (
        "6 layers × 768 (MiniLM)",
        "over 99 %",
        "2 ×",
        "50 % smaller",
        Source("2002.10957", f"{ARXIV}2002.10957"),
    ),
    (
        "DistilGPT2",
        "perplexity 16.3 → 21.1",
        "2 ×",
        "33 % smaller",
        Source("its model card", "https://huggingface.co/distilbert/distilgpt2"),
    ),
    (
        "Prune half, then distil (Minitron 4B)",
        "MMLU 58.7–60.5",
        "1.8–2.7 ×",
        "50 % smaller",
        Source("2408.11796; needed 94 B tokens", f"{ARXIV}2408.11796"),
    ),
    (
        "GPT-2 1.5B → 120M (MiniLLM)",
        "ROUGE-L 24.6; fine-tuning 23.3",
        "–",
        "12 × smaller",
        Source("2306.08543", f"{ARXIV}2306.08543"),
    ),
    (
        "Qwen2 1.5B → 0.5B",
        "TruthfulQA +5.8 %; fine-tuning +1.3 %",
        "–",
        "3 × smaller",
        Source("torchtune's tutorial"),
    ),
)
"""What was done, quality kept, speed, size, source."""
