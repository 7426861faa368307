#!/usr/bin/python3
"""Writes the golden files of tests/resnet/data: reference.py [--check]

With --check no file is written; those that lie there must hold what is computed, to 1e-12. Needs
Debian's python3-torch and python3-numpy and nothing from the network.
"""

import argparse
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "gpt/reference"))
import safetensors_file
from cases import hashed, values
from make_goldens import require_close

CASES = {
    # The stem of small images; gray.
    "small": dict(seed=31, stem="small", stem_channels=4, outputs=5, images=(3, 1, 32, 32)),
    # Sides that do not halve evenly; colored.
    "imagenet": dict(seed=32, stem="imagenet", stem_channels=2, outputs=3, images=(4, 3, 70, 66)),
}


class BasicBlock(nn.Module):
    """He et al. 2016, figure 2; where the shape changes the shortcut is a 1x1 convolution."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Resnet18(nn.Module):
    """With the names of torchvision's resnet18."""

    def __init__(self, stem, stem_channels, outputs, image_channels):
        super().__init__()
        c = stem_channels
        if stem == "small":
            self.conv1 = nn.Conv2d(image_channels, c, 3, 1, 1, bias=False)
            self.maxpool = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(image_channels, c, 7, 2, 3, bias=False)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.bn1 = nn.BatchNorm2d(c)
        self.layer1 = nn.Sequential(BasicBlock(c, c, 1), BasicBlock(c, c, 1))
        self.layer2 = nn.Sequential(BasicBlock(c, 2 * c, 2), BasicBlock(2 * c, 2 * c, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * c, 4 * c, 2), BasicBlock(4 * c, 4 * c, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * c, 8 * c, 2), BasicBlock(8 * c, 8 * c, 1))
        self.fc = nn.Linear(8 * c, outputs)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def set_weights(model, seed):
    """Scales of batch normalization are between 0.75 and 1.25, biases below 0.25 and all others
    below 0.5. The stream of a parameter is its place among all names, sorted."""
    parameters = dict(model.named_parameters())
    for stream, name in enumerate(sorted(parameters)):
        shape = tuple(parameters[name].shape)
        if name.endswith(".bias"):
            numbers = values(seed, stream, shape, 0.25)
        elif len(shape) == 1:
            numbers = 1 + values(seed, stream, shape, 0.25)
        else:
            numbers = values(seed, stream, shape, 0.5)
        with torch.no_grad():
            parameters[name].copy_(torch.tensor(numbers))


def golden_of(case):
    """One forward and backward pass in training, then one forward pass in evaluation."""
    model = Resnet18(case["stem"], case["stem_channels"], case["outputs"], case["images"][1])
    model.double()
    set_weights(model, case["seed"])
    images = torch.tensor(values(case["seed"], 1000, case["images"], 1.0))
    target = torch.tensor(hashed(case["seed"], 1001, len(images)) % case["outputs"])
    logits = model(images)
    loss = F.cross_entropy(logits, target)
    loss.backward()
    model.eval()
    tensors = {
        "target": target,
        "logits": logits,
        "loss": loss,
        "evaluation_logits": model(images),
    }
    tensors |= {"gradient." + name: p.grad for name, p in model.named_parameters()}
    tensors |= {"buffer." + name: buffer for name, buffer in model.named_buffers()}
    metadata = {key: str(value) for key, value in case.items() if key != "images"}
    metadata |= {"images": " ".join(map(str, case["images"])), "format": "pt"}
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}, metadata


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write none")
    check = parser.parse_args().check
    for case_name, case in CASES.items():
        path = HERE / "data" / f"{case_name}.safetensors"
        tensors, metadata = golden_of(case)
        if not check:
            path.parent.mkdir(exist_ok=True)
            safetensors_file.write(path, tensors, metadata)
            continue
        old, old_metadata = safetensors_file.read(path)
        assert old_metadata == metadata, f"{path}: other metadata"
        assert old.keys() == tensors.keys(), f"{path}: other tensors"
        for name, numbers in tensors.items():
            require_close(f"{path}: {name}", old[name], numbers)


if __name__ == "__main__":
    main()
