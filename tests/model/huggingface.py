#!/usr/bin/env python3
"""Logits by the model classes of Hugging Face's transformers, in float64, on a CPU.

Another reference for test_forward, used by hand (make test-hf): what others wrote and published. Needs torch and
transformers. The classes read the checkpoint by their own rules for names and config fields; only FP8 weights
are decoded before. They keep float32 in norms, rotation and routers, so their results are good to about 1e-6.

    huggingface.py CKPT --tokens 5,7,9 [--tokens 1,2 ...] --out FILE.h5
        logits float64 [T][V] of every position of every sequence. Status 77: no class for the family.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from families import mxfp4  # noqa: E402
from reference import Checkpoint  # noqa: E402  (reading safetensors, nothing of a model)


def write_plain(source, directory, config):
    """The checkpoint without FP8, as float64 numbers: names and shapes stay."""
    import torch
    from safetensors.torch import save_file
    w = Checkpoint(source)
    tensors = {}
    for name in w.tensors:
        if name.endswith("_blocks"):  # gpt-oss: the class itself has inputs as rows
            name = name.removesuffix("_blocks")
            value = mxfp4(w.raw(name + "_blocks")[1], w.raw(name + "_scales")[1]).swapaxes(1, 2)
        elif name.endswith("_scale_inv") or w.raw(name)[0] == "U8":
            continue
        else:
            value = read(w, name)
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
    save_file(tensors, f"{directory}/model.safetensors", metadata={"format": "pt"})
    (Path(directory) / "config.json").write_text(json.dumps(config))


def read(w, name):
    """A tensor; of stacked FP8 experts one after the other."""
    dtype, raw = w.raw(name)
    if dtype == "F8_E4M3" and len(raw.shape) == 3:
        return np.stack([w(name, e) for e in range(len(raw))])
    return w(name)


def open_model(directory):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    config = json.loads((Path(directory) / "config.json").read_text())
    config.pop("quantization_config", None)
    kind = transformers.AutoModelForCausalLM
    if config["model_type"] == "step3p5":  # there as the text part of a model that sees; its eyes stay random
        small = dict(width=32, layers=1, heads=2, image_size=28)
        config = dict(model_type="step3p7", text_config=config, vision_config=small,
                      tie_word_embeddings=config["tie_word_embeddings"])
        kind = transformers.Step3p7ForConditionalGeneration
    with tempfile.TemporaryDirectory() as plain:
        write_plain(directory, plain, config)
        model, info = kind.from_pretrained(plain, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager",
                                           output_loading_info=True)
    def ours(keys):
        return sorted(k for k in map(str, keys) if "vision" not in k and "projector" not in k)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if ours(info[what]):
            sys.exit(f"{config['model_type']}: {what}: {ours(info[what])[:5]}")
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", action="append", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    kind = json.loads((Path(args.checkpoint) / "config.json").read_text())["model_type"]
    if kind == "step3_text":
        sys.exit(77)
    import torch
    torch.set_num_threads(1)
    model = open_model(args.checkpoint)
    out = []
    with torch.no_grad():
        for tokens in args.tokens:
            ids = torch.tensor([[int(t) for t in tokens.split(",")]])
            out.append(model(input_ids=ids, use_cache=False).logits[0].double().numpy())
    with h5py.File(args.out, "w") as f:
        f["logits"] = np.concatenate(out)


if __name__ == "__main__":
    main()
