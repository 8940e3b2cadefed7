"""What `peers_step.py` measures, each in a process of its own.

In: a specification. Out: losses and seconds of each step, supervised tokens, peak memory. The
parts of the peers need nothing of this repository, ours nothing of theirs. Their trainers are
called as they are documented; the little that is put in their place is which rows come when, and a
clock.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RATE, DECAY, CLIP = 3e-4, 0.01, 1.0


class Clock:
    """When steps end, and what they lost."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.device = device_of(spec)
        self.now = time.process_time if spec["clock"] == "processor" else time.perf_counter
        self.ends: list[float] = []
        self.losses: list[float] = []

    def tick(self) -> None:
        """A step begins or ends now."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(self.now())

    def told(self, spec: dict[str, Any], supervised: list[int]) -> dict[str, Any]:
        """Seconds per supervised token of all steps but the first, and the peak of memory."""
        import torch

        steps = [b - a for a, b in zip(self.ends, self.ends[1:])]  # noqa: B905
        assert len(steps) == spec["steps"] == len(supervised)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        held *= 1 if sys.platform == "darwin" else 1024
        if self.device.type == "cuda":
            held = torch.cuda.max_memory_allocated()
        return {
            "seconds_per_token": sum(steps[1:]) / sum(supervised[1:]),
            "steps": steps,
            "losses": self.losses,
            "supervised": supervised,
            "bytes": held,
        }


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The prepared rows of a case, step after step: `{"input_ids", "labels"}`, not shifted."""
    found = json.loads((Path(spec["work"]) / f"{spec['case']}.json").read_text())
    return list(found["batches"][: spec["steps"] * spec["batch"]])


def supervised_of(spec: dict[str, Any], rows: list[dict[str, Any]]) -> list[int]:
    """Supervised tokens of each step."""
    counts = [sum(label != -100 for label in row["labels"][1:]) for row in rows]
    size = spec["batch"]
    return [sum(counts[start : start + size]) for start in range(0, len(counts), size)]


def padded(rows: list[dict[str, Any]], pad: int) -> dict[str, Any]:
    """Rows as a batch, padded on the right."""
    import torch

    width = max(len(row["input_ids"]) for row in rows)

    def column(name: str, fill: int) -> Any:
        return torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])

    lengths = torch.tensor([[len(row["input_ids"])] for row in rows])
    mask = (torch.arange(width)[None] < lengths).long()
    return {
        "input_ids": column("input_ids", pad),
        "labels": column("labels", -100),
        "attention_mask": mask,
    }


def device_of(spec: dict[str, Any]) -> Any:
    """The device that is asked for."""
    import torch

    wanted = spec["device"]
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


# --- ours ---------------------------------------------------------------------------------------


def prepare(spec: dict[str, Any]) -> dict[str, Any]:
    """Write the student's weights and the token ids of every case; returns facts of the cases."""
    from distill_core import models
    from distill_core.data.formats import Row
    from distill_core.data.row_order import batch_order
    from distill_core.data.tokenize import Encoded, encode
    from distill_core.recipe import LayerDropStudent
    from distill_core.students.build import build_student

    work = Path(spec["work"])
    source = models.resolve(spec["teacher"])
    tokenizer = models.load_tokenizer(source)
    if not (work / "student" / "config.json").is_file():
        settings = LayerDropStudent(layers=spec["layers"], keep="lower")
        student = build_student(settings, source=source, seed=0)
        models.save(student, tokenizer, work / "student")
    (work / "teacher.json").write_text(json.dumps(str(source)))
    wanted = spec["steps"] * spec["batch"]
    pairs = [json.loads(line) for line in Path(spec["rows"]).read_text("utf-8").split("\n") if line]
    chats = [
        (
            {"role": "user", "content": pair["question"]},
            {"role": "assistant", "content": pair["answer"]},
        )
        for pair in pairs
    ]

    def long_chats() -> Iterator[Encoded]:
        so_far: tuple[dict[str, str], ...] = ()
        for chat in chats:
            so_far = (*so_far, *chat)
            item = encode(Row(so_far, None, "rows"), tokenizer, 1 << 20)
            if len(item.input_ids) >= spec["long"]:
                cut = spec["long"]
                yield Encoded(item.input_ids[:cut], item.labels[:cut], True, False)
                so_far = ()

    facts = {}
    for case in spec["cases"]:
        if case == "rows":
            items = [encode(Row(chat, None, "rows"), tokenizer, 2048) for chat in chats[:wanted]]
        else:
            found = long_chats()
            items = [next(found) for _ in range(wanted)]
        order = batch_order(
            len(items), global_batch_size=spec["batch"], steps=spec["steps"], seed=0
        )
        places = [place for step in range(spec["steps"]) for place in order[step]]
        own = [{"input_ids": item.input_ids, "labels": item.labels} for item in items]
        prepared = {"own": own, "batches": [own[place] for place in places]}
        (work / f"{case}.json").write_text(json.dumps(prepared))
        lengths = [len(row["input_ids"]) for row in own]
        facts[case] = {
            "tokens_per_row": sum(lengths) / len(own),
            "longest": max(lengths),
            "supervised_per_row": sum(supervised_of(spec, own)) / len(own),
        }
    return facts


