"""Evaluation: metrics, statistics, and the files of `metrics/<dataset>/`, which Git tracks.

    metrics.json              headline values, the DVC metrics file
    details/
      summary.json            {"test", "valid": {metric: {mean, std}}, "n_seeds", "undefined"}; for
                              generated corpora also "truth" (scores against the ground truth) and
                              "oracle" (scores of the ground truth against the noisy labels)
      seeds.csv               scores: one row per seed and split
      predictions.csv         one row per test utterance: id, label, one column per seed; all scores
                              can be recomputed from it (and from truth.csv)
      identity.json           what was measured: dataset, task, corpus, fold, protocol
      intervals.json          {metric: {low, high}} over test utterances (bootstrap by video)
      unimodal.csv            the pretrained encoders: one row per modality, seed and split
      trivial_baselines.json  median label (most frequent class), ridge on pooled features
      ablations.json, .csv    variant - full, paired by seed, Holm-corrected; rows per seed
      missing_modalities.*    the full model with modalities dropped or replaced by noise - full;
                              rows per seed
      missing_by_variant.*    every variant under the same conditions - the full model under them,
                              by condition and in the primary metric; rows per seed
      edges.json              mean edge weights of the GD-Units, spreads, rank correlation with the
                              planted reliability
      dictionary.json         active, used and dead codes, overlaps
      truth.csv               generated corpora: labels of the test utterances before noise

Numbers are not rounded and the files are the same bytes on every run. `metrics`, `statistics` and
`files` import quickly, for the gate; `job` writes the directory.
"""
