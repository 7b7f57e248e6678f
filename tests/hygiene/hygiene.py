#!/usr/bin/env python3
"""Keeps the tree in the order that the design promises. Standard library only.

    hygiene.py CHECK [ROOT]     one of the checks below, or "all"; prints what is wrong, exit status 1 if anything is

A check is a function of the tree (a dict path -> text) that yields one line per problem. test_hygiene.py shows that each
of them can fail.
"""
import os
import re
import sys

# ---- what the checks enforce

# Who may include whom, by folder; the longest prefix counts. Every folder may include itself.
BASE, QUANT, SHADERS, OFFLOAD = "runtime/base/", "quant/", "shaders/", "offload/"
GPU, OPS, MODEL, TEXT, API = "runtime/gpu/", "runtime/ops/", "runtime/model/", "runtime/text/", "runtime/sluice.h"
# Making containers and checkpoints needs no engine, so it is not part of the API; tools calls it directly.
CHECKPOINT_HEADERS = ["config.h", "convert.h", "shape.h", "synth_checkpoint.h", "synth_container.h"]
BENCH_HEADERS = ["tools/bench/probe.h", "tools/bench/bench_compare.h"]
MAY_INCLUDE = {
    BASE: [],
    QUANT: [BASE],
    SHADERS: ["quant/tile_layout.h"],  # the block structs that host and kernels share
    OFFLOAD: [BASE],
    GPU: [BASE, SHADERS],
    OPS: [BASE, SHADERS, QUANT, GPU],
    TEXT: [BASE],
    MODEL: [BASE, SHADERS, QUANT, OFFLOAD, GPU, OPS, API],
    API: [BASE],
    "tools/": [BASE, QUANT, OFFLOAD, TEXT, API] + [MODEL + h for h in CHECKPOINT_HEADERS] + BENCH_HEADERS,
    # The bench drives operations and the device directly; the rest of tools sees two headers of it.
    "tools/bench/": [BASE, QUANT, SHADERS, GPU, OPS],
    "tools/offline-compile/": [],
    "tests/": [BASE, QUANT, SHADERS, OFFLOAD, GPU, OPS, TEXT, MODEL, API, "tools/"],
}
# Only the GPU layer knows Vulkan. What looks at drivers and validation layers themselves does too.
MAY_INCLUDE_VULKAN = [GPU, "tools/offline-compile/", "tests/hygiene/sync_canary.c"]

# The library never prints, exits or reads the environment.
FORBIDDEN_CALLS = "printf fprintf vprintf vfprintf puts fputs putchar perror exit _exit abort getenv secure_getenv setenv"
MAY_CALL = [
    "tools/",
    "tests/",
    "runtime/base/check.c",  # our own bug: says which check failed, and aborts
    "shaders/shader_reflect.c",  # programs of the build, not of the library
    "shaders/coop_resolve.c",
    "shaders/spirv.c",
]

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 100

# One number in two files that cannot include each other: of a kernel's source and of the host code that sizes arrays,
# refuses models or counts workgroups by it. A name, or a pattern around the number.
LIMITS = [
    ("runtime/ops/ops.h", "OPS_HEAD_DIM_MAX", "shaders/rope_store.comp", "HEAD_DIM_MAX"),
    ("runtime/ops/ops.h", "OPS_EXPERTS_MAX", "shaders/moe_route.comp", "EXPERTS_MAX"),
    ("runtime/ops/ops.h", "OPS_TOP_K_MAX", "shaders/moe_route.comp", "LANES"),
    ("runtime/ops/ops.h", "KV_BLOCK", "shaders/attend.comp", "BLOCK"),
    ("runtime/ops/op_delta.c", "CONV_LANES", "shaders/conv.glsl", "local_size_x"),
    ("runtime/ops/op_delta.c", "SCAN_COLUMNS", "shaders/delta_scan.comp", "COLUMNS"),
    ("runtime/ops/op_norm.c", "ROW_LANES", "shaders/gated_add.comp", "local_size_x"),
    ("runtime/ops/matmul_job.c", "FLOAT_STEP_COLS", "shaders/format_float.glsl", "FORMAT_STEP_COLS"),
    ("runtime/ops/coop_attend.c", "ROWS", "shaders/attend_coop.comp", "ROWS"),
    ("runtime/ops/coop_attend.c", "STEP", "shaders/attend_coop.comp", "STEP"),
    ("runtime/ops/coop_attend.c", "PIECE", "shaders/attend_coop.comp", r"\bPIECE = HEAD_DIM < (\d+)u"),
    ("runtime/ops/coop_attend.c", "PADDING", "shaders/attend_coop.comp", r"\bQ_STRIDE = \(HEAD_DIM \+ (\d+)u\)"),
    ("runtime/gpu/matrix_cores.c", "STEP_COLS", "shaders/matmul_coop.comp", "STEP"),
    ("runtime/gpu/matrix_cores.c", "TILE_ROWS", "quant/tile_layout.h", "QUANT_TILE_ROWS"),
    ("tools/offline-compile/shader_compiler.c", "ARRAY_BUFFERS", "shaders/reflection.h", "REFLECTION_ARRAY_BUFFERS"),
]

