"""From files and data sets to rows, tokens and batches.

`sources` reads and splits (`files` and `hub` do the reading), `formats` knows what a row is,
`tokenize` turns rows into token ids and labels, `batches` pads and orders them. Only `batches`
imports torch, so nothing is re-exported here.
"""
