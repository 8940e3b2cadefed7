"""What a student starts from: published, smaller and new, or the teacher's layers."""