def ours(precision: str, *, cached: bool = False) -> Any:
    """The product's own trainer, chunked loss and micro-batches by tokens included."""

    def work(spec: dict[str, Any]) -> dict[str, Any]:
        import torch

        from distill_core import models
        from distill_core.checkpoints import Checkpoints
        from distill_core.data.tokenize import Encoded, pad_token_id
        from distill_core.losses.objective import Objective
        from distill_core.recipe import ForwardKLLoss, OptimSettings
        from distill_core.teachers.loading import Part, load_network
        from distill_core.teachers.local import LocalTeacher
        from distill_core.trainer import TrainingStage, train

        folder = Path(spec["work"])
        device = device_of(spec)
        source = Path(json.loads((folder / "teacher.json").read_text()))
        tokenizer = models.load_tokenizer(source)
        items = [
            Encoded(row["input_ids"], row["labels"], True, False)
            for row in json.loads((folder / f"{spec['case']}.json").read_text())["own"]
        ]

        def load() -> LocalTeacher:
            network = load_network(
                [Part(source)], precision=precision, device=device, vocab_size=len(tokenizer)
            )
            return LocalTeacher(network, vocab_size=len(tokenizer), stop_ids=set())

        teacher: Any = kept(spec, source, tokenizer, items, load, device) if cached else load()
        student = models.load_model(folder / "student", dtype=torch.float32, device=device)
        clock = Clock(spec)
        stage = TrainingStage(
            index=0,
            student=student.train(),
            objective=Objective([ForwardKLLoss(weight=1.0)]),
            rows=items,
            optim=OptimSettings(
                learning_rate=RATE,
                weight_decay=DECAY,
                grad_clip_norm=CLIP,
                schedule="constant",
                warmup_fraction=0.0,
                global_batch_size=spec["batch"],
                micro_batch_size=spec["batch"],
            ),
            total_steps=spec["steps"],
            seed=0,
            vocab_size=len(tokenizer),
            pad_token_id=pad_token_id(tokenizer),
            checkpoints=Checkpoints(folder / "none", keep=1),
            checkpoint_every=10**9,
            evaluate_every=10**9,
            teacher=teacher,
            use_cpu=device.type == "cpu",
        )
        clock.tick()
        for happening in train(stage):
            if happening["type"] == "step":
                clock.tick()
                clock.losses.append(happening["metrics"]["loss"])
        return clock.told(spec, supervised_of(spec, rows_of(spec)))

    return work


def kept(
    spec: dict[str, Any], source: Path, tokenizer: Any, items: list[Any], load: Any, device: Any
) -> Any:
    """The teacher's hidden states of all rows; a child process asks for what is not kept yet."""
    import subprocess

    from distill_core.data.tokenize import pad_token_id
    from distill_core.recipe import HiddenCache
    from distill_core.teachers.cache_pass import Questions, Reading, fill
    from distill_core.teachers.cached import CachedTeacher
    from distill_core.teachers.loading import Part, identity
    from distill_core.teachers.on_demand import OnDemandTeacher

    folder = Path(spec["work"]) / "cache"
    done = folder / f"{spec['case']} {spec['steps']} {device.type}"
    if not done.is_file() and not spec.get("fills"):
        own = {**spec, "fills": True}
        script = Path(__file__).with_name("peers_step.py")
        given = ["--rows", spec["rows"], "--one", json.dumps(own), "--ways", "warm cache"]
        subprocess.run([sys.executable, script, *given], check=True, stdout=subprocess.DEVNULL)
    cached = CachedTeacher(
        HiddenCache(),
        root=folder,
        teacher=identity([Part(source)], precision="fp32", device=device),
        tokenizer=tokenizer,
        temperature=1.0,
        classes=None,
        device=device,
    )
    teacher = OnDemandTeacher(load, device=device, note=folder / "note.json")
    folder.mkdir(parents=True, exist_ok=True)
    reading = Reading(items, pad_token_id(tokenizer))
    list(fill(cached, teacher, rows=reading, held_out=Questions()))
    done.touch()
    assert spec.get("fills") or not teacher.is_loaded, "the cache was warm"
    return cached


