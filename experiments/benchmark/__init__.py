"""Compare the speed of jlstm with its peers: `python -m experiments.benchmark --help`."""
