"""Where the teacher's view of a batch comes from."""
