"""Speed of jlstm beside its peers: `python -m experiments.benchmark --help`."""
