"""Print which backends work here: `python -m jlstm.kernels`."""

from jlstm.kernels import available

for name, reason in available().items():
    print(f"{name:12} {'yes' if reason is None else 'no: it ' + reason}")
