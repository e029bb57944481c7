"""torch's LSTMs, live, on ragged input, with torch's own gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_models import LENGTHS as LENGTHS


def load(make: Callable[[Any], Any], weights: Any) -> Any:
    import torch

    module = make(torch.nn)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    return module


def run(module: Any, x: Any, state: Any, of_y: Any, of_state: Any) -> Any:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    x, start, of = torch.tensor(x, requires_grad=True), [*map(torch.tensor, state)], [*map(torch.tensor, of_state)]
    if isinstance(module, torch.nn.LSTMCell):
        (h, c), outputs = (s[0] for s in start), []
        for t in range(x.shape[1]):
            new, valid = module(x[:, t], (h, c)), torch.tensor(t < LENGTHS)[:, None]
            h, c = (torch.where(valid, a, b) for a, b in zip(new, (h, c), strict=True))
            outputs.append(new[0] * valid)
        y, end = torch.stack(outputs, 1), (h[None], c[None])
    else:
        packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
        y, end = module(packed, tuple(start))
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    loss = (y * torch.tensor(of_y)).sum() + sum((a * b).sum() for a, b in zip(end, of, strict=True))
    (dx,) = torch.autograd.grad(loss, x)
    return y.detach().numpy(), tuple(a.detach().numpy() for a in end), dx.numpy()
