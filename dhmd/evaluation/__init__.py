"""Evaluation: metrics, statistics, and the files of `metrics/<dataset>/`, which Git tracks.

    metrics.json              headline values, the DVC metrics file
    details/
      summary.json            {"test", "valid": {metric: {mean, std}}, "n_seeds", "undefined"}; for
                              generated corpora also "truth" (scores against the ground truth) and
                              "oracle" (scores of the ground truth against the noisy labels)
      seeds.csv               scores: one row per seed and split
      predictions.csv         one row per test utterance: id, label, one column per seed; all test
                              scores can be recomputed from it (and from truth.csv)
      identity.json           what was evaluated: dataset, task, corpus, fold, protocol
      intervals.json          {metric: {low, high}} over test utterances (bootstrap by video)
      unimodal.csv            the pretrained encoders: one row per modality, seed and split
      trivial_baselines.json  median label (most frequent class), ridge on pooled features
      ablations.*             .json: difference of each variant from the full model, paired by
                              seed, Holm-corrected; .csv: scores per seed
      missing_modalities.*    the same for the full model with modalities dropped or replaced by
                              noise at test time
      missing_by_variant.*    the same for each variant with a modality dropped or replaced by
                              noise, compared with the full model under the same condition, in the
                              primary metric
      edges.json              mean edge weights of the GD-Units, spreads, rank correlation with the
                              planted reliability
      dictionary.json         active, used and dead codes, overlaps
      truth.csv               generated corpora: labels of the test utterances before noise

Numbers are not rounded, and every run writes the same bytes. `metrics`, `statistics` and `files`
import quickly, because the gate uses them; `job` writes the directory.
"""
