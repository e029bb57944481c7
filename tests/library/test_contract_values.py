"""Every net, every backend, every option: values and gradients, and what padding and resets keep out.

All in float64 but "native", which has float32 alone, and is held against the same oracle in float64.

One program a case: it is compiled once and run on many arrays. The oracle has the values and, for the LSTM, the
gradients; other nets' gradients are held against central differences of those values.
"""

from __future__ import annotations

import itertools
from typing import Any

import cases
import covering
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from reference import reference
from small import equal, near

import jlstm
from jlstm.kernels.native import load

pytestmark = pytest.mark.usefixtures("x64")
T = 7
STATIC = ("backend", "reverse", "return_sequences", "time_major", "checkpoint_every", "scan_unroll")
MASKS, WANTED = ("lengths", "mask", "resets"), ("params", "inputs", "state")


class Case:
    """A net and a choice of the options, compiled once."""

    def __init__(self, choice: dict[str, Any]) -> None:
        self.choice, self.net, self.batch = choice, (cases.ROWS | cases.VARIANTS)[choice["row"]], choice["batch"]
        self.static = {name: choice[name] for name in STATIC}
        self.how = {name: choice[name] for name in ("reverse", "return_sequences")}
        self.two_way = choice["row"].startswith("bi-")
        self.dtype = np.float32 if choice["backend"] == "native" else np.float64
        self._compiled = jax.jit(jax.value_and_grad(self._loss, has_aux=True))

    def arrays(self, seed: int) -> dict[str, Any]:
        """Batch-major. The key and t stand among them, so that nothing is compiled anew for another."""
        rng = np.random.default_rng(seed)
        masks = cases.random_options(rng, self.batch, T)
        given = {name: masks[name] for name in MASKS if self.choice[name]}
        params = cases.random_params(rng, self.net)
        state = cases.random_state(rng, self.net, params, self.batch) if self.choice["state"] else None
        given |= dict(params=params, inputs=cases.random_inputs(rng, self.net, (*self.batch, T)), state=state, t=seed)
        given["key"] = jax.random.key(seed) if self.choice["key"] else None
        given = self._as(np.float64, self._as(self.dtype, given))  # numbers that the dtype has
        weights = jax.tree.map(lambda a: rng.normal(size=np.shape(a)), self.expected(given))
        return given | self._as(np.float64, self._as(self.dtype, {"weights": weights}))

    def _as(self, dtype: Any, arrays: Any) -> Any:
        return jax.tree.map(lambda a: np.asarray(a, dtype) if _is_float(a) else a, arrays)

    def expected(self, arrays: dict[str, Any]) -> tuple[Any, Any]:
        given = {name: value for name, value in arrays.items() if name not in ("weights", "inputs")}
        return reference(self.net, x=arrays["inputs"], **given, **self.how)

    def _loss(self, floats: dict[str, Any], rest: dict[str, Any]) -> Any:
        """A weighted sum of all that is differentiable; aux: (final state, outputs)."""
        a = {name: _filled(floats[name], rest[name], lambda f, r: r if f is None else f) for name in rest}
        if self.choice["time_major"]:
            for name in {"inputs", "mask", "resets"} & set(a):
                a[name] = jnp.moveaxis(a[name], len(self.batch), 0)
        weights = a.pop("weights")
        result = jlstm.unroll(self.net, a.pop("params"), a.pop("inputs"), **a, **self.static)
        if self.choice["time_major"] and self.choice["return_sequences"]:
            result = result[0], jax.tree.map(lambda y: jnp.moveaxis(y, 0, len(self.batch)), result[1])
        terms = jax.tree.map(lambda w, y: jnp.sum(w * y) if _is_float(y) else 0.0, _like(weights, result), result)
        return sum(jax.tree.leaves(terms)), result

    def __call__(self, arrays: dict[str, Any]) -> tuple[Any, Any]:
        """`((final_state, outputs), gradients)`, gradients by name: params, inputs, state."""
        (_, result), gradients = self.run(arrays)
        return result, gradients

    def run(self, arrays: dict[str, Any]) -> Any:
        return self._compiled(*_split(self._as(self.dtype, arrays)))

    def close(self, got: Any, want: Any) -> None:
        got, want = jax.tree.leaves(got), jax.tree.leaves(want)
        if self.dtype == np.float64:
            equal(got, want)
        else:
            near(got, want, 2e-6, at_least=0.1)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)


