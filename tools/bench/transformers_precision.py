#!/usr/bin/env python3
"""A yardstick for activations.py: what a lower precision costs in Transformers itself, on a golden case, in the same measure.

    transformers_precision.py CHECKPOINT_DIR GOLDEN.safetensors [DTYPE...]     default: bfloat16 float16

CHECKPOINT_DIR is what `sluice synth --config tests/data/golden/CASE/config.json --seed 1 -o CHECKPOINT_DIR` writes. The
reference is Transformers in float32, which must agree with the golden's logits. Then, for each type: mean, median and largest KL(reference ||
type) over the positions of the golden's prompt, softmax and sums in float64; the share of positions for which every layer chose the
same experts, and the mean of these. Needs PyTorch, Transformers and safetensors.
"""
import sys
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)


def compute(folder, ids, dtype):
    """(logits, [experts of a layer, sorted])"""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    experts = []
    for layer in model.model.layers:
        if hasattr(layer.mlp, "experts"):
            layer.mlp.gate.register_forward_hook(lambda m, a, o: experts.append(o[2].sort(-1).values))
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0].double(), experts


def main():
    golden = load_file(sys.argv[2])
    ids = golden["input_ids"].long()[None]
    reference, reference_experts = compute(sys.argv[1], ids, torch.float32)
    rows = golden["rows"].long() if "rows" in golden else torch.arange(len(reference))
    off = (reference[rows] - golden["logits"].double()).abs().max().item()
    print(f"{ids.shape[1]} tokens, float32 differs from the golden's logits by at most {off:.1e}")
    if off > 1e-3:
        sys.exit("this is not the checkpoint of this golden")
    p = reference.log_softmax(-1)
    for name in sys.argv[3:] or ["bfloat16", "float16"]:
        logits, experts = compute(sys.argv[1], ids, getattr(torch, name))
        kl = (p.exp() * (p - logits.log_softmax(-1))).sum(-1)
        same = torch.stack([(a == b).all(-1) for a, b in zip(reference_experts, experts, strict=True)]).all(0)
        print(f"{name}: mean {kl.mean().item():.2e}, median {kl.median().item():.2e}, worst {kl.max().item():.2e} nats; same "
              f"experts for {100 * same.double().mean().item():.2f} %, mean of these {kl[same].mean().item():.2e}", flush=True)


if __name__ == "__main__":
    main()
