"""The fast engine: parameters and batches have a leading axis for the seeds."""
