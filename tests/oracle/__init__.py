"""A plain DHMD to hold the fast one against.

`plain` is one member's model from ordinary torch layers, one module a modality, padded to full
length: what one would write first, and what the benchmarks measure the engine against. `equations`
are the losses as loops over utterances, steps and triplets: slow, and hard to get wrong. `weights`
puts a member of the fast model into the plain one.
"""
