"""The rest of what `broken_on_purpose.py` breaks: from templates to settings, C12 to C20.

In: nothing. Out: `MORE_MUTANTS`.
"""

from __future__ import annotations

from tests.benchmarks.mutants import (
    BATCHES,
    CHECKPOINTS,
    CORE,
    DIVERGENCES,
    LOCAL,
    NETWORK,
    OBJECTIVE,
    TRAINER,
    Mutant,
)

LOSS_SETTINGS = f"{CORE}recipe/losses.py"
SOURCES, CONCLUSIONS = f"{CORE}data/sources.py", f"{CORE}conclusions.py"

MORE_MUTANTS = [
    # --- C12 teacher mode
    Mutant(
        "C12",
        "the teacher stays in whatever mode it is in",
        LOCAL,
        "        self.model.eval()\n        with self._own_format():\n"
        "            return self._network.eval().look(batch.for_teacher)",
        "        with self._own_format():\n"
        "            return self._network.look(batch.for_teacher)",
    ),
    Mutant(
        "C12",
        "the teacher's pass keeps gradients",
        LOCAL,
        "@torch.no_grad()\n    def view(",
        "def view(",
    ),
    Mutant(
        "C12",
        "the student stays in eval mode after it has written",
        f"{CORE}data/on_policy.py",
        "            module.training = mode",
        "            module.training = False",
    ),
    # --- C13 template
    Mutant(
        "C13",
        "the teacher reads the student's template",
        LOCAL,
        "return self._network.eval().look(batch.for_teacher)",
        "return self._network.eval().look(batch)",
    ),
    Mutant(
        "C13",
        "rows are read once for both templates",
        f"{CORE}data/alignment.py",
        "item, theirs = encode(row, student, max_seq_len), encode(row, teacher, max_seq_len)",
        "item, theirs = encode(row, student, max_seq_len), encode(row, student, max_seq_len)",
    ),
    # --- C14 precision
    Mutant(
        "C14",
        "divergences in the dtype of the logits",
        DIVERGENCES,
        "log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)",
        "log_q = functional.log_softmax(student_logits / temperature, dim=-1)",
    ),
    Mutant(
        "C14",
        "chunks in the dtype of the logits",
        f"{CORE}losses/slopes.py",
        "cut = logits[:, : self.width].float()",
        "cut = logits[:, : self.width]",
    ),
    Mutant(
        "C14",
        "a step that is not finite is taken",
        TRAINER,
        "if not all(math.isfinite(value) for value in metrics.values()):",
        "if not all(value == value for value in []):",
    ),
    Mutant(
        "C14",
        "a refused step overwrites the last good checkpoint",
        TRAINER,
        "(step % stage.checkpoint_every == 0 and not last and refused == 0)",
        "(step % stage.checkpoint_every == 0 and not last)",
    ),
    # --- C15 layer maps
    Mutant(
        "C15",
        "the last layer is left out",
        f"{CORE}students/layer_map.py",
        "last = (student_layers, teacher_layers)",
        "last = (student_layers, teacher_layers - 1)",
    ),
    Mutant(
        "C15",
        "the map does not follow the layers that were copied",
        f"{CORE}stages/learner.py",
        "kept=parts.layers,",
        "kept=None,",
    ),
    Mutant(
        "C15",
        "projectors are not saved, and start anew",
        TRAINER,
        '"model": trained_together(stage.student, projectors),',
        '"model": stage.student,',
    ),
    Mutant(
        "C15",
        "projectors do not train",
        NETWORK,
        "self.projectors = projectors if projectors is not None else nn.ModuleDict()",
        "self.projectors = (projectors or nn.ModuleDict()).requires_grad_(False)",
    ),
    Mutant(
        "C15",
        "attention without weights",
        NETWORK,
        '_base(model).set_attn_implementation("eager")  # the others return no weights',
        "pass",
    ),
    # --- C16 two processes
    Mutant(
        "C16",
        "the gradient is averaged over processes, not summed",
        TRAINER,
        "accelerator.backward(loss * (0.0 if spare else float(processes)))",
        "accelerator.backward(loss * (0.0 if spare else 1.0))",
    ),
    Mutant(
        "C16",
        "each process counts its own tokens",
        TRAINER,
        "for batch in batches:  # every process counts the whole step: no communication is needed",
        "for batch in batches[ranks.number() :: ranks.count()] or batches[:1]:",
    ),
    Mutant(
        "C16",
        "the inner model is called in the place of the wrapper",
        TRAINER,
        "rows = supervised_rows(\n                wrapped,",
        "rows = supervised_rows(\n                accelerator.unwrap_model(wrapped),",
    ),
    Mutant(
        "C16",
        "every process writes",
        CHECKPOINTS,
        "return ranks.agree(lambda: self._write(step, model, optimizer, states))",
        "return self._write(step, model, optimizer, states)",
    ),
    Mutant(
        "C16",
        "the losses shown are those of one process",
        TRAINER,
        'sums = accelerator.reduce(sums, reduction="sum") if processes > 1 else sums',
        "sums = sums",
    ),
    Mutant(
        "C16",
        "both processes get the random state of the first",
        CHECKPOINTS,
        "restore_random_state(states[ranks.number()], device)",
        "restore_random_state(states[0], device)",
    ),
    # --- C17 words
    Mutant(
        "C17",
        "the words for β are the other way round",
        LOSS_SETTINGS,
        "Share of the teacher in the mixture: 0 is teacher → student and covers every ",
        "Share of the student in the mixture: 0 is teacher → student and covers every ",
    ),
    Mutant(
        "C17",
        "the reverse KL is said to cover every mode",
        LOSS_SETTINGS,
        "KL(student ‖ teacher), student → teacher: seeks the teacher's likeliest modes.",
        "KL(student ‖ teacher), student → teacher: covers every mode of the teacher.",
    ),
    Mutant(
        "C17",
        "skew is the other model's share",
        DIVERGENCES,
        "_log_mixture(log_p, log_q, share=skew)",
        "_log_mixture(log_q, log_p, share=skew)",
    ),
    # --- C18 own samples
    Mutant(
        "C18",
        "the student's own words are labels",
        f"{CORE}data/on_policy.py",
        "labelled=False,",
        "labelled=True,",
    ),
    Mutant(
        "C18",
        "labels are asked of every row",
        BATCHES,
        "return self.labelled[self.places // self.labels.shape[1]]",
        "return torch.ones_like(self.places, dtype=torch.bool)",
    ),
    # --- C19 honest evaluation
    Mutant(
        "C19",
        "rows are held out by their place",
        SOURCES,
        "_place(row, key := row.content_hash) < data.held_out",
        "place < data.held_out * len(rows) and (key := row.content_hash)",
    ),
    Mutant(
        "C19",
        "held-out prompts stay in the training rows",
        SOURCES,
        "if asked.isdisjoint((key, *_earlier_prompts(row)))",
        "if key",
    ),
    Mutant(
        "C19",
        "one seed is enough for a verdict",
        CONCLUSIONS,
        "if len(runs) < 2:",
        "if len(runs) < 1:",
    ),
    Mutant(
        "C19",
        "means decide, without a test",
        CONCLUSIONS,
        "better, worse = (low > 0, high < 0) if way > 0 else (high < 0, low > 0)",
        "better = way * float(np.mean(mine - theirs)) > 0\n    worse = not better\n    p = 0.0",
    ),
    Mutant(
        "C19",
        "the KL that is shown is the student's own cross-entropy",
        f"{CORE}scoring/one_batch.py",
        "forward_kl(logits, theirs).double()",
        "forward_kl(logits, logits + 1e-3 * theirs).double()",
    ),
    # --- C20 no dead switch
    Mutant(
        "C20",
        "the weight decay is never read",
        f"{CORE}steps/optimizer.py",
        "parameter_groups(network, optim.weight_decay),",
        "parameter_groups(network, 0.01),",
    ),
    Mutant(
        "C20",
        "the way of a schedule is never read",
        f"{CORE}steps/schedule.py",
        'share = way if setting.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * way))',
        "share = way",
    ),
    Mutant(
        "C20",
        "uld_weight is never read",
        OBJECTIVE,
        "uld_weight=settings.uld_weight,",
        "uld_weight=1.0,",
    ),
    Mutant(
        "C20",
        "a setting that nobody reads",
        f"{CORE}recipe/stages.py",
        "    weight_decay: float = Field(",
        '    progressive: bool = Field(False, description="Grow the student as it learns.")\n'
        "    weight_decay: float = Field(",
    ),
    Mutant(
        "C20",
        "the number of checkpoints to keep is never read",
        f"{CORE}stages/stage.py",
        "keep=this.recipe.checkpoints.keep",
        "keep=2",
    ),
]