def _like(tree: Any, target: Any) -> Any:
    """The leaves of `tree` in the structure of `target` (the reference gives bare tuples)."""
    return jax.tree.unflatten(jax.tree.structure(target), jax.tree.leaves(tree))


def _filled(one: Any, other: Any, leaf: Any) -> Any:
    """Map two trees to one, None a leaf of theirs."""
    return jax.tree.map(leaf, one, other, is_leaf=lambda a: a is None)


def _split(arrays: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the arrays to differentiate by, everything)"""

    def keep(name: str, value: Any) -> Any:
        return jax.tree.map(lambda a: a if name in WANTED and _is_float(a) else None, value)

    return {name: None if name == "key" else keep(name, value) for name, value in arrays.items()}, arrays


def same_bits(got: Any, want: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()  # the signs of zeros, too


def check_gradients(case: Case, arrays: dict[str, Any], gradients: dict[str, Any]) -> None:
    """Against the oracle's back-propagation; for other nets, a central difference of fourth order."""
    if case.choice["row"] in cases.LSTMS:
        (w_h, w_c), w_out = arrays["weights"]
        options = {name: arrays[name] for name in ("state", *MASKS) if name in arrays} | case.how
        options |= dict(activation=case.net.activation, gate_activation=case.net.gate_activation)
        want = oracle.lstm_gradients(arrays["params"], arrays["inputs"], w_out, w_h, w_c, **options)
        case.close([gradients[name] for name in WANTED], want)
        return
    rng, floats = np.random.default_rng(0), _split(arrays)[0]
    directions = jax.tree.map(lambda a: rng.normal(size=a.shape), floats)
    for name in WANTED:  # one direction for each

        def moved(step: float, name: str = name) -> float:
            there = _filled(arrays[name], directions[name], lambda a, d: a if d is None else a + step * d)
            return float(case.run(arrays | {name: there})[0][0])

        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradients[name], directions[name])))
        wants = []
        for e in (1e-4, 1e-5, 1e-6):  # a smaller step where a kink lies within the one before
            wants.append((8 * (moved(e) - moved(-e)) - (moved(2 * e) - moved(-2 * e))) / (12 * e))
            if np.isclose(slope, wants[-1], rtol=1e-8, atol=1e-8):
                break
        else:
            pytest.fail(f"{name}: the gradient has slope {slope!r}, differences {wants!r}")


def check_padding(case: Case, arrays: dict[str, Any], clean: Any) -> None:
    """Invalid steps of any content change no bit of anything."""
    valid = np.ones((*case.batch, T), bool)
    if "lengths" in arrays:
        valid &= np.arange(T) < arrays["lengths"][..., None]
    if "mask" in arrays:
        valid &= arrays["mask"]
    for poison in (-7, 10**6) if case.net.feature_axes == 0 else (np.nan, np.inf):
        inputs = arrays["inputs"].copy()
        inputs[~valid] = poison
        same_bits(case(arrays | {"inputs": inputs}), clean)


def check_all_hidden(case: Case, arrays: dict[str, Any]) -> None:
    arrays = arrays | {"mask": np.zeros((*case.batch, T), bool)}
    result, gradients = case(arrays)
    case.close(result, case.expected(arrays))
    assert not any(np.any(y) for y in jax.tree.leaves(result[1]))
    check_padding(case, arrays, (result, gradients))


def poisoned(net: Any, state: Any, reverse: bool) -> Any:
    """NaN in the states that a reset at t = 0 replaces before they are used."""
    match net:
        case jlstm.Stack():
            return tuple(poisoned(layer, s, reverse) for layer, s in zip(net.layers, state, strict=True))
        case jlstm.Residual():
            return poisoned(net.layer, state, reverse)
        case jlstm.Bidirectional():
            parts = zip((net.forward, net.backward or net.forward), state, (reverse, not reverse), strict=True)
            return type(state)(*[poisoned(*part) for part in parts])
    return state if reverse else jax.tree.map(lambda a: a * np.nan if _is_float(a) else a + 5, state)


def check_poisoned_state(case: Case, arrays: dict[str, Any]) -> None:
    """A reset at t = 0 keeps out what was handed in, from values and from gradients."""
    resets = arrays["resets"].copy()
    resets[..., 0] = True
    arrays = arrays | {"resets": resets}
    if "lengths" in arrays:
        arrays["lengths"] = np.maximum(arrays["lengths"], 1)
    state = poisoned(case.net, arrays["state"], case.choice["reverse"])
    same_bits(case(arrays | {"state": state}), case(arrays))


