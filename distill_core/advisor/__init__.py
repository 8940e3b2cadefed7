"""Distil or fine-tune: answers in, a recommendation with reasons and a recipe out."""

from distill_core.advisor.questions import default_answers, default_for, is_asked, questions
from distill_core.advisor.rules import advise

__all__ = ["advise", "default_answers", "default_for", "is_asked", "questions"]
