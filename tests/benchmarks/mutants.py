"""What `broken_on_purpose.py` breaks, by property, C1 to C12: one wrong line at a time.

In: nothing. Out: `MUTANTS`. Each was made by hand after what went wrong in public engines.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A file in which `old`, found exactly once, becomes `new`."""

    property: str
    words: str
    file: str
    old: str
    new: str


CORE = "distill_core/"
TRAINER, OBJECTIVE = f"{CORE}trainer.py", f"{CORE}losses/objective.py"
DIVERGENCES, BATCHES = f"{CORE}losses/divergences.py", f"{CORE}data/batches.py"
NETWORK, LOCAL = f"{CORE}network.py", f"{CORE}teachers/local.py"
SUPERVISED, CHECKPOINTS = f"{CORE}supervised.py", f"{CORE}checkpoints.py"

MUTANTS = [
    # --- C1 masks
    Mutant(
        "C1",
        "padding is attended to",
        SUPERVISED,
        '"attention_mask": batch.attention_mask,',
        '"attention_mask": torch.ones_like(batch.attention_mask),',
    ),
    Mutant(
        "C1",
        "the mean is over all positions, padding included",
        BATCHES,
        '"supervised": int(self.supervised.sum()),',
        '"supervised": self.labels.numel(),',
    ),
    Mutant(
        "C1",
        "value relations reach into padding",
        NETWORK,
        "seen = mask[:, None, None, :].bool().expand(-1, 1, length, -1)",
        "seen = torch.ones_like(mask)[:, None, None, :].bool().expand(-1, 1, length, -1)",
    ),
    # --- C2 shift
    Mutant(
        "C2",
        "the position of a label is taken, not the one before it",
        BATCHES,
        "supervised[:, :-1] = (self.labels[:, 1:] != IGNORE_INDEX) & real",
        "supervised[:, 1:] = (self.labels[:, 1:] != IGNORE_INDEX) & real",
    ),
    Mutant(
        "C2",
        "the teacher's rows are one off",
        TRAINER,
        "theirs.logits if theirs else None,",
        "theirs.logits.roll(1, 0) if theirs else None,",
    ),
    # --- C3 temperature
    Mutant(
        "C3",
        "no T² in the forward KL",
        DIVERGENCES,
        "log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)\n"
        "    return temperature**2 * _kl(log_p, log_q)\n\n\ndef reverse_kl(",
        "log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)\n"
        "    return _kl(log_p, log_q)\n\n\ndef reverse_kl(",
    ),
    Mutant(
        "C3",
        "T² scales what is shown, not what is differentiated",
        OBJECTIVE,
        "loss = loss + self.weights[settings.name] * total / max(1, totals[settings.name])",
        'square = getattr(settings, "temperature", 1.0) ** 2\n'
        "            loss = loss + self.weights[settings.name] * total / square / max(\n"
        "                1, totals[settings.name]\n            )",
    ),
    Mutant(
        "C3",
        "the temperature never reaches the loss",
        OBJECTIVE,
        'given = {name: getattr(settings, name) for name in ("temperature", *own)}',
        "given = {name: getattr(settings, name) for name in own}",
    ),
    # --- C4 accumulation
    Mutant(
        "C4",
        "each micro-batch has a mean of its own",
        OBJECTIVE,
        "total / max(1, totals[settings.name])",
        "total / max(1, len(values))",
    ),
    Mutant(
        "C4",
        "only the last micro-batch of a step counts",
        TRAINER,
        "optimizer.zero_grad(set_to_none=True)\n    for turn in range(turns):",
        "for turn in range(turns):\n        optimizer.zero_grad(set_to_none=True)",
    ),
    # --- C5 vocabulary
    Mutant(
        "C5",
        "padded rows of the head reach the softmax",
        SUPERVISED,
        "return logits[:, : self.vocab_size]",
        "return logits",
    ),
    Mutant(
        "C5",
        "vocabularies are compared by size",
        f"{CORE}data/vocabularies.py",
        "if teacher == student:",
        "if len(teacher) == len(student):",
    ),
    # --- C6 chunks
    Mutant(
        "C6",
        "an empty chunk has a mean",
        OBJECTIVE,
        "total = values.sum()",
        "total = values.mean() * len(values)",
    ),
    Mutant(
        "C6",
        "the last row of an odd chunk is dropped",
        OBJECTIVE,
        "total = values.sum()",
        "total = values[: len(values) - len(values) % 2 * (len(values) > 1)].sum()",
    ),
    # --- C7 divergences
    Mutant(
        "C7",
        "the reverse KL is the forward one",
        DIVERGENCES,
        "log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)\n"
        "    return temperature**2 * _kl(log_q, log_p)\n\n\ndef jsd(",
        "log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)\n"
        "    return temperature**2 * _kl(log_p, log_q)\n\n\ndef jsd(",
    ),
    Mutant(
        "C7",
        "β is the student's share",
        DIVERGENCES,
        "log_m = _log_mixture(log_p, log_q, share=beta)",
        "log_m = _log_mixture(log_q, log_p, share=beta)",
    ),
    Mutant(
        "C7",
        "the forward KL is a cross-entropy",
        DIVERGENCES,
        'return functional.kl_div(log_b, log_a, reduction="none", log_target=True).sum(-1)',
        "return -(log_a.exp() * log_b).sum(-1)",
    ),
    # --- C8 one truth
    Mutant(
        "C8",
        "half a cross-entropy is mixed in",
        OBJECTIVE,
        "if rows.dropped_mass is not None:",
        "loss = loss + 0.5 * torch.nn.functional.cross_entropy(\n"
        "            rows.student_logits.float(), rows.targets\n        )\n"
        "        if rows.dropped_mass is not None:",
    ),
    Mutant(
        "C8",
        "teachers are mixed by their logits",
        f"{CORE}teachers/mixture.py",
        "share = one.float().log_softmax(-1) + math.log(weight)\n"
        "        total = share if total is None else torch.logaddexp(total, share)",
        "share = one.float() * weight\n        total = share if total is None else total + share",
    ),
    Mutant(
        "C8",
        "hidden states are those before the layer",
        NETWORK,
        "outputs.hidden_states[layer][chosen] for layer",
        "outputs.hidden_states[layer - 1][chosen] for layer",
    ),
    # --- C9 sparse teachers
    Mutant(
        "C9",
        "the teacher's eight likeliest tokens share all the mass",
        LOCAL,
        "view: View = self._network.eval()(batch.for_teacher)",
        "view: View = self._network.eval()(batch.for_teacher)\n"
        "            least = view.logits.topk(8).values[:, -1:]\n"
        "            few = view.logits.masked_fill(view.logits < least, -1e9)\n"
        "            view = view._replace(logits=few)",
    ),
    # --- C10 cache identity
    Mutant(
        "C10",
        "answers are kept under the settings, not under the teacher",
        f"{CORE}teachers/answers.py",
        '"teacher": fingerprint,',
        '"teacher": "",',
    ),
    Mutant(
        "C10",
        "answers are kept by the place of the row",
        f"{CORE}teachers/answers.py",
        "key = asked.key_of[place] = _row_key(prompt)",
        "key = asked.key_of[place] = _row_key([place])",
    ),
    Mutant(
        "C10",
        "the template is no part of the key",
        f"{CORE}teachers/answers.py",
        '"template": tokenizer.chat_template,',
        '"template": "",',
    ),
    # --- C11 special tokens
    Mutant(
        "C11",
        "a second BOS where the template has written one",
        f"{CORE}data/tokenize.py",
        "if bos is None or ids[:1] == [bos]:",
        "if bos is None:",
    ),
    Mutant(
        "C11",
        "padding is told by its id",
        BATCHES,
        "ids[line, place], labels[line, place], mask[line, place] = item.input_ids, item.labels, 1",
        "ids[line, place], labels[line, place] = item.input_ids, item.labels\n"
        "        mask[line, place] = np.asarray(item.input_ids) != pad_token_id",
    ),
    Mutant(
        "C11",
        "the end of a text is not learnt",
        f"{CORE}data/chat.py",
        'yield Segment(row.text + (tokenizer.eos_token or ""), row.text)',
        "yield Segment(row.text, row.text)",
    ),
    # --- C12 teacher mode
    Mutant(
        "C12",
        "the teacher stays in whatever mode it is in",
        LOCAL,
        "        self.model.eval()\n        with self._own_format():\n"
        "            view: View = self._network.eval()(batch.for_teacher)",
        "        with self._own_format():\n"
        "            view: View = self._network(batch.for_teacher)",
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
]
