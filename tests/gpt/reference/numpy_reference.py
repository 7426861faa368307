"""GPT-2 and Llama in numpy, f64: forward and backward by hand, loss, AdamW.

Shares no code with torch_reference.py, whose comment says what the arguments are. An operation
returns its output and a function that takes the gradient of the output and returns the gradient of
the input. Gradients of weights are summed in a dict, so that a tied weight gets both of its parts.
"""

import numpy as np


class Network:
    """The operations on one set of weights, and the gradients that backward functions add up."""

    def __init__(self, weights, model):
        self.w, self.model = weights, model
        self.gradients = {name: np.zeros_like(values) for name, values in weights.items()}

    def embedding(self, name, indices):
        def backward(dy):
            np.add.at(self.gradients[name], indices, dy)

        return self.w[name][indices], backward

    def linear(self, name, x, transposed=False):
        """x @ weight^T for a weight [out, in], x @ weight for Conv1D's [in, out]; + bias if any."""
        weight, bias = self.w[name + ".weight"], self.w.get(name + ".bias")
        matrix = weight if transposed else weight.T

        def backward(dy):
            rows = dy.reshape(-1, dy.shape[-1])
            d_matrix = x.reshape(-1, x.shape[-1]).T @ rows
            self.gradients[name + ".weight"] += d_matrix if transposed else d_matrix.T
            if bias is not None:
                self.gradients[name + ".bias"] += rows.sum(0)
            return dy @ matrix.T

        y = x @ matrix
        return (y if bias is None else y + bias), backward

    def layer_norm(self, name, x):
        weight = self.w[name + ".weight"]
        centered = x - x.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt((centered**2).mean(-1, keepdims=True) + self.model["norm_eps"])
        unit = centered * inverse

        def backward(dy):
            self.gradients[name + ".weight"] += (dy * unit).sum((0, 1))
            self.gradients[name + ".bias"] += dy.sum((0, 1))
            d = dy * weight
            along = (d * unit).mean(-1, keepdims=True)
            return inverse * (d - d.mean(-1, keepdims=True) - unit * along)

        return unit * weight + self.w[name + ".bias"], backward

    def rms_norm(self, name, x):
        weight = self.w[name + ".weight"]
        inverse = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + self.model["norm_eps"])
        unit = x * inverse

        def backward(dy):
            self.gradients[name + ".weight"] += (dy * unit).sum((0, 1))
            d = dy * weight
            return inverse * (d - unit * (d * unit).mean(-1, keepdims=True))

        return unit * weight, backward


