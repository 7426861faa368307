"""GPT-2 as a user of PyTorch writes it: modules, a materialized mask, the whole logits."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x, mask):
        n, length, width = x.shape
        q, k, v = (
            part.view(n, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, -1)
        )
        scores = q @ k.transpose(-2, -1) * k.size(-1) ** -0.5 + mask[:length, :length]
        y = scores.softmax(-1) @ v
        return self.c_proj(y.transpose(1, 2).reshape(n, length, width))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x, mask):
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Parameters are named as in Hugging Face's checkpoints of GPT-2; the head is the embedding."""

    def __init__(self, layers, width, heads, context, vocabulary):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        mask = torch.full((context, context), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 * ((2 * layers) ** -0.5 if residual else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens, targets):
        """Returns the mean loss; both are [n, length]."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.size(1)))
        for block in self.h:
            x = block(x, self.mask)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def is_conv1d(name):
    """Hugging Face stores these weights as [in, out], torch.nn.Linear as [out, in]."""
    return name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))


def tensors_of(model):
    """The parameters as Hugging Face's checkpoints have them, as numpy arrays."""
    return {
        name: (p.t() if is_conv1d(name) else p).detach().contiguous().numpy()
        for name, p in model.named_parameters()
    }


@torch.no_grad()
def load_tensors(model, tensors):
    """Fills `model` from a checkpoint's arrays. Names may begin with "transformer."."""
    tensors = {name.removeprefix("transformer."): values for name, values in tensors.items()}
    for name, parameter in model.named_parameters():
        values = torch.from_numpy(tensors[name]).to(parameter.dtype)
        values = values.t() if is_conv1d(name) else values
        if values.shape != parameter.shape:
            raise SystemExit(f"{name}: {list(values.shape)}, wanted {list(parameter.shape)}")
        parameter.copy_(values)


def adamw_groups(model, weight_decay):
    """Decay on matrices and embeddings, not on biases and norms."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() == 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() != 2], "weight_decay": 0.0},
    ]
