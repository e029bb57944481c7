"""Write `tests/library/files`; only the library of the commit that their README names can, for it has `ClipState`."""

import sys

import jax
import numpy as np

import jlstm as j
from jlstm.initializers import Chrono, Constant, ForgetBias, GlorotUniform, Normal, Orthogonal, Uniform


def nets() -> dict:
    """The nets by the names of their files; the last four do not load any more."""
    few: dict = dict(w_ih_init=Uniform(0.5), learn_initial_state=True, param_dtype="bfloat16", compute_dtype="float32")
    many: dict = few | dict(w_hh_init=Orthogonal(0.5), activation="softsign", gate_activation="hard_sigmoid")
    cells = j.LSTM, j.PeepholeLSTM, j.CoupledLSTM, j.GRU, j.LayerNormLSTM, j.SLSTM, j.MinLSTM, j.OriginalLSTM
    made = {cell.__name__: cell(2) for cell in cells} | {"ProjectedLSTM": j.ProjectedLSTM(3, 2)}
    made |= {"LSTM-options": j.LSTM(3, forget_bias=Chrono(20.0), **many), "LSTM-bare": j.LSTM(2, use_bias=False)}
    made |= {"PeepholeLSTM-options": j.PeepholeLSTM(3, forget_bias=2.0, p_init=Normal(0.5), **many)}
    made |= {"CoupledLSTM-options": j.CoupledLSTM(3, forget_bias=ForgetBias(0.5), **many), "Dropout": j.Dropout(0.5)}
    made |= {"ProjectedLSTM-options": j.ProjectedLSTM(2, 3, w_hr_init=GlorotUniform(), **many)}
    made |= {"GRU-options": j.GRU(3, reset_after=False, update_bias=Constant(1.0), **many)}
    made |= {"LayerNormLSTM-options": j.LayerNormLSTM(3, epsilon=1e-3, **many), "Zoneout-GRU": j.Zoneout(j.GRU(2), 0.2)}
    made |= {"SLSTM-options": j.SLSTM(2, heads=2, forget_gate="exp", **many), "Dense": j.Dense(2, activation="elu")}
    made |= {"MinLSTM-options": j.MinLSTM(3, activation="sigmoid", **few), "Zoneout": j.Zoneout(made["LSTM"], 0.1, 0.3)}
    made |= {"OriginalLSTM-options": j.OriginalLSTM(2, block_size=2, truncated_gradient=True, input_bias=-1.0, **few)}
    made |= {"LSTM-float64": j.LSTM(2, param_dtype="float64"), "LSTM-bfloat16": j.LSTM(2, compute_dtype="bfloat16")}
    family = "LSTM", "PeepholeLSTM", "CoupledLSTM", "ProjectedLSTM", "LayerNormLSTM", "OriginalLSTM", "LSTM-options"
    made |= {f"ClipState-{name}": j.ClipState(made[name], 0.25) for name in family}
    made |= {f"gates-{name}": j.ClipState(made[name], 0.5, "gates") for name in ("LSTM", "PeepholeLSTM", "GRU")}
    lstm, clipped = made["LSTM"], made["ClipState-LSTM"]
    made |= {"gates-ClipState": j.ClipState(clipped, 0.5, "gates"), "ClipState-twice": j.ClipState(clipped, 0.5)}
    made |= {"Zoneout-SLSTM": j.Zoneout(j.SLSTM(2), 0.1, 0.3), "Zoneout-ClipState": j.Zoneout(clipped, 0.1)}
    made |= {"VariationalDropout": j.VariationalDropout(lstm, 0.2, 0.3), "DropConnect": j.DropConnect(lstm, 0.3)}
    made |= {"nested": j.VariationalDropout(j.DropConnect(j.Zoneout(j.PeepholeLSTM(2), 0.1, 0.3), 0.2), 0.2, 0.3)}
    made |= {f"Bidirectional-{way}": j.Bidirectional(lstm, j.GRU(2), merge=way) for way in ("concat", "mean", "none")}
    made |= {"Embed": j.Embed(3, 2, w_init=Uniform(1.0), param_dtype="float16"), "Residual": j.Residual(lstm)}
    two = j.Bidirectional(made["Zoneout"], made["ClipState-CoupledLSTM"])
    made |= {"Stack": j.Stack((j.Embed(3, 2), made["Residual"], j.Dropout(0.2), two, j.MinLSTM(3), made["Dense"]))}
    made |= {f"ClipState-{name}": j.ClipState(made[name], 1) for name in ("Zoneout", "DropConnect", "gates-LSTM")}
    return made | {"Stack-ClipState": j.Stack((made["ClipState-Zoneout"],))}


def outputs(net, params, key=None) -> np.ndarray:
    """The outputs of a net for two fixed sequences; the two outputs of a "none" lie side by side."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 4, 2)).astype("float32") if net.feature_axes else rng.integers(0, 3, (2, 4))
    leaves = jax.tree.leaves(j.unroll(net, params, x, return_sequences=True, key=key)[1])
    return np.concatenate([np.asarray(y, "float32") for y in leaves], axis=-1)


if __name__ == "__main__":
    expected, rng = {}, np.random.default_rng(0)
    for name, net in nets().items():
        jax.config.update("jax_enable_x64", "float64" in name)
        like = jax.eval_shape(lambda net=net: net.init(jax.random.key(0), 2 if net.feature_axes else None))
        params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), like)
        j.save(f"{sys.argv[1]}/{name}.safetensors", net, params)
        expected[name] = np.stack([outputs(net, params), outputs(net, params, jax.random.key(2))])
    np.savez_compressed(f"{sys.argv[1]}/expected.npz", **expected)
