"""The models, batches and optimizers of the golden files. All values are hashes of their index."""

import numpy as np

# No two dimensions of one model that could be mistaken for each other are equal. Only llama_packed
# and gpt2_packed have more than one document in a sequence; `documents` are lengths.
CASES = {
    "gpt2": {
        "seed": 115,
        "model": dict(
            name="gpt2",
            layers=2,
            width=8,
            heads=4,
            kv_heads=4,
            context=16,
            vocabulary=17,
            intermediate=32,
            norm_eps=1e-5,
            tied=True,
        ),
        "documents": [[7], [7], [7]],
        "ignored": False,
        "loss": dict(label_smoothing=0.0, z_loss=0.0),
        "optimizer": dict(
            name="adamw",
            lr=0.01,
            beta1=0.9,
            beta2=0.95,
            eps=1e-5,
            weight_decay=0.1,
            decayed="all",
            clip_norm=0.0,
        ),
    },
    "gpt2_packed": {
        "seed": 59,
        "model": dict(
            name="gpt2",
            layers=2,
            width=8,
            heads=2,
            kv_heads=2,
            context=19,
            vocabulary=13,
            intermediate=32,
            norm_eps=1e-5,
            tied=True,
        ),
        "documents": [[4, 1, 5], [10], [3, 7]],
        "ignored": True,
        "loss": dict(label_smoothing=0.1, z_loss=0.0),
        "optimizer": dict(
            name="adamw",
            lr=0.01,
            beta1=0.9,
            beta2=0.95,
            eps=1e-5,
            weight_decay=0.1,
            decayed="two_dimensional",
            clip_norm=0.05,
        ),
    },
    "llama": {
        "seed": 102,
        "model": dict(
            name="llama",
            layers=2,
            width=16,
            heads=4,
            kv_heads=2,
            context=18,
            vocabulary=13,
            intermediate=6,
            norm_eps=1e-6,
            rope_theta=10000.0,
            tied=False,
        ),
        "documents": [[9], [9], [9]],
        "ignored": False,
        "loss": dict(label_smoothing=0.0, z_loss=0.0),
        "optimizer": dict(
            name="adamw",
            lr=0.003,
            beta1=0.9,
            beta2=0.999,
            eps=1e-6,
            weight_decay=0.01,
            decayed="all",
            clip_norm=1.0,
        ),
    },
    "llama_packed": {
        "seed": 32,
        "model": dict(
            name="llama",
            layers=2,
            width=12,
            heads=2,
            kv_heads=1,
            context=16,
            vocabulary=17,
            intermediate=15,
            norm_eps=1e-5,
            rope_theta=500.0,
            tied=False,
        ),
        "documents": [[2, 8], [5, 1, 4], [10]],
        "ignored": True,
        "loss": dict(label_smoothing=0.1, z_loss=0.01),
        "optimizer": dict(
            name="adamw",
            lr=0.01,
            beta1=0.8,
            beta2=0.95,
            eps=1e-6,
            weight_decay=0.1,
            decayed="two_dimensional",
            clip_norm=0.1,
        ),
    },
    "llama_tied": {
        "seed": 9,
        "model": dict(
            name="llama",
            layers=2,
            width=12,
            heads=6,
            kv_heads=3,
            context=16,
            vocabulary=13,
            intermediate=14,
            norm_eps=1e-5,
            rope_theta=10000.0,
            tied=True,
        ),
        "documents": [[8], [8]],
        "ignored": False,
        "loss": dict(label_smoothing=0.0, z_loss=0.001),
        "optimizer": dict(
            name="adamw",
            lr=0.01,
            beta1=0.9,
            beta2=0.999,
            eps=1e-6,
            weight_decay=0.0,
            decayed="all",
            clip_norm=0.0,
        ),
    },
}


# LAMB's "zero" has no length at first and then grows; "still" never gets a gradient.
OPTIMIZERS = {
    "lamb": {
        "seed": 200,
        "shapes": {
            "wide.weight": (3, 5),
            "tall.weight": (7, 4),
            "square.weight": (6, 6),
            "zero.weight": (2, 9),
            "norm.weight": (8,),
            "still.bias": (5,),
        },
        "options": dict(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.1),
    },
    "muon": {
        "seed": 201,
        "shapes": {
            "wide.weight": (3, 5),
            "tall.weight": (7, 4),
            "square.weight": (6, 6),
            "embed.weight": (9, 2),
            "norm.weight": (8,),
        },
        "options": {
            "lr": 0.02,
            "momentum": 0.95,
            "weight_decay": 0.1,
            "newton_schulz_steps": 5,
            "adamw.names": "embed.weight norm.weight",
            "adamw.lr": 0.003,
            "adamw.beta1": 0.9,
            "adamw.beta2": 0.95,
            "adamw.eps": 1e-8,
            "adamw.weight_decay": 0.01,
        },
    },
}


