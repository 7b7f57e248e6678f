#!/usr/bin/env python3
"""What 8-bit activations cost: `sluice divergence` over all golden cases and the demo's documents, in one table.

    activations.py [OPTIONS] [-- OPTIONS of sluice divergence, such as --kv f32]
      --sluice PROGRAM   default build/release/tools/sluice
      --types LIST       number formats of the containers; default q4_k,q8_0
      --golden DIR       a folder of golden cases (config.json, golden.safetensors); may be given again;
                         default: tests/data/golden
      --only LIST        some cases only; the demo's documents are called demo/NAME
      --documents N      N further documents for the demo, generated; default 12
      --tokens N         their length; default 512

Reference is the same container with f32 activations and an f32 KV cache. A golden case is its synthetic checkpoint, its prompt
and as many tokens of greedy continuation as it has; a document is the demo's prompt to summarise it, continued for as
long as Transformers' summary is (generated documents: the expected one). `same experts`: positions for which every layer chose the same ones;
`of these`: their mean. Standard library only. Exit status 1 if a command fails; no value is judged.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEMO = os.path.join(ROOT, "tools", "demo")
sys.path.insert(0, DEMO)


def run(command, text=None):
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def read_golden(folder):
    """(seed, prompt, tokens of its continuation) of a golden case."""
    with open(os.path.join(folder, "golden.safetensors"), "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        begin, end = header["input_ids"]["data_offsets"]
        f.seek(8 + size + begin)
        ids = list(struct.unpack(f"<{(end - begin) // 4}i", f.read(end - begin)))
    return header["__metadata__"]["seed"], ids, header["greedy"]["shape"][0]


def golden_cases(sluice, work, folders, wanted):
    """Yields (name, checkpoint folder, [(name, prompt, continuation)])."""
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            config = os.path.join(folder, name, "config.json")
            if not os.path.exists(config) or not wanted(name):
                continue
            seed, ids, greedy = read_golden(os.path.join(folder, name))
            checkpoint = os.path.join(work, "checkpoint")
            run([sluice, "synth", "--config", config, "--seed", seed, "-o", checkpoint])
            yield name, checkpoint, [(name, ids, greedy)]
            run(["rm", "-r", checkpoint])


def documents(count, tokens):
    """Yields (name, text, instruction, ids of the summary or None, summary)."""
    import generate  # the demo's
    folder = os.path.join(DEMO, "documents")
    for name in sorted(n[:-5] for n in os.listdir(folder) if n.endswith(".json")):
        with open(os.path.join(folder, name + ".json"), encoding="utf-8") as f:
            task = json.load(f)["tasks"][0]
        with open(os.path.join(folder, name + ".txt"), encoding="utf-8") as f:
            yield name, f.read().rstrip("\n"), task["instruction"], task["output_ids"], task["output"]
    for seed in range(7000, 7000 + count):
        document = generate.make(seed, tokens)
        yield str(seed), document["document"], generate.SUMMARY, None, document["summary"]


def tokenize(sluice, container, request):
    return json.loads(run([sluice, "tokenize", container], json.dumps(request) + "\n"))


def demo_prompts(sluice, container, wanted, count, tokens):
    prompts = []
    for name, text, instruction, ids, summary in documents(count, tokens):
        if not wanted("demo/" + name):
            continue
        messages = [{"role": "user", "content": f"{text}\n\n{instruction}"}]
        chat = tokenize(sluice, container, {"messages": messages, "tools": None, "add_generation_prompt": True})
        prompt = tokenize(sluice, container, {"text": chat["text"]})["ids"]
        ids = ids or tokenize(sluice, container, {"text": summary})["ids"]
        prompts.append(("demo/" + name, prompt, len(ids) + 1))  # and the end token
    return prompts


def measure(sluice, work, container, prompts, options):
    rows = []
    for name, ids, greedy in prompts:
        path = os.path.join(work, "ids.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(ids, f)
        row = json.loads(run([sluice, "divergence", container, "--ids", path, "--greedy", str(greedy), "--json", *options]))
        rows.append((name, row))
        kl, same = row["kl"], row["continuation"]
        print(f"{name:<12} {row['tokens']:>7} {kl['mean']:>9.2e} {kl['median']:>9.2e} {kl['worst']:>9.2e} "
              f"{100 * row['same_experts']:>11.2f} % {kl['mean_same_experts']:>9.2e} {100 * row['same_top']:>9.2f} % "
              f"{same['same']:>4} of {same['tokens']}", flush=True)
    return rows


def summarise(name, rows):
    if not rows:
        return
    tokens = sum(r["tokens"] for r in rows)
    mean = sum(r["kl"]["mean"] for r in rows) / len(rows)
    weighted = sum(r["kl"]["mean"] * r["tokens"] for r in rows) / tokens
    experts = sum(r["same_experts"] * r["tokens"] for r in rows) / tokens
    same, of = (sum(r["continuation"][k] for r in rows) for k in ("same", "tokens"))
    print(f"{name}: mean of {len(rows)} texts {mean:.2e}, of all {tokens} positions {weighted:.2e} nats; same experts for "
          f"{100 * experts:.2f} %; {same} of {of} continued tokens the same ({100 * same / of:.2f} %)")


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("--sluice", default=os.path.join(ROOT, "build", "release", "tools", "sluice"))
    parser.add_argument("--types", default="q4_k,q8_0")
    parser.add_argument("--golden", action="append")
    parser.add_argument("--only")
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else None

    def wanted(name):
        return names is None or name in names or (name.startswith("demo/") and "demo" in names)

    def measure_all(kind, work):
        print(f"\n{kind}, {' '.join(args.options) or 'default options'}")
        print(f"{'case':<12} {'tokens':>7} {'mean':>9} {'median':>9} {'worst':>9} {'same experts':>13} {'of these':>9} "
              f"{'same token':>11} continued alike")
        container = os.path.join(work, "model.sluice")
        golden = []
        for name, checkpoint, prompts in golden_cases(args.sluice, work, folders, wanted):
            run([args.sluice, "convert", checkpoint, "-o", container, "--force", "--type", kind])
            golden += measure(args.sluice, work, container, prompts, args.options)
        run([args.sluice, "convert", DEMO, "-o", container, "--force", "--type", kind])
        prompts = demo_prompts(args.sluice, container, wanted, args.documents, args.tokens)
        demo = measure(args.sluice, work, container, prompts, args.options)
        summarise("golden", [row for _, row in golden])
        summarise("demo", [row for _, row in demo])

    folders = args.golden or [os.path.join(ROOT, "tests", "data", "golden")]
    with tempfile.TemporaryDirectory(prefix="sluice-activations-") as work:
        for kind in args.types.split(","):
            measure_all(kind, work)


if __name__ == "__main__":
    main()