SOURCE = (".c", ".h", ".comp", ".glsl")
UNIQUE = SOURCE + (".py",)
TEXT_FILES = SOURCE + (".py", ".sh", ".cmake", ".md", ".txt", ".json", ".yml", ".supp")
SKIP_FOLDERS = {".git", ".cache", "build", "__pycache__"}
# Data keeps the form in which it was made.
DATA = ("tests/data/", "tools/demo/documents/", "tools/demo/tokenizer", "LICENSE")

WORDS = ["TO" "DO", "FIX" "ME", "XX" "X"]
PATHS = [r"(?<![\w./-])/wo" r"rk(?![\w-])", r"/opt" r"/sid", r"(?<![\w.])/tm" r"p/(?!\S*XXXXXX)"]


def read_tree(root):
    """The text files of the tree, by path relative to it; others with an empty text."""
    tree = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIP_FOLDERS)
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            is_text = name.endswith(TEXT_FILES) or "." not in name
            if not is_text or os.path.islink(os.path.join(folder, name)):
                tree[path] = ""
                continue
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace", newline="") as f:
                tree[path] = f.read()
    return tree


def blank(match):
    """The same number of lines and columns, without the content."""
    return re.sub(r"[^\n]", " ", match.group())


def code(text):
    """C or GLSL without comments and without the insides of strings and characters, line for line."""
    token = r'//(?:[^\n\\]|\\.)*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\''
    return re.sub(token, lambda m: '""'.ljust(len(m.group())) if m.group()[0] in "\"'" else blank(m), text, flags=re.S)


def includes(text):
    """(line number, path) of every #include, of strings and comments only the real ones."""
    plain = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    for number, line in enumerate(plain.split("\n"), 1):
        found = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if found:
            yield number, found.group(1)


def sources(tree, endings=SOURCE):
    return ((p, t) for p, t in tree.items() if p.endswith(endings) and not p.startswith(DATA))


def layer_of(path):
    return max((l for l in MAY_INCLUDE if path.startswith(l)), key=len, default=None)


# ---- the checks


def check_layers(tree):
    for path, text in sources(tree):
        own = layer_of(path)
        if not own:
            yield f"{path}: the layer table in hygiene.py does not know this folder"
            continue
        for number, target in includes(text):
            if "/" not in target or target.startswith("."):
                target = os.path.normpath(os.path.join(os.path.dirname(path), target))
            other = layer_of(target)
            if other and other != own and not target.startswith(tuple(MAY_INCLUDE[own])):
                yield f"{path}:{number}: {own.rstrip('/')} may not include {target}"


def check_vulkan(tree):
    for path, text in sources(tree):
        for number, target in includes(text):
            if re.match(r"(vulkan|volk|vk_)", target) and not path.startswith(tuple(MAY_INCLUDE_VULKAN)):
                yield f"{path}:{number}: only runtime/gpu includes {target}"


def check_calls(tree):
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(FORBIDDEN_CALLS.split()) + r")\s*\(")
    for path, text in sources(tree, (".c", ".h")):
        if path.startswith(tuple(MAY_CALL)):
            continue
        for number, line in enumerate(code(text).split("\n"), 1):
            # format(printf, ...) is an attribute, not a call.
            for found in pattern.finditer(line):
                yield f"{path}:{number}: the library may not call {found.group(1)}()"


