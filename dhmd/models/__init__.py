"""Models: DHMD, its fast engine, and the baselines."""
