"""What `broken_on_purpose.py` breaks, by property, C1 to C11: one wrong line at a time.

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
NETWORK, LOCAL = f"{CORE}forward/network.py", f"{CORE}teachers/local.py"
BOTH_SIDES, CHUNKED = f"{CORE}steps/both_sides.py", f"{CORE}losses/chunked.py"
SUPERVISED, CHECKPOINTS = f"{CORE}forward/supervised.py", f"{CORE}checkpoints.py"
ROW_BLOCK = f"{CORE}losses/row_block.py"

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
        '"supervised": len(self.places),',
        '"supervised": self.labels.numel(),',
    ),
    Mutant(
        "C1",
        "value relations reach into padding",
        NETWORK,
        "seen = mask[:, None, None, :].bool().expand(-1, 1, length, -1)",
        "seen = torch.ones_like(mask)[:, None, None, :].bool().expand(-1, 1, length, -1)",
    ),
    Mutant(
        "C1",
        "sequences side by side see each other",
        BATCHES,
        "self.attention_mask.sum(1).tolist()",
        "[int(self.attention_mask.sum())]",
    ),
    # --- C2 shift
    Mutant(
        "C2",
        "what lay side by side is read one place too late",
        SUPERVISED,
        "outputs.states.index_select(0, batch.real.supervised)",
        "outputs.states.roll(-1, 0).index_select(0, batch.real.supervised)",
    ),
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
        BOTH_SIDES,
        "    comparison = objective.comparison(\n",
        "    if theirs is not None:\n"
        "        from distill_core.losses.logit_rows import DenseRows\n\n"
        "        theirs = theirs._replace(rows=DenseRows(theirs.logits.roll(1, 0)))\n"
        "    comparison = objective.comparison(\n",
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
    Mutant(
        "C3",
        "T² is shown and not differentiated, chunk by chunk",
        ROW_BLOCK,
        "piece = slope().mul_((t * share)[:, None])",
        "piece = slope().mul_((share / t)[:, None])",
    ),
    Mutant(
        "C3",
        "the temperature never reaches a chunk",
        ROW_BLOCK,
        "t = temperatures[part.side]",
        "t = 1.0",
    ),
    # --- C4 accumulation
    Mutant(
        "C4",
        "each micro-batch has a mean of its own",
        OBJECTIVE,
        "share = self.weights[term.name] / max(1, totals[term.name])",
        "share = self.weights[term.name] / max(1, len(targets))",
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
        "padded rows of the student's head reach the softmax",
        CHUNKED,
        "given, size = task.comparison, task.vocab_size",
        "given, size = task.comparison, len(weight)",
    ),
    Mutant(
        "C5",
        "padded rows of the teacher's head reach the softmax",
        SUPERVISED,
        "return HeadRows(_states(outputs, batch), self._parts[1], self.vocab_size)",
        "return HeadRows(_states(outputs, batch), self._parts[1], len(self._parts[1].weight))",
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
        "what is left after whole chunks is dropped",
        CHUNKED,
        "zip(range(0, count, size), theirs, strict=False)",
        "zip(range(0, count - count % size, size), theirs, strict=False)",
    ),
    Mutant(
        "C6",
        "each chunk overwrites the head's gradient",
        CHUNKED,
        "                _add_product(of_weight[:size], logits.T, cast[rows])",
        "                of_weight.zero_()\n"
        "                _add_product(of_weight[:size], logits.T, cast[rows])",
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
        "half a cross-entropy is mixed in, and not shown",
        ROW_BLOCK,
        "    return values, total",
        "    soft = Softened(block, None, targets, temperature=1.0)\n"
        "    more = slopes.cross_entropy(soft, None)[1]().mul_(0.5 / len(targets))\n"
        "    return values, more if total is None else total.add_(more)",
    ),
    Mutant(
        "C8",
        "a slope worked out by hand forgets what the mixture adds",
        f"{CORE}losses/slopes.py",
        "g = ratio - skew * ratio.exp()",
        "g = ratio.clone()",
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
        "outputs.hidden_states[layer].flatten(0, 1)",
        "outputs.hidden_states[layer - 1].flatten(0, 1)",
    ),
    # --- C9 sparse teachers
    Mutant(
        "C9",
        "the teacher's eight likeliest tokens share all the mass",
        LOCAL,
        "return self._network.eval().look(batch.for_teacher)",
        "from distill_core.losses.logit_rows import DenseRows\n\n"
        "            view = self._network.eval().look(batch.for_teacher)\n"
        "            least = view.logits.topk(8).values[:, -1:]\n"
        "            few = view.logits.masked_fill(view.logits < least, -1e9)\n"
        "            return view._replace(rows=DenseRows(few))",
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
]
