"""Experiments with jlstm: `python -m experiments.run configs/adding.toml` (`--help` lists the options)."""
