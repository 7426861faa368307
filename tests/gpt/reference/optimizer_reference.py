"""LAMB and Muon in numpy, f64, as their authors describe them."""

import numpy as np


def moments(state, gradient, options, step):
    """Returns m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps). `state`: m and v."""
    beta1, beta2 = options["beta1"], options["beta2"]
    state[0] = beta1 * state[0] + (1 - beta1) * gradient
    state[1] = beta2 * state[1] + (1 - beta2) * gradient**2
    m, v = state[0] / (1 - beta1**step), state[1] / (1 - beta2**step)
    return m / (np.sqrt(v) + options["eps"])


def lamb(weights, gradients, options):
    """You et al. 2020, algorithm 2, for each tensor as a whole, whatever its shape:

        u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * w
        w = w - lr * ratio * u        ratio = |w| / |u|, and 1 if either is zero

    |.| is the L2 norm; the paper's phi is the identity: no limits on the ratio. Returns the weights
    after each step; gradients[t - 1] are those of step t.
    """
    w = {name: values.copy() for name, values in weights.items()}
    states = {name: [np.zeros_like(values)] * 2 for name, values in w.items()}
    after = []
    for step, of_step in enumerate(gradients, 1):
        for name, values in w.items():
            update = moments(states[name], of_step[name], options, step)
            update += options["weight_decay"] * values
            size, length = np.sqrt((values**2).sum()), np.sqrt((update**2).sum())
            ratio = size / length if size > 0 and length > 0 else 1.0
            values -= options["lr"] * ratio * update
        after.append({name: values.copy() for name, values in w.items()})
    return after


def orthogonalize(matrix, steps):
    """Newton-Schulz iteration (Jordan et al. 2024): from U S V^T towards U V^T."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (np.sqrt((x**2).sum()) + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def muon(weights, gradients, options):
    """Jordan et al. 2024 for matrices of [out, in]; AdamW for the names in options["adamw.names"]:

        b = momentum * b + g
        u = orthogonalize(g + momentum * b)          Nesterov
        w = w * (1 - lr * weight_decay) - lr * sqrt(max(1, out / in)) * u

    Returns the weights after each step; gradients[t - 1] are those of step t.
    """
    w = {name: values.copy() for name, values in weights.items()}
    states = {name: [np.zeros_like(values)] * 2 for name, values in w.items()}
    adamw = {key[6:]: value for key, value in options.items() if key.startswith("adamw.")}
    after = []
    for step, of_step in enumerate(gradients, 1):
        for name, values in w.items():
            gradient, state = of_step[name], states[name]
            if name in adamw["names"].split():
                update = moments(state, gradient, adamw, step)
                rates = adamw
            else:
                state[0] = options["momentum"] * state[0] + gradient
                update = orthogonalize(
                    gradient + options["momentum"] * state[0], options["newton_schulz_steps"]
                )
                update *= np.sqrt(max(1, values.shape[0] / values.shape[1]))
                rates = options
            values *= 1 - rates["lr"] * rates["weight_decay"]
            values -= rates["lr"] * update
        after.append({name: values.copy() for name, values in w.items()})
    return after
