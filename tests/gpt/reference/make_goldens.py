#!/usr/bin/python3
"""Writes the golden files of tests/gpt/data and tests/optim/data: make_goldens.py [--check]

With --check no file is written; those that lie there must hold what is computed, to 1e-12. Needs
Debian's python3-torch and python3-numpy and nothing from the network.
"""

import argparse
import pathlib

import numpy as np

import numpy_reference
import optimizer_reference
import safetensors_file
import torch_reference
from cases import CASES, OPTIMIZERS
from cases import batch_of, gradients_of, parameters_of, prompt_of, values, weights_of

TOLERANCE = 1e-12
GENERATED = 12
TESTS = pathlib.Path(__file__).resolve().parents[2]


def require_close(name, got, wanted, tolerance=TOLERANCE):
    """The greatest difference must not exceed the tolerance times the greatest magnitude."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{name}: {got.shape} and {wanted.shape}"
    if wanted.size == 0:
        return 0.0
    scale = np.abs(wanted).max()
    error = np.abs(got - wanted).max() / (scale if scale > 0 else 1)
    assert error <= tolerance, f"{name}: relative error {error:.1e}, {tolerance:.0e} is allowed"
    return error


def check_differences(weights, case, batch, gradients):
    """Central differences of numpy's loss at three elements of each tensor."""
    step, worst = 1e-5, 0.0
    for name, gradient in gradients.items():
        scale = np.abs(gradient).max()
        for at in {0, gradient.size // 2, int(np.abs(gradient).argmax())}:
            means = []
            for sign in 1, -1:
                moved = dict(weights)
                moved[name] = weights[name].copy()
                moved[name].flat[at] += sign * step
                _, total, count, _ = numpy_reference.evaluate(
                    moved, case["model"], batch, case["loss"]
                )
                means.append(total / count)
            error = abs((means[0] - means[1]) / (2 * step) - gradient.flat[at]) / scale
            assert error < 1e-6, f"{name}[{at}]: differs from finite differences by {error:.1e}"
            worst = max(worst, error)
    return worst


def golden_of(case):
    """Computes one case twice and compares. Returns tensors, metadata and a line on the errors."""
    weights, batch = weights_of(case), batch_of(case)
    arguments = weights, case["model"], batch, case["loss"]
    logits, total, count, gradients = numpy_reference.evaluate(*arguments)
    other_logits, other_total, other_count, other_gradients = torch_reference.evaluate(*arguments)
    assert count == other_count
    errors = [
        require_close("logits", other_logits, logits),
        require_close("loss_sum", other_total, total),
    ]
    errors += [require_close(name, other_gradients[name], g) for name, g in gradients.items()]
    after = numpy_reference.train(*arguments, case["optimizer"], 3)
    other_after = torch_reference.train(*arguments, case["optimizer"], 3)
    for step in 0, 2:
        for name, values in after[step].items():
            name_then = f"after_{step + 1}.{name}"
            errors.append(require_close(name_then, other_after[step][name], values))

    prompt = prompt_of(case)
    generated, distance = numpy_reference.generate(weights, case["model"], prompt, GENERATED)
    assert generated == torch_reference.generate(weights, case["model"], prompt, GENERATED)
    # f32 and bf16 must find the same tokens, and a model that repeats itself would prove little.
    assert distance > 0.05, f"two logits are only {distance} apart"
    assert len(set(generated)) >= 5, f"{generated} has few different tokens"

    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    clip = case["optimizer"]["clip_norm"]
    tensors = dict(batch)
    tensors["prompt"], tensors["generated"] = prompt, np.array(generated)
    tensors["logits"] = logits
    tensors["loss_sum"] = np.array([total])
    tensors["loss_weight"] = np.array([float(count)])
    tensors["gradient_norm"] = np.array([norm])
    for name, values in weights.items():
        tensors["weight." + name] = values
        tensors["gradient." + name] = gradients[name]
        tensors["after_1." + name] = after[0][name]
        tensors["after_3." + name] = after[2][name]
    metadata = {"format": "pt"}
    for part in "model", "loss", "optimizer":
        for key, value in case[part].items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            metadata[f"{part}.{key}"] = text
    line = (
        f"references differ by {max(errors):.1e}, finite differences by "
        f"{check_differences(weights, case, batch, gradients):.1e}; mean loss {total / count:.3f}, "
        f"gradient norm {norm:.3f}, clipped to {clip or 'nothing'}; generated {generated}, "
        f"logits {distance:.3f} apart"
    )
    return tensors, metadata, line


def optimizer_golden_of(name, case):
    weights, gradients = parameters_of(case), gradients_of(case, 3)
    options = case["options"]
    after = getattr(optimizer_reference, name)(weights, gradients, options)
    if name == "lamb":
        # A tensor moves by lr times its own norm, whatever the gradient is.
        for parameter, w in weights.items():
            moved = np.linalg.norm(after[0][parameter] - w)
            if np.any(w):
                require_close(parameter, moved, options["lr"] * np.linalg.norm(w))
    else:
        for parameter in options["adamw.names"].split():
            of_parameter = [of_step[parameter] for of_step in gradients]
            wanted = torch_reference.adamw(weights[parameter], of_parameter, options)
            require_close(parameter, after[2][parameter], wanted)
    tensors = {}
    for parameter, values in weights.items():
        tensors["weight." + parameter] = values
        for step in range(3):
            tensors[f"gradient_{step + 1}.{parameter}"] = gradients[step][parameter]
            tensors[f"after_{step + 1}.{parameter}"] = after[step][parameter]
    metadata = {"format": "pt", "optimizer.name": name}
    metadata |= {f"optimizer.{key}": str(value) for key, value in case["options"].items()}
    return tensors, metadata


def check_orthogonalize():
    """Singular values must come out near 1, and the singular vectors must stay."""
    for shape in (3, 5), (7, 4), (6, 6):
        matrix = values(1, 1, shape, 1.0)
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
        turned = u.T @ optimizer_reference.orthogonalize(matrix, 5) @ v.T
        assert np.all((np.diag(turned) > 0.6) & (np.diag(turned) < 1.3)), np.diag(turned)
        require_close("singular vectors", np.diag(np.diag(turned)), turned)


def save(path, tensors, metadata, check):
    if not check:
        path.parent.mkdir(exist_ok=True)
        safetensors_file.write(path, tensors, metadata)
        assert path.stat().st_size < 100_000, f"{path} has {path.stat().st_size} bytes"
        return
    old, old_metadata = safetensors_file.read(path)
    assert old_metadata == metadata, f"{path}: other metadata"
    assert old.keys() == tensors.keys(), f"{path}: other tensors"
    for name, values in tensors.items():
        require_close(f"{path}: {name}", old[name], values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write none")
    check = parser.parse_args().check
    for name, case in CASES.items():
        tensors, metadata, line = golden_of(case)
        save(TESTS / "gpt" / "data" / f"{name}.safetensors", tensors, metadata, check)
        print(f"{name}: {line}")
    check_orthogonalize()
    for name, case in OPTIMIZERS.items():
        tensors, metadata = optimizer_golden_of(name, case)
        save(TESTS / "optim" / "data" / f"{name}.safetensors", tensors, metadata, check)


if __name__ == "__main__":
    main()
