"""The embedded default: the pocket assistant's rows, and a teacher that has learned them.

In: the name of a split. Out: rows, or the folder of the teacher. Loads no torch; the tokenizer and
the training of the teacher (`build`) are imported only by those who rebuild it.
"""

from distill_core.starter.loader import teacher_dir
from distill_core.starter.splits import SPLITS, WRONG_LABEL_SHARE, Split, action, rows

__all__ = ["SPLITS", "WRONG_LABEL_SHARE", "Split", "action", "rows", "teacher_dir"]