# --- peers --------------------------------------------------------------------------------------


def trl(spec: dict[str, Any]) -> dict[str, Any]:
    """`GKDTrainer` with lmbda = 0 and beta = 0.

    At these values its loss is KL(teacher ‖ student), the mean over the supervised tokens of the
    whole batch, without a temperature: its `temperature` is for sampling alone. Its defaults of
    bf16 and gradient checkpointing are off: fp32 is what is compared, and checkpointing is slower.
    """
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    folder, device = Path(spec["work"]), device_of(spec)
    rows, clock = rows_of(spec), Clock(spec)
    teacher_folder = json.loads((folder / "teacher.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token

    class InOrder(GKDTrainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return SequentialSampler(range(len(rows)))

        def compute_loss(self, *given: Any, **how: Any) -> Any:
            loss = super().compute_loss(*given, **how)
            clock.losses.append(float(loss.detach()))
            return loss

    class Watch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.tick()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    def load(path: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    from datasets import Dataset

    trainer = InOrder(
        model=load(folder / "student"),
        teacher_model=load(teacher_folder),
        args=GKDConfig(
            output_dir=str(folder / "trl"),
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=spec["batch"],
            max_steps=spec["steps"],
            learning_rate=RATE,
            weight_decay=DECAY,
            max_grad_norm=CLIP,
            adam_beta2=0.95,
            optim="adamw_torch_fused",
            lr_scheduler_type="constant",
            warmup_steps=0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=device.type == "cpu",
            dataloader_pin_memory=device.type == "cuda",
        ),
        data_collator=lambda batch: padded(batch, tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Watch()],
    )
    trainer.train()
    return clock.told(spec, supervised_of(spec, rows))


def distill_anything(spec: dict[str, Any]) -> dict[str, Any]:
    """`DistillTrainer` in mode logit, forward_kl, alpha = 1, temperature 1.

    Its loss is KL(teacher ‖ student), the mean over supervised tokens. On CUDA it would compute in
    bf16 by itself, which is turned off.
    """
    import torch
    from distillanything.config import DistillConfig
    from distillanything.train import trainer as theirs
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, device = Path(spec["work"]), device_of(spec)
    rows, clock = rows_of(spec), Clock(spec)
    teacher_folder = json.loads((folder / "teacher.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    theirs.best_device = lambda: device
    theirs.autocast_dtype = lambda _: None
    theirs.console.file = sys.stderr

    class InOrder(theirs.DistillTrainer):
        def _dataloader(self, dataset: Any, shuffle: bool) -> Any:
            return super()._dataloader(dataset, shuffle=False)

        def _append_metric(self, entry: dict[str, Any]) -> None:
            super()._append_metric(entry)
            clock.tick()
            clock.losses.append(entry["kd"])

        def _write_status(self, state: str, **more: Any) -> None:
            super()._write_status(state, **more)
            if state == "running":
                clock.tick()

        def save(self, *_: Any) -> None:
            """Saving the student is no part of a step."""

    def load(path: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    config = DistillConfig.model_validate(
        {
            "mode": "logit",
            "loss": {"kind": "forward_kl", "temperature": 1.0, "alpha": 1.0},
            "train": {
                "output_dir": str(folder / "distill_anything"),
                "lr": RATE,
                "max_steps": spec["steps"],
                "batch_size": spec["batch"],
                "grad_accum": 1,
                "warmup_ratio": 0.0,
                "weight_decay": DECAY,
                "grad_clip": CLIP,
                "log_every": 1,
            },
        }
    )
    tensors = [{name: torch.tensor(row[name]) for name in row} for row in copy.deepcopy(rows)]
    InOrder(
        load(folder / "student"), tokenizer, tensors, config, teacher_model=load(teacher_folder)
    ).train()
    return clock.told(spec, supervised_of(spec, rows))


WAYS = {
    "prepare": prepare,
    "trl": trl,
    "distill-anything": distill_anything,
    "online": ours("fp32"),
    "int8 teacher": ours("int8"),
    "bf16 teacher": ours("bf16"),
    "warm cache": ours("fp32", cached=True),
}