def check_names(tree):
    seen = {}
    for path, _ in sources(tree, UNIQUE):
        name = os.path.basename(path)
        if name in seen:
            yield f"{path}: {seen[name]} has the same name"
        seen.setdefault(name, path)


def check_blanks(tree):
    for path, text in tree.items():
        if not text or path.startswith(DATA):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line:
                yield f"{path}:{number}: a tab"
            if line.endswith("\r"):
                yield f"{path}:{number}: a carriage return"
            elif line != line.rstrip():
                yield f"{path}:{number}: blanks at the end of the line"
        if not text.endswith("\n") or text.endswith("\n\n"):
            yield f"{path}: must end with exactly one newline"


def functions(text):
    """(name, first line, lines) of every function body: a brace outside all braces that follows a parameter list."""
    plain = code(text)
    plain = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", blank, plain, flags=re.M)
    depth, start, head = 0, 0, None
    for found in re.finditer(r"[{};]", plain):
        at, mark = found.start(), found.group()
        if mark == "{":
            if depth == 0:
                before = plain[start:at].strip()
                name = re.search(r"(\w+)\s*\([^{}=]*\)[\w\s()]*$", before)
                first = start + len(plain[start:at]) - len(plain[start:at].lstrip())
                head = (name.group(1), plain.count("\n", 0, first) + 1) if name else None
            depth += 1
        elif mark == "}":
            depth -= 1
            if depth == 0:
                if head:
                    yield head[0], head[1], plain.count("\n", 0, at) + 2 - head[1]
                start, head = at + 1, None
        elif depth == 0:
            start = at + 1


def check_length(tree):
    for path, text in sources(tree):
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            yield f"{path}: {lines} lines (at most {FILE_LINES_MAX}): which second concept moved in?"
        for name, first, count in functions(text):
            if count > FUNCTION_LINES_MAX:
                yield f"{path}:{first}: {name}() has {count} lines (at most {FUNCTION_LINES_MAX})"


def check_words(tree):
    words = re.compile(r"\b(" + "|".join(WORDS) + r")\b")
    paths = re.compile("|".join(PATHS))
    for path, text in tree.items():
        if path.startswith(DATA):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if words.search(line):
                yield f"{path}:{number}: {words.search(line).group()}: do it, or say why it is as it is"
            if paths.search(line):
                yield f"{path}:{number}: {paths.search(line).group()}: a path of one machine"


def check_headers(tree):
    for path, text in sources(tree, (".h", ".comp", ".glsl")):
        if not text.startswith(("//", "/*")):
            yield f"{path}: must begin with a comment: what it is (and its invariant), or what it computes"


def stated_number(text, name):
    """What the code gives to `name`, a name or a pattern; None if that is no number, or not the same one everywhere."""
    pattern = name if "(" in name else rf"(?:#define\s+|\b){name}(?:\s*=\s*|\s+)(\d+)u?(?![\w.])"
    found = set(re.findall(pattern, code(text)))
    return found.pop() if len(found) == 1 else None


def check_limits(tree):
    for host, host_name, kernel, kernel_name in LIMITS:
        if host not in tree and kernel not in tree:
            continue
        numbers = []
        for path, name in ((host, host_name), (kernel, kernel_name)):
            numbers.append(stated_number(tree.get(path, ""), name))
            if numbers[-1] is None:
                yield f"{path}: does not give one number to {name}; update LIMITS in hygiene.py with it"
        if None not in numbers and numbers[0] != numbers[1]:
            yield f"{kernel}: {kernel_name} is {numbers[1]}, but {host_name} in {host} is {numbers[0]}"


CHECKS = {name[len("check_"):]: f for name, f in list(globals().items()) if name.startswith("check_")}


def main():
    if len(sys.argv) not in (2, 3) or (sys.argv[1] != "all" and sys.argv[1] not in CHECKS):
        sys.exit(f"usage: hygiene.py {{{'|'.join(CHECKS)}|all}} [ROOT]")
    root = sys.argv[2] if len(sys.argv) == 3 else os.path.join(os.path.dirname(__file__), "..", "..")
    tree = read_tree(root)
    names = list(CHECKS) if sys.argv[1] == "all" else [sys.argv[1]]
    problems = [p for name in names for p in CHECKS[name](tree)]
    print("\n".join(problems) or f"{len(tree)} files, nothing wrong")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
