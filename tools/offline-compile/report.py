#!/usr/bin/env python3
"""The table of the offline compilers, and its ceilings. Standard library only; run.sh calls it.

    report.py [--sources TREE] [--ceilings FILE [--update]] [--markdown] [--peer DIR] DIR TARGET...

Reads DIR/TARGET.tsv and DIR/TARGET/n.txt, which shader_stats wrote. Prints one line per kernel, variant and target; with
--markdown one line per class and target, with --peer the matrix-vector products beside llama.cpp's, which peer.sh left in
that folder. Exit status 1 if a variant is bad or goes over its ceiling.

A class is a kernel; matrix kernels have two, for one row of activations (/1) and for several (/n), and a third for those
without the dot product instruction (/plain). The ceilings of a class
bound its worst variant. --update sets them to what was measured and a tenth, for the targets given.
"""
import argparse
import math
import os
import re
import sys

import loops

MARGIN = 1.1
SHARED_MAX = 32 * 1024
MATVEC_WAVES_MIN = 8  # on RDNA 3: fewer do not hide the latency of memory
CEILING_HEAD = """\
# The most that a class of kernels may take on a target (Mesa's version behind the @), checked by run.sh and written by
# run.sh --update-ceilings: what was measured and a tenth. Spills and scratch memory are never allowed, shared memory
# never beyond 32 KiB. registers, shared (bytes) and per_weight (instructions) are maxima, waves is a minimum.
"""
FIELDS = ["registers", "shared", "waves", "per_weight"]


class Row:
    def __init__(self, kernel, constants, target):
        self.kernel, self.constants, self.target = kernel, constants, target
        self.problem, self.skipped = None, None
        self.values = {}

    def constant(self, number, default):
        found = re.search(rf"(?:^| ){number}=(\d+)", self.constants)
        return int(found.group(1)) if found else default

    def columns(self):
        return self.constant(2, 1)

    def class_name(self):
        if not re.match(r"matmul_|mul_mat_vec", self.kernel):
            return self.kernel
        if self.kernel.startswith("matmul_q") and self.constant(5, 1) == 0:
            return self.kernel + "/plain"
        return self.kernel + ("/1" if self.columns() == 1 else "/n")


# ---- weights per trip of the loops

def our_step(tree):
    """format -> (columns of a step, groups of a step), from the sources."""
    steps = {}
    with open(os.path.join(tree, "quant/tile_layout.h"), encoding="utf-8") as f:
        for name, columns in re.findall(r"#define QUANT_(\w+)_STEP_COLS (\d+)", f.read()):
            steps[name.lower()] = int(columns)
    formats = {}
    for name, columns in steps.items():
        path = os.path.join(tree, f"shaders/format_{name}.glsl")
        with open(path, encoding="utf-8") as f:
            groups = re.search(r"#define FORMAT_GROUPS (\d+)u", f.read())
        if groups:
            formats[name] = (columns, int(groups.group(1)))
    return formats


def weights_per_trip(row, formats):
    """(inner, outer) for loops.per_weight, or None where the kernel does not multiply by quantised weights."""
    ours = re.match(r"matmul_(q\w+?_[0k])(_q8)?(?:_slabs)?$", row.kernel)
    if ours and ours.group(1) in formats:
        columns, groups = formats[ours.group(1)]
        rows = row.constant(1, 1) * row.constant(3, 1)
        if not ours.group(2) and row.constant(6, 1) == 0:
            return None  # pieces in a loop of their own, and nothing in the assembly that counts weights
        return columns // groups * rows, columns * rows
    # llama.cpp: constants 1 and 2 are rows and columns. Its integer kernels say themselves, by their dot products. Of its
    # float kernels a lane takes 16 weights of a k-quant's block per row, and 4 times 8 weights of other formats.
    theirs = re.match(r"mul_mat_vec_(?:id_)?(q\d_[0k])_f32", row.kernel)
    if theirs:
        return (16 if theirs.group(1).endswith("k") else 32) * row.constant(1, 1), None
    return None


# ---- reading

def number(text):
    return None if text == "-" else int(text)


