"""Primitives that own the replica axis.

Every parameter is `[R, G, …]`: R replicas (seeds) and G groups (modalities, or pairs of them) that
share a shape but not weights; every activation is `[R, G, …]` too. A primitive with G = 1 serves
any number of groups with the same weights. The model above reads like a model for one seed.
"""