def hashed(seed, stream, count):
    """Returns `count` numbers of 16 bits: the top of SplitMix64 of (seed, stream, index)."""
    z = np.arange(count, dtype=np.uint64) + np.uint64((seed << 40) + (stream << 20) + 1)
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(48)).astype(np.int64)


def values(seed, stream, shape, scale):
    """Numbers between -scale and scale; f32 has them exactly if scale is a power of 2."""
    flat = (hashed(seed, stream, int(np.prod(shape))) - 32767.5) / 32768 * scale
    return flat.reshape(shape)


def shapes_of(model):
    """{name: shape}, as Hugging Face's checkpoints have them. Files that were saved from
    GPT2LMHeadModel instead of GPT2Model have "transformer." before each name of GPT-2."""
    d, inner, vocabulary = model["width"], model["intermediate"], model["vocabulary"]
    shapes = {}
    if model["name"] == "gpt2":
        shapes["wte.weight"] = (vocabulary, d)
        shapes["wpe.weight"] = (model["context"], d)
        for layer in range(model["layers"]):
            h = f"h.{layer}."
            shapes |= {h + "ln_1.weight": (d,), h + "ln_1.bias": (d,)}
            shapes |= {h + "attn.c_attn.weight": (d, 3 * d), h + "attn.c_attn.bias": (3 * d,)}
            shapes |= {h + "attn.c_proj.weight": (d, d), h + "attn.c_proj.bias": (d,)}
            shapes |= {h + "ln_2.weight": (d,), h + "ln_2.bias": (d,)}
            shapes |= {h + "mlp.c_fc.weight": (d, inner), h + "mlp.c_fc.bias": (inner,)}
            shapes |= {h + "mlp.c_proj.weight": (inner, d), h + "mlp.c_proj.bias": (d,)}
        return shapes | {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    kv = d // model["heads"] * model["kv_heads"]
    shapes["model.embed_tokens.weight"] = (vocabulary, d)
    for layer in range(model["layers"]):
        at = f"model.layers.{layer}."
        shapes[at + "input_layernorm.weight"] = (d,)
        for name, rows in ("q", d), ("k", kv), ("v", kv), ("o", d):
            shapes[f"{at}self_attn.{name}_proj.weight"] = (rows, d)
        shapes[at + "post_attention_layernorm.weight"] = (d,)
        shapes |= {at + "mlp.gate_proj.weight": (inner, d), at + "mlp.up_proj.weight": (inner, d)}
        shapes[at + "mlp.down_proj.weight"] = (d, inner)
    shapes["model.norm.weight"] = (d,)
    if not model["tied"]:
        shapes["lm_head.weight"] = (vocabulary, d)
    return shapes


def weights_of(case):
    """Weights of norms are between 0.75 and 1.25, biases below 0.25 and all others below 0.5."""
    weights = {}
    for stream, (name, shape) in enumerate(shapes_of(case["model"]).items()):
        if name.endswith(".bias"):
            weights[name] = values(case["seed"], stream, shape, 0.25)
        elif len(shape) == 1:
            weights[name] = 1 + values(case["seed"], stream, shape, 0.25)
        else:
            weights[name] = values(case["seed"], stream, shape, 0.5)
    return weights


def batch_of(case):
    """input, target and position, [n, length] each. A target is the next token of the stream; if
    `ignored`, a quarter of them is -100 instead."""
    n, length = len(case["documents"]), sum(case["documents"][0])
    stream = hashed(case["seed"], 1000, n * length + 1) % case["model"]["vocabulary"]
    target = stream[1:].reshape(n, length).copy()
    if case["ignored"]:
        target[hashed(case["seed"], 1001, n * length).reshape(n, length) % 4 == 0] = -100
    position = [np.concatenate([np.arange(d) for d in row]) for row in case["documents"]]
    return {
        "input": stream[:-1].reshape(n, length).copy(),
        "target": target,
        "position": np.stack(position).astype(np.int64),
    }


def prompt_of(case):
    return hashed(case["seed"], 1002, 4) % case["model"]["vocabulary"]


def parameters_of(case):
    """What LAMB or Muon begins with."""
    weights = {
        name: values(case["seed"], stream, shape, 1.0)
        for stream, (name, shape) in enumerate(case["shapes"].items())
    }
    if "zero.weight" in weights:
        weights["zero.weight"][:] = 0
    return weights


def gradients_of(case, steps):
    """Gradients of each step, which do not depend on the weights."""
    gradients = [
        {
            name: values(case["seed"], 100 * step + stream, shape, 0.5)
            for stream, (name, shape) in enumerate(case["shapes"].items())
        }
        for step in range(1, steps + 1)
    ]
    for of_step in gradients:
        if "still.bias" in of_step:
            of_step["still.bias"][:] = 0
    return gradients