def check_poisoned_episode(case: Case, arrays: dict[str, Any]) -> None:
    """NaN at valid steps of one episode changes no value of the other, in no direction."""
    border = T - 3
    resets = arrays["resets"].copy()
    resets[..., border] = True
    arrays = arrays | {"resets": resets} | ({"lengths": np.full(case.batch, T)} if "lengths" in arrays else {})
    if "mask" in arrays:  # the last step of all is a valid one: what `return_sequences=False` gives
        arrays["mask"] = arrays["mask"].copy()
        arrays["mask"][..., [0, -1]] = True
    first, kept = np.s_[:border], np.s_[border:]
    if case.choice["reverse"] and not case.two_way:
        first, kept = kept, first
    inputs, axis = arrays["inputs"].copy(), len(case.batch)
    before = (slice(None),) * axis
    inputs[(*before, first)] = -1 if case.net.feature_axes == 0 else np.nan
    got, want = case(arrays | {"inputs": inputs})[0], case(arrays)[0]
    if case.choice["return_sequences"]:
        for a, b in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
            same_bits(a[(*before, kept)], b[(*before, kept)])
    if not case.two_way:
        same_bits(got[0], want[0])
        if not case.choice["return_sequences"]:
            same_bits(got[1], want[1])


def check(choice: dict[str, Any]) -> None:
    case = Case(choice)
    for seed in (0, 1, 2):
        arrays = case.arrays(seed)
        result, gradients = case(arrays)
        case.close(result, case.expected(arrays))
        check_gradients(case, arrays, gradients)
        check_padding(case, arrays, (result, gradients))
    if "mask" in arrays:
        check_all_hidden(case, arrays)
    if "resets" in arrays:
        check_poisoned_episode(case, arrays)
        if arrays["state"] is not None:
            check_poisoned_state(case, arrays)


def choices(strength: int) -> list[dict[str, Any]]:
    others = cases.OTHERS | cases.CELLS | (cases.VARIANTS if strength > 2 else {})
    tables = {tuple(cases.LSTMS): ((4,), (2, 2), ()), tuple(others): ((2, 2), ())}
    return [
        choice
        for rows, batch in tables.items()
        for choice in covering.sample({"row": rows} | cases.OPTIONS | {"batch": batch}, strength)
    ]


def linear_choices() -> list[dict[str, Any]]:
    """All pairs, of the backend that few cells have."""
    rows = tuple(name for name in cases.CELLS | cases.VARIANTS if name.startswith("min-lstm"))
    return covering.sample({"row": rows} | cases.OPTIONS | {"backend": ("associative",), "batch": ((2, 2), ())}, 2)


def native_choices() -> list[dict[str, Any]]:
    """All pairs, of the backend that LSTM alone has."""
    rows = tuple(name for name, net in cases.LSTMS.items() if net.activation == "tanh")
    if load()[0] is None:
        return []
    return covering.sample({"row": rows} | cases.OPTIONS | {"backend": ("native",), "batch": ((4,), (2, 2), ())}, 2)


def full_choices() -> list[dict[str, Any]]:
    """Everything on at once in both directions, for all kinds of batch axes; those of size 1 in chunks of the time."""
    on = dict(row="lstm-learned", backend="hoisted", scan_unroll=1) | dict.fromkeys(("state", *MASKS), True)
    chunks = {(4,): None, (2, 2): None, (): None, (1,): 3, (2, 1): 3}
    ways = dict(reverse=(False, True), return_sequences=(False, True), time_major=(False,), key=(False,))
    product = [dict(zip(ways, values, strict=True)) for values in itertools.product(*ways.values())]
    return [on | way | dict(batch=batch, checkpoint_every=k) for batch, k in chunks.items() for way in product]


EVERY_PAIR = [*choices(2), *linear_choices(), *native_choices(), *covering.thinned(full_choices(), 3)]


@pytest.mark.parametrize("choice", EVERY_PAIR, ids=covering.label)
def test_values_and_gradients(choice):
    check(choice)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "triple" in metafunc.fixturenames:  # a sample of all triples takes seconds to choose
        chosen = choices(3) if metafunc.config.getoption("--slow") else []
        metafunc.parametrize("triple", chosen, ids=covering.label)


@pytest.mark.slow
def test_values_and_gradients_of_all_triples(triple):
    check(triple)