def read_target(folder, target, formats):
    """(rows, driver) of a target."""
    with open(os.path.join(folder, target + ".tsv"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    driver = lines[0].lstrip("# ")
    rows, names = [], []
    for line in lines[1:]:
        cells = line.split("\t")
        if cells[0] == "kernel":
            names = cells[2:]
        elif len(cells) > 2:
            row = Row(cells[0], cells[1], target)
            rows.append(row)
            if cells[-1].startswith("<-- "):
                row.problem = cells.pop()[4:]
            row.skipped = cells[-1] if cells[-1].startswith("skipped") else None
            if len(cells) == 2 + len(names):
                row.values = dict(zip(names, map(number, cells[2:])))
                finish(row, folder, len(rows) - 1, formats)
    if not any(line.startswith("# ") and " variants, " in line for line in lines):
        rows.append(Row("(the compiler)", "", target))
        rows[-1].problem = f"did not come to its end; see {target}.log"
    return rows, driver


def finish(row, folder, index, formats):
    values = row.values
    if "rdna" in row.target and values["waves"]:
        # RADV counts in subgroups of 32 lanes, whatever the kernel's are.
        values["waves"] //= max(values["subgroup"] // 32, 1)
    values["per_weight"] = None
    weights = weights_per_trip(row, formats)
    path = os.path.join(folder, row.target, f"{index}.txt")
    is_quantised = weights or row.kernel.startswith("mul_mat_vec")
    if is_quantised and os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            cost = loops.per_weight(f.read(), row.columns(), *(weights or (None, None)))
        values["per_weight"] = cost and round(cost, 2)


# ---- ceilings

def class_worst(rows):
    """(class, target) -> the worst of each field."""
    worst = {}
    for row in rows:
        entry = worst.setdefault((row.class_name(), row.target), {})
        for field in FIELDS:
            value = row.values.get(field)
            if value is not None:
                pick = min if field == "waves" else max
                entry[field] = pick(entry.get(field, value), value)
    return {key: entry for key, entry in worst.items() if entry}


def is_matvec(class_name):
    return re.match(r"matmul_(q\w+_q8|bf16)(_slabs)?/1$", class_name)


def loosened(class_name, target, entry):
    """The ceiling for what was measured."""
    result = {}
    for field, value in entry.items():
        if field == "waves":
            floor = MATVEC_WAVES_MIN if "rdna3" in target and is_matvec(class_name) else 1
            result[field] = max(math.floor(value / MARGIN), floor)
        elif field == "per_weight":
            result[field] = round(value * MARGIN, 2)
        else:
            result[field] = math.ceil(value * MARGIN)
    if "shared" in result:
        result["shared"] = min(result["shared"], SHARED_MAX)
    return result


def read_ceilings(path):
    ceilings = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                words = line.split("#")[0].split()
                if words:
                    ceilings[(words[0], words[1])] = {k: float(v) for k, v in (w.split("=") for w in words[2:])}
    return ceilings


def write_ceilings(path, ceilings):
    with open(path, "w", encoding="utf-8") as f:
        f.write(CEILING_HEAD)
        for (name, target), entry in sorted(ceilings.items(), key=lambda item: (item[0][1], item[0][0])):
            f.write(f"{name} {target} " + " ".join(f"{k}={entry[k]:g}" for k in FIELDS if k in entry) + "\n")


def over_ceilings(worst, ceilings, labels):
    """Lines that say what is over; labels: target -> its name in the ceilings."""
    known = {target for _, target in ceilings}
    for (name, target), entry in sorted(worst.items()):
        if labels[target] not in known:
            continue
        ceiling = ceilings.get((name, labels[target]))
        if ceiling is None:
            yield f"{name} on {labels[target]}: has no ceiling yet (run.sh --update-ceilings)"
            continue
        for field, value in entry.items():
            bound = ceiling.get(field)
            if bound is not None and (value < bound if field == "waves" else value > bound):
                word = "fewer" if field == "waves" else "more"
                yield f"{name} on {labels[target]}: {field} {value:g}, {word} than the ceiling's {bound:g}"


# ---- printing

COLUMNS = [("instr", "instructions"), ("per wt", "per_weight"), ("regs", "registers"), ("scalar", "scalar"),
           ("spills", "spills"), ("scratch", "scratch"), ("shared", "shared"), ("waves", "waves"), ("code", "code"),
           ("size", "subgroup")]


def print_table(rows):
    kernels = max((len(r.kernel) for r in rows), default=6)
    constants = max((len(r.constants) for r in rows), default=9)
    targets = max((len(r.target) for r in rows), default=6)
    print(f"{'kernel':{kernels}} {'constants':{constants}} {'target':{targets}}",
          " ".join(f"{title:>7}" for title, _ in COLUMNS))
    for row in sorted(rows, key=lambda r: (r.kernel, r.constants)):
        cells = [row.values.get(field) for _, field in COLUMNS]
        text = row.skipped or " ".join(f"{'-' if c is None else c:>7}" for c in cells)
        print(f"{row.kernel:{kernels}} {row.constants:{constants}} {row.target:{targets}} {text}"
              + (f"  <-- {row.problem}" if row.problem else ""))


def print_markdown(rows, targets):
    """One line per class: registers (worst), waves (worst) and, where there are any, instructions per weight (best)."""
    worst = class_worst(rows)
    print("| kernel | " + " | ".join(targets) + " |\n|---" * 1 + "|---" * len(targets) + "|")
    for name in sorted({name for name, _ in worst}):
        cells = []
        for target in targets:
            entry = worst.get((name, target), {})
            costs = [r.values["per_weight"] for r in rows
                     if r.class_name() == name and r.target == target and r.values.get("per_weight")]
            cells.append(f"{entry.get('registers', '-')} / {entry.get('waves', '-')}"
                         + (f" / {min(costs):.2f}" if costs else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")


def span(values, text="{}"):
    low, high = text.format(min(values)), text.format(max(values))
    return low if low == high else f"{low}–{high}"


def peer_cell(rows, pattern, target):
    """The ranges over a format's kernels for one row of activations: instructions per weight, registers, waves."""
    chosen = [r.values for r in rows if r.target == target and r.columns() == 1 and r.values.get("per_weight")
              and re.fullmatch(pattern, r.kernel)]
    if not chosen:
        return "-"
    parts = [span([v["per_weight"] for v in chosen], "{:.2f}"), span([v["registers"] for v in chosen])]
    if all(v["waves"] for v in chosen):
        parts.append(span([v["waves"] for v in chosen]))
    return "; ".join(parts)


def print_comparison(ours, theirs, targets):
    print("| format | | " + " | ".join(targets) + " |\n" + "|---" * (len(targets) + 2) + "|")
    for name in ["q4_k", "q5_k", "q6_k", "q8_0"]:
        for who, rows, pattern in [("ours", ours, f"matmul_{name}_q8(_slabs)?"),
                                   ("llama.cpp, integers", theirs, f"mul_mat_vec_(id_)?{name}_q8_1.*"),
                                   ("llama.cpp, floats", theirs, f"mul_mat_vec_(id_)?{name}_f32.*")]:
            print(f"| {name if who == 'ours' else ''} | {who} | "
                  + " | ".join(peer_cell(rows, pattern, target) for target in targets) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sources", default=".")
    parser.add_argument("--ceilings")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--peer")
    parser.add_argument("folder")
    parser.add_argument("targets", nargs="+")
    options = parser.parse_args()
    formats = our_step(options.sources)
    rows, labels, drivers = [], {}, {}
    for target in options.targets:
        found, drivers[target] = read_target(options.folder, target, formats)
        version = re.search(r"Mesa (\d+\.\d+)", drivers[target])
        labels[target] = f"{target}@{version.group(1) if version else 'unknown'}"
        rows += found
    if options.peer:
        theirs = [row for target in options.targets for row in read_target(options.peer, target, formats)[0]]
        print_comparison(rows, theirs, options.targets)
        return 0
    if options.markdown:
        print_markdown(rows, options.targets)
        return 0
    print_table(rows)
    for target in options.targets:
        print(f"== {target}: {drivers[target]}")

    problems = [f"{r.kernel} {r.constants} on {r.target}: {r.problem}" for r in rows if r.problem]
    worst = class_worst(rows)
    if options.ceilings and options.update:
        ceilings = {k: v for k, v in read_ceilings(options.ceilings).items() if k[1] not in labels.values()}
        ceilings.update({(name, labels[target]): loosened(name, target, entry)
                         for (name, target), entry in worst.items()})
        write_ceilings(options.ceilings, ceilings)
    if options.ceilings:
        ceilings = read_ceilings(options.ceilings)
        for target in options.targets:
            if labels[target] not in {known for _, known in ceilings}:
                print(f"== {labels[target]}: this compiler has no ceilings, only the fixed limits were checked")
        problems += over_ceilings(worst, ceilings, labels)
    for problem in problems:
        print(f"<-- {problem}")
    print(f"{len(rows)} variants, {len(problems)} bad")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
