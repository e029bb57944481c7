"""torch's LSTMs and GRUs, live, on ragged input, with torch's own gradient."""

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

    pair = isinstance(state, tuple)  # (h, c), or h alone
    x = torch.tensor(x, requires_grad=True)
    start, of = ([*map(torch.tensor, s if pair else (s,))] for s in (state, of_state))

    def call(x: Any, start: Any) -> Any:
        return module(x, tuple(start) if pair else start[0])

    if isinstance(module, torch.nn.LSTMCell | torch.nn.GRUCell):
        now, outputs = [s[0] for s in start], []
        for t in range(x.shape[1]):
            new, valid = call(x[:, t], now), torch.tensor(t < LENGTHS)[:, None]
            new = new if pair else (new,)
            now = [torch.where(valid, a, b) for a, b in zip(new, now, strict=True)]
            outputs.append(new[0] * valid)
        y, end = torch.stack(outputs, 1), [s[None] for s in now]
    else:
        packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
        y, end = call(packed, start)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
        end = end if pair else (end,)
    loss = (y * torch.tensor(of_y)).sum() + sum((a * b).sum() for a, b in zip(end, of, strict=True))
    (dx,) = torch.autograd.grad(loss, x)
    end = tuple(a.detach().numpy() for a in end)
    return y.detach().numpy(), end if pair else end[0], dx.numpy()
