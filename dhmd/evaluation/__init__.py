"""Metrics as the field computes them, and the files of `metrics/<dataset>/`, all in Git.

    metrics.json            {"test": {metric: {mean, std}}, "valid": …, "n_seeds", "undefined"}; on
                            generated corpora also "truth" (scores against the planted truth) and
                            "ceiling" (the planted truth's own score): the one DVC metrics file
    seeds.csv               a row a seed and split
    predictions.csv         a row a test utterance: id, label, a column a seed; everything above
                            can be computed again from it (and from truth.csv)
    identity.json           what was measured: dataset, task, corpus, fold, protocol
    intervals.json          {metric: {low, high}} over test utterances (bootstrap by video)
    unimodal.csv            the pretrained encoders, a row a modality, seed and split
    floors.json             median label (most frequent class), ridge on pooled features
    ablations.json, .csv    variants − full, paired by seed, Holm-corrected; rows a seed and split
    missing_modalities.*    the full model with modalities withheld − full; rows a seed
    edges.json              GD-Units' mean edges, spreads, rank correlation with planted reliability
    dictionary.json         active, used and dead codes, overlaps
    truth.csv               generated corpora: the test utterances' labels without noise

Numbers are unrounded and byte-stable; rounding is for tables. `metrics`, `bootstrap`, `statistics`,
`files`, `summary` and `identity` are light, for the gate; `job` writes the folder.
"""
