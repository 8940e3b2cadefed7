"""What a stage needs before and around its training: rows, student, teacher, looks at it."""
