"""Logits of a classifier: one row for each text.

In: a model with a head that tells classes apart, and a `ClassBatch`. Out: logits (B, V), V classes.
Knows nothing of losses or of what the classes are called.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from distill_core.data.batches import Batch
from distill_core.data.class_batches import ClassBatch
from distill_core.losses.chunked import Compared, Comparison
from distill_core.losses.logit_rows import DenseRows, LogitRows
from distill_core.teachers.mixture import Mixture, mixed


class ClassLogits(nn.Module):
    """A classifier whose forward pass gives logits (B, V), all classes of each text.

    Args:
        model: An encoder or a decoder with such a head, with or without a LoRA adapter, or a
            `Mixture` of them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        several = model.members if isinstance(model, Mixture) else ()
        # a list, so that the members are not registered twice as submodules
        self._members = [ClassLogits(one) for one in several]
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self._config = base.config
        self._takes_segments = "token_type_ids" in inspect.signature(base.forward).parameters

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, V), in the order of the batch."""
        return self.logits(self.outputs(batch), batch)

    def outputs(self, batch: Batch, *, whole: bool = False, **wishes: bool) -> Any:
        """What the model says of each text; `wishes` such as `output_hidden_states`.

        Texts are always padded, whether somebody looks inside (`whole`) or not.
        """
        assert isinstance(batch, ClassBatch), "classifiers read texts"
        if self._members:
            return [one.outputs(batch, whole=whole, **wishes) for one in self._members]
        # a decoder reads its class off the last token that is no padding, which it tells by this id
        self._config.pad_token_id = batch.pad_token_id
        has_segments = self._takes_segments and batch.token_type_ids is not None
        more = {"token_type_ids": batch.token_type_ids} if has_segments else {}
        return self.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, **more, **wishes
        )

    def longest_packed(self) -> int:
        """None: texts are always padded."""
        return 0

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """Logits (B, V) from the model's outputs."""
        if self._members:
            shares = (one.logits for one in outputs)
            return mixed(shares, self.model.weights)  # type: ignore[arg-type]
        logits: Tensor = outputs.logits
        return logits

    def rows(self, outputs: Any, batch: Batch) -> LogitRows:
        """The same logits: a few classes need no chunks."""
        return DenseRows(self.logits(outputs, batch))

    def compared(self, outputs: Any, batch: Batch, comparison: Comparison) -> Compared | None:
        """Never: a head of few classes is compared as a whole."""
        return None
