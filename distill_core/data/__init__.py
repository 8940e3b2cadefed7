"""From files and data sets to rows, tokens and batches."""
