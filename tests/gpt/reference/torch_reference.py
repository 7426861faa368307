"""GPT-2 and Llama in plain PyTorch, f64: forward, loss, gradients by autograd, AdamW.

Written from the papers and from the names and shapes of Hugging Face's checkpoints alone. It shares
no code with numpy_reference.py, which computes the same by hand.

`weights`: {name: tensor}. `model`: a dict with name, layers, width, heads, kv_heads, norm_eps and,
for llama, rope_theta and tied. `inputs`, `positions`, `targets`: [n, length], int64; positions are
counted within a document, and each 0 begins a document.
"""

import torch
import torch.nn.functional as F


def documents_mask(positions):
    """[n, 1, length, length]: true where the row's token attends to the column's token."""
    document = (positions == 0).cumsum(1)
    same = document.unsqueeze(2) == document.unsqueeze(1)
    return (same & torch.ones_like(same).tril()).unsqueeze(1)


def attention(q, k, v, mask):
    """q: [n, heads, length, head width]; k, v: as many or fewer heads, each for a group of q's."""
    group = q.size(1) // k.size(1)
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(-1, -2) / q.size(-1) ** 0.5
    probabilities = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return (probabilities @ v).transpose(1, 2).flatten(2)


def split(x, heads):
    return x.unflatten(-1, (heads, x.size(-1) // heads)).transpose(1, 2)


def gpt2(w, model, inputs, positions):
    """Radford et al. 2019. Returns logits, [n, length, vocabulary]."""

    def norm(x, name):
        return F.layer_norm(
            x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], model["norm_eps"]
        )

    def conv1d(x, name):  # the weight is [in, out]
        return x @ w[name + ".weight"] + w[name + ".bias"]

    mask = documents_mask(positions)
    x = w["wte.weight"][inputs] + w["wpe.weight"][positions]
    for layer in range(model["layers"]):
        h = f"h.{layer}."
        qkv = conv1d(norm(x, h + "ln_1"), h + "attn.c_attn").chunk(3, -1)
        x = x + conv1d(
            attention(*(split(each, model["heads"]) for each in qkv), mask), h + "attn.c_proj"
        )
        hidden = F.gelu(conv1d(norm(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh")
        x = x + conv1d(hidden, h + "mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def rotate(x, positions, theta):
    """Rotary embedding (Su et al. 2021): element i turns with element i + head width / 2."""
    half = x.size(-1) // 2
    frequencies = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = (positions.unsqueeze(-1) * frequencies).unsqueeze(1)
    a, b = x.split(half, -1)
    return torch.cat(
        [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1
    )


def llama(w, model, inputs, positions):
    """Touvron et al. 2023. Returns logits, [n, length, vocabulary]."""

    def norm(x, name):
        scale = (x.square().mean(-1, keepdim=True) + model["norm_eps"]).rsqrt()
        return x * scale * w[name + ".weight"]

    def linear(x, name):  # the weight is [out, in]
        return F.linear(x, w[name + ".weight"])

    mask = documents_mask(positions)
    x = w["model.embed_tokens.weight"][inputs]
    for layer in range(model["layers"]):
        at = f"model.layers.{layer}."
        y = norm(x, at + "input_layernorm")
        q = split(linear(y, at + "self_attn.q_proj"), model["heads"])
        k = split(linear(y, at + "self_attn.k_proj"), model["kv_heads"])
        v = split(linear(y, at + "self_attn.v_proj"), model["kv_heads"])
        q, k = (rotate(each, positions, model["rope_theta"]) for each in (q, k))
        x = x + linear(attention(q, k, v, mask), at + "self_attn.o_proj")
        y = norm(x, at + "post_attention_layernorm")
        hidden = F.silu(linear(y, at + "mlp.gate_proj")) * linear(y, at + "mlp.up_proj")
        x = x + linear(hidden, at + "mlp.down_proj")
    head = "model.embed_tokens" if model["tied"] else "lm_head"
    return linear(norm(x, "model.norm"), head)


def forward(weights, model, inputs, positions):
    return {"gpt2": gpt2, "llama": llama}[model["name"]](weights, model, inputs, positions)


def loss_sum(logits, targets, label_smoothing, z_loss):
    """The sum over all targets but those of -100; `z_loss`: the coefficient (PaLM, section 5)."""
    loss = F.cross_entropy(
        logits.flatten(0, 1),
        targets.flatten(),
        ignore_index=-100,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    squares = logits.logsumexp(-1).square()
    return loss + z_loss * squares[targets != -100].sum()


def tensors_of(arrays):
    return {name: torch.tensor(values) for name, values in arrays.items()}


def arrays_of(tensors):
    return {name: values.detach().numpy().copy() for name, values in tensors.items()}


def evaluate(weights, model, batch, loss):
    """Takes and returns numpy arrays: logits, loss sum, its weight, gradients of sum / weight."""
    w = {name: values.requires_grad_() for name, values in tensors_of(weights).items()}
    data = tensors_of(batch)
    logits = forward(w, model, data["input"], data["position"])
    total = loss_sum(logits, data["target"], loss["label_smoothing"], loss["z_loss"])
    count = (data["target"] != -100).sum()
    (total / count).backward()
    gradients = arrays_of({name: values.grad for name, values in w.items()})
    return logits.detach().numpy(), total.item(), count.item(), gradients


def train(weights, model, batch, loss, options, steps):
    """Returns the parameters after each of `steps` steps of torch's AdamW on the same batch."""
    w = {name: values.requires_grad_() for name, values in tensors_of(weights).items()}
    data = tensors_of(batch)
    decayed = [p for p in w.values() if options["decayed"] == "all" or p.dim() == 2]
    others = [p for p in w.values() if options["decayed"] != "all" and p.dim() != 2]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=options["lr"],
        betas=(options["beta1"], options["beta2"]),
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
    after = []
    for _ in range(steps):
        optimizer.zero_grad()
        logits = forward(w, model, data["input"], data["position"])
        total = loss_sum(logits, data["target"], loss["label_smoothing"], loss["z_loss"])
        (total / (data["target"] != -100).sum()).backward()
        if options["clip_norm"]:
            torch.nn.utils.clip_grad_norm_(w.values(), options["clip_norm"])
        optimizer.step()
        after.append(arrays_of(w))
    return after


def adamw(weight, gradients, options):
    """The parameter after one step with each of `gradients`; options as in a file of Muon."""
    w = torch.tensor(weight, requires_grad=True)
    optimizer = torch.optim.AdamW(
        [w],
        lr=options["adamw.lr"],
        betas=(options["adamw.beta1"], options["adamw.beta2"]),
        eps=options["adamw.eps"],
        weight_decay=options["adamw.weight_decay"],
    )
    for gradient in gradients:
        w.grad = torch.tensor(gradient)
        optimizer.step()
    return w.detach().numpy()


@torch.no_grad()
def generate(weights, model, prompt, count):
    """Returns `count` tokens, each the most likely after all before it, without a cache."""
    w, tokens = tensors_of(weights), torch.tensor(prompt).unsqueeze(0)
    for _ in range(count):
        positions = torch.arange(tokens.size(1)).unsqueeze(0)
        next_token = forward(w, model, tokens, positions)[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, next_token], 1)
    return tokens[0, -count:].tolist()
