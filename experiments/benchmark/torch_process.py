"""Time torch's `nn.LSTM` on the CPU in a separate process without jax: `torch_process.py IN OUT`.

torch's OpenMP workers keep spinning after a call and would slow later work in the same process. IN has the sizes, x,
and w_ih, w_hh, b_ih, b_hh for every layer or direction; OUT gets seconds by mode, outputs and gradients.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np


def main(source: str, target: str) -> None:
    import torch  # pyright: ignore[reportMissingImports]

    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    ask: dict[str, Any] = json.loads(str(arrays.pop("ask")))
    dtype = getattr(torch, ask["dtype"])
    net = torch.nn.LSTM(
        ask["D"],
        ask["H"],
        num_layers=2 if ask["net"] == "stack" else 1,
        bidirectional=ask["net"] == "bidirectional",
        batch_first=True,
        dtype=dtype,
    )
    weights = list(net.parameters())
    with torch.no_grad():
        for number, weight in enumerate(weights):
            weight.copy_(torch.from_numpy(arrays[f"w{number}"]))
    x = torch.from_numpy(arrays["x"]).to(dtype)

    def forward() -> Any:
        with torch.inference_mode():
            return net(x)[0]

    def both() -> Any:
        leaf = x.detach().requires_grad_()
        for weight in weights:
            weight.grad = None
        net(leaf)[0].float().square().mean().backward()
        return leaf.grad

    calls = {"forward": forward, "forward+backward": both}
    times: dict[str, list[float]] = {mode: [] for mode in calls}
    for mode, call in calls.items():
        for _ in range(2):
            call()
        for _ in range(ask["rounds"]):
            time.sleep(ask["rest"])
            start = time.perf_counter()
            call()
            times[mode].append(time.perf_counter() - start)
    out: dict[str, Any] = {"outputs": forward(), "dx": both()} | {f"w{n}": w.grad for n, w in enumerate(weights)}
    found: dict[str, Any] = {name: value.float().numpy() for name, value in out.items()}
    about = {"version": torch.__version__, "threads": torch.get_num_threads(), "times": times}
    np.savez(target, allow_pickle=False, about=json.dumps(about), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