def gelu(x):
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), from Hendrycks and Gimpel 2016."""
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))

    def backward(dy):
        return dy * 0.5 * (1 + t + x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x))

    return 0.5 * x * (1 + t), backward


def swiglu(gate, up):
    sigmoid = 1 / (1 + np.exp(-gate))
    silu = gate * sigmoid

    def backward(dy):
        return dy * up * sigmoid * (1 + gate * (1 - sigmoid)), dy * silu

    return silu * up, backward


def rotary(x, positions, theta):
    """x: [n, length, heads, head width]. The second half of a head is turned against the first."""
    width = x.shape[-1]
    angle = positions[:, :, None, None] / theta ** (np.arange(0, width, 2) / width)
    cos, sin = (np.concatenate([f(angle), f(angle)], -1) for f in (np.cos, np.sin))

    def swap(y, sign):
        return np.concatenate([-sign * y[..., width // 2 :], sign * y[..., : width // 2]], -1)

    return x * cos + swap(x, 1) * sin, lambda dy: dy * cos + swap(dy * sin, -1)


def attention(q, k, v, positions):
    """q: [n, length, heads, head width]; k, v: [n, length, kv heads, head width].

    Head i of q uses head floor(i * kv heads / heads) of k and v.
    """
    n, length, heads, width = q.shape
    group = heads // k.shape[2]
    scale = 1 / np.sqrt(width)
    allowed = np.zeros((n, length, length), bool)
    for s in range(n):
        for row in range(length):
            allowed[s, row, row - positions[s, row] : row + 1] = True
    out = np.zeros_like(q)
    saved = {}
    for s in range(n):
        for h in range(heads):
            scores = np.where(allowed[s], q[s, :, h] @ k[s, :, h // group].T * scale, -np.inf)
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            out[s, :, h] = p @ v[s, :, h // group]
            saved[s, h] = p

    def backward(dy):
        dy = dy.reshape(q.shape)
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for (s, h), p in saved.items():
            g = h // group
            dv[s, :, g] += p.T @ dy[s, :, h]
            dp = dy[s, :, h] @ v[s, :, g].T
            ds = p * (dp - (dp * p).sum(1, keepdims=True)) * scale
            dq[s, :, h] = ds @ k[s, :, g]
            dk[s, :, g] += ds.T @ q[s, :, h]
        return dq, dk, dv

    return out.reshape(n, length, -1), backward


def gpt2_block(net, h, x, positions):
    a, norm_1 = net.layer_norm(h + "ln_1", x)
    qkv, c_attn = net.linear(h + "attn.c_attn", a, transposed=True)
    shape = (*x.shape[:2], net.model["heads"], -1)
    q, k, v = (part.reshape(shape) for part in np.split(qkv, 3, -1))
    a, attend = attention(q, k, v, positions)
    a, c_proj = net.linear(h + "attn.c_proj", a, transposed=True)
    middle = x + a
    m, norm_2 = net.layer_norm(h + "ln_2", middle)
    m, c_fc = net.linear(h + "mlp.c_fc", m, transposed=True)
    m, activation = gelu(m)
    m, mlp_proj = net.linear(h + "mlp.c_proj", m, transposed=True)

    def backward(dy):
        d = dy + norm_2(c_fc(activation(mlp_proj(dy))))
        parts = [each.reshape(x.shape) for each in attend(c_proj(d))]
        return d + norm_1(c_attn(np.concatenate(parts, -1)))

    return middle + m, backward


def llama_block(net, at, x, positions):
    model = net.model
    a, norm_1 = net.rms_norm(at + "input_layernorm", x)
    projections, backwards = [], []
    for name, heads in ("q", "heads"), ("k", "kv_heads"), ("v", "kv_heads"):
        y, back = net.linear(f"{at}self_attn.{name}_proj", a)
        projections.append(y.reshape(*x.shape[:2], model[heads], -1))
        backwards.append(back)
    q, turn_q = rotary(projections[0], positions, model["rope_theta"])
    k, turn_k = rotary(projections[1], positions, model["rope_theta"])
    a, attend = attention(q, k, projections[2], positions)
    a, o_proj = net.linear(at + "self_attn.o_proj", a)
    middle = x + a
    m, norm_2 = net.rms_norm(at + "post_attention_layernorm", middle)
    gate, gate_proj = net.linear(at + "mlp.gate_proj", m)
    up, up_proj = net.linear(at + "mlp.up_proj", m)
    m, activation = swiglu(gate, up)
    m, down_proj = net.linear(at + "mlp.down_proj", m)

    def backward(dy):
        d_gate, d_up = activation(down_proj(dy))
        d = dy + norm_2(gate_proj(d_gate) + up_proj(d_up))
        dq, dk, dv = attend(o_proj(d))
        inner = zip(backwards, (turn_q(dq), turn_k(dk), dv))
        flat = (*x.shape[:2], -1)
        return d + norm_1(sum(back(each.reshape(flat)) for back, each in inner))

    return middle + m, backward


def forward(net, inputs, positions):
    """Returns logits, [n, length, vocabulary], and the backward function of the whole network."""
    model = net.model
    backwards = []
    if model["name"] == "gpt2":
        x, token = net.embedding("wte.weight", inputs)
        where, position = net.embedding("wpe.weight", positions)
        x = x + where
        begin = (token, position)
        block, at, final, head = gpt2_block, "h.{}.", net.layer_norm, "wte"
    else:
        x, token = net.embedding("model.embed_tokens.weight", inputs)
        begin = (token,)
        block, at, final = llama_block, "model.layers.{}.", net.rms_norm
        head = "model.embed_tokens" if model["tied"] else "lm_head"
    for layer in range(model["layers"]):
        x, back = block(net, at.format(layer), x, positions)
        backwards.append(back)
    x, back = final("ln_f" if model["name"] == "gpt2" else "model.norm", x)
    backwards.append(back)
    logits, back = net.linear(head, x)
    backwards.append(back)

    def backward(d):
        for back in reversed(backwards):
            d = back(d)
        for back in begin:
            back(d)

    return logits, backward


def loss_of(logits, targets, label_smoothing, z_loss):
    """Returns the sum, its weight and the gradient of the sum with respect to the logits.

    Per counted token: (1 - s) * -log p[target] + s / V * sum of -log p + z * logsumexp^2.
    """
    counted = targets != -100
    top = logits.max(-1, keepdims=True)
    log_sum = top + np.log(np.exp(logits - top).sum(-1, keepdims=True))
    log_p = logits - log_sum
    wanted = np.full_like(logits, label_smoothing / logits.shape[-1])
    for at in np.argwhere(counted):
        wanted[(*at, targets[tuple(at)])] += 1 - label_smoothing
    each = -(wanted * log_p).sum(-1) + z_loss * log_sum[..., 0] ** 2
    d_logits = np.exp(log_p) * (1 + 2 * z_loss * log_sum) - wanted
    return each[counted].sum(), int(counted.sum()), d_logits * counted[..., None]


def evaluate(weights, model, batch, loss):
    """As torch_reference.evaluate."""
    net = Network(weights, model)
    logits, backward = forward(net, batch["input"], batch["position"])
    total, count, d_logits = loss_of(logits, batch["target"], **loss)
    backward(d_logits / count)
    return logits, total, count, net.gradients


def train(weights, model, batch, loss, options, steps):
    """As torch_reference.train. AdamW by Loshchilov and Hutter 2019, algorithm 2."""
    w = {name: values.copy() for name, values in weights.items()}
    m = {name: np.zeros_like(values) for name, values in w.items()}
    v = {name: np.zeros_like(values) for name, values in w.items()}
    after = []
    for step in range(1, steps + 1):
        gradients = evaluate(w, model, batch, loss)[3]
        factor = 1.0
        if options["clip_norm"]:
            norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
            factor = min(1.0, options["clip_norm"] / (norm + 1e-6))
        for name, values in w.items():
            g = gradients[name] * factor
            m[name] = options["beta1"] * m[name] + (1 - options["beta1"]) * g
            v[name] = options["beta2"] * v[name] + (1 - options["beta2"]) * g**2
            m_hat = m[name] / (1 - options["beta1"] ** step)
            v_hat = v[name] / (1 - options["beta2"] ** step)
            decays = options["decayed"] == "all" or values.ndim == 2
            values *= 1 - options["lr"] * (options["weight_decay"] if decays else 0)
            values -= options["lr"] * m_hat / (np.sqrt(v_hat) + options["eps"])
        after.append({name: values.copy() for name, values in w.items()})
    return after


def generate(weights, model, prompt, count):
    """As torch_reference.generate. Also returns the least distance of the two highest logits."""
    tokens, least = list(prompt), np.inf
    for _ in range(count):
        positions = np.arange(len(tokens))[None]
        logits, _ = forward(Network(weights, model), np.array(tokens)[None], positions)
        second, first = np.sort(logits[0, -1])[-2:]
        least = min(least, first - second)
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[-count:], least
