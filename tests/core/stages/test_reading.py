"""A stage whose student has a tokenizer, or a chat template, of its own: from rows to scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from distill_core.comparing import compare, lineup
from distill_core.data import preview
from distill_core.data.alignment import alignment_facts
from distill_core.data.formats import Row
from distill_core.data.tokenize import encode
from distill_core.errors import DataError, ModelError
from distill_core.losses.objective import Objective
from distill_core.recipe import CrossEntropyLoss, CrossTokenizerLoss, ForwardKLLoss
from distill_core.stages.reading import encode_rows
from distill_core.students.build import own_folder
from tests.core import small_runs
from tests.core.data import tokenizers
from tests.core.small_runs import TEXTS, go, of

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")


@pytest.fixture(scope="module")
def other_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with a byte-level tokenizer and a chat template of its own."""
    folder = tmp_path_factory.mktemp("other")
    tokenizer = tokenizers.byte_level(tokenizers.CHATML, size=280, corpus=TEXTS)
    config = LlamaConfig(
        vocab_size=288,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Forty rows, ten of them without an answer."""
    return small_runs.write_rows(tmp_path, answers=("on the light", "off", "two"))


def recipe(rows_file: Path, teacher: Path, student: Path, losses: Any, **more: Any) -> Any:
    own = {"init": "pretrained", "model": str(student)}
    stage = small_runs.distill(str(teacher), student=own, losses=losses)
    return small_runs.recipe(rows_file, [stage], max_seq_len=96, **more)


ACROSS = [{"name": "cross_tokenizer", "weight": 0.9}, {"name": "cross_entropy", "weight": 0.1}]


def test_a_student_with_another_tokenizer_keeps_it_to_the_end(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path, run_dir: Path
) -> None:
    made = recipe(rows_file, tiny_teacher_dir, other_dir, ACROSS)
    events = go(made, run_dir)
    assert events[-1]["type"] == "run_finished"
    (ready,) = of(events, "rows_ready")
    assert ready["alignment"]["spans"] > 28
    assert 0 < ready["alignment"]["same_token"] < 1
    steps = of(events, "step")
    assert all(step["metrics"]["cross_tokenizer"] > 0 for step in steps)
    held_out = of(events, "evaluation")[-1]["metrics"]
    assert held_out["held_out_bits_per_byte"] > 0
    assert held_out["held_out_teacher_bits_per_byte"] > 0
    assert "held_out_forward_kl" not in held_out
    saved = AutoTokenizer.from_pretrained(run_dir / "student")
    assert saved.get_vocab() == AutoTokenizer.from_pretrained(other_dir).get_vocab()
    assert saved.chat_template == tokenizers.CHATML
    scores = events[-1]["evaluation"]["models"]
    assert "no KL" in scores["student"]["note"]
    assert "kl_to_teacher" not in scores["student"]
    assert scores["student"]["bits_per_byte"] > 0
    told = [
        event
        for event in compare.compare(
            run_dir, "turn on the light", models=None, max_new_tokens=3, sampling_temperature=0.0
        )
        if event["type"] == "tokens"
    ]
    assert {event["model"] for event in told} == {"student", "untrained_student"}
    assert all("Another tokenizer" in event["note"] for event in told)


def test_the_untrained_student_speaks_its_own_tokens(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path, run_dir: Path
) -> None:
    go(recipe(rows_file, tiny_teacher_dir, other_dir, ACROSS), run_dir)
    members = {found.key: found for found in lineup.read(run_dir)}
    loaded = lineup.load(run_dir, members[lineup.UNTRAINED], device=torch.device("cpu"))
    assert len(loaded.tokenizer) == 280
    assert own_folder(None, tiny_teacher_dir) == tiny_teacher_dir


def test_it_learns_from_its_teacher_alone(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path, run_dir: Path
) -> None:
    losses = [{"name": "cross_tokenizer"}]
    made = recipe(rows_file, tiny_teacher_dir, other_dir, losses)
    stage = made.stages[0].model_copy(
        update={"optim": made.stages[0].optim.model_copy(update={"max_steps": 30})}
    )
    events = go(made.model_copy(update={"stages": [stage]}), run_dir)
    values = [event["metrics"]["cross_tokenizer"] for event in of(events, "step")]
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_weight_and_temperature_may_follow_a_schedule(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path, run_dir: Path
) -> None:
    moving = {
        "name": "cross_tokenizer",
        "weight": {"start": 0.0, "end": 0.9},
        "temperature": {"start": 2.0, "end": 1.0},
    }
    losses = [moving, {"name": "cross_entropy"}]
    events = go(recipe(rows_file, tiny_teacher_dir, other_dir, losses), run_dir)
    steps = [event["metrics"] for event in of(events, "step")]
    assert [round(step["weight_cross_tokenizer"], 6) for step in steps] == [0.0, 0.3, 0.6, 0.9]
    assert steps[-1]["temperature_cross_tokenizer"] == 1.0
    assert all(step["cross_tokenizer"] > 0 for step in steps)


def test_c5_terms_that_compare_ids_are_refused_at_run_time_too(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path, run_dir: Path
) -> None:
    made = recipe(rows_file, tiny_teacher_dir, other_dir, [{"name": "forward_kl"}])
    with pytest.raises(ModelError, match="Use cross_tokenizer"):
        go(made, run_dir)


def test_labels_alone_need_no_common_tokens(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path, run_dir: Path
) -> None:
    """The baseline of such a pair: the student's own tokens, no teacher asked."""
    evaluation = {"rows": 4, "max_new_tokens": 4, "baselines": ["fine_tuned_on_labels"]}
    made = recipe(rows_file, tiny_teacher_dir, other_dir, ACROSS, evaluation=evaluation)
    events = go(made, run_dir)
    assert "fine_tuned_on_labels" in events[-1]["evaluation"]["models"]
    saved = AutoTokenizer.from_pretrained(run_dir / "baseline")
    assert len(saved) == 280


def test_the_preview_shows_the_students_own_tokens(
    rows_file: Path, tiny_teacher_dir: Path, other_dir: Path
) -> None:
    made = recipe(rows_file, tiny_teacher_dir, other_dir, ACROSS)
    shown = "".join(token["text"] for token in preview.preview(made)["tokens"])
    assert "<|im_start|>user" in shown


# --- one row at a time ----------------------------------------------------------------------

ROW = Row(
    ({"role": "user", "content": "turn"}, {"role": "assistant", "content": "on the light"}),
    None,
    "t",
)


def encoded(losses: list[Any], teacher: Any, student: Any) -> Any:
    return encode_rows(
        [ROW], student, teacher=teacher, objective=Objective(losses), max_seq_len=64
    )[1]


def test_rows_carry_a_teachers_side_only_where_it_is_asked(tiny_tokenizer: Any) -> None:
    student = tokenizers.byte_level()
    (alone,) = encoded([CrossEntropyLoss()], tiny_tokenizer, student)
    assert alone == encode(ROW, student, 64)
    assert alignment_facts([alone]) is None
    (both,) = encoded([CrossTokenizerLoss()], tiny_tokenizer, student)
    assert both.teacher.spans
    facts = alignment_facts([both])
    assert facts is not None
    assert facts["tokens_in_spans"] == pytest.approx(1.0)
    (same,) = encoded([ForwardKLLoss()], tiny_tokenizer, tiny_tokenizer)
    assert same.teacher is None


def test_rows_with_nothing_to_learn_are_told(tiny_tokenizer: Any) -> None:
    empty = Row(({"role": "user", "content": "turn"},), None, "t")
    with pytest.raises(DataError, match="No row has a supervised token"):
        encode_rows(
            [empty],
            tiny_tokenizer,
            teacher=tiny_tokenizer,
            objective=Objective([ForwardKLLoss()]),
            max_seq_len=64,
        )


def test_c7_identical_models_with_identical_tokenizers_have_no_loss(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    from accelerate import Accelerator

    from distill_core import trainer
    from distill_core.data.batches import collate
    from distill_core.forward.network import Network
    from distill_core.teachers.local import LocalTeacher

    losses = [CrossTokenizerLoss(weight=1.0), CrossTokenizerLoss(weight=1.0, hybrid=False)]
    for loss in losses:
        objective = Objective([loss])
        rows = encoded([loss], tiny_tokenizer, tiny_tokenizer)
        batch = collate(rows, pad_token_id=0, rows=[0])
        size = len(tiny_tokenizer)
        seen = trainer.supervised_rows(
            Network(tiny_llama().eval(), vocab_size=size),
            LocalTeacher(tiny_llama(), vocab_size=size, stop_ids=set()),
            batch,
            objective,
            Accelerator(cpu=True),
        )
        value, sums = objective(seen, totals=objective.token_counts(batch.counts()))
        assert batch.counts()["spans"] == 4
        assert abs(value.item()) <= 1e-6
        assert abs(sums["cross_tokenizer"].item()) <= 1e-6
