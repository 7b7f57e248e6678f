#!/usr/bin/env python3
"""Shows that every check of hygiene.py can fail, and does not where it should not: small trees on disk, the same code."""
import os
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hygiene

LONG = "x = 1;\n"
BIG_FUNCTION = "static int big(int a,\n               int b)\n{\n" + "    a++;\n" * 100 + "}\n"
SHADER_BIG = "// Kernel.\nvoid main() {\n" + "    x[0]++;\n" * 100 + "}\n"

# check: [(path, text, a word of the message)]; each must give exactly one problem.
BAD = {
    "layers": [
        ("runtime/base/a.c", '#include "quant/b.h"\n', "quant/b.h"),
        ("quant/a.c", '#include "offload/b.h"\n', "offload/b.h"),
        ("offload/a.c", '#include "quant/b.h"\n', "quant/b.h"),
        ("runtime/gpu/a.c", '#include "quant/b.h"\n', "quant/b.h"),
        ("runtime/ops/a.c", '  #  include "offload/b.h"\n', "offload/b.h"),
        ("runtime/text/a.c", '#include "runtime/gpu/b.h"\n', "runtime/gpu/b.h"),
        ("runtime/model/a.c", '#include "tools/b.h"\n', "tools/b.h"),
        ("tools/a.c", '#include "runtime/model/b.h"\n', "runtime/model/b.h"),
        ("tools/a.c", '#include <runtime/gpu/b.h>\n', "runtime/gpu/b.h"),
        ("shaders/a.comp", '#include "../quant/b.h"\n', "quant/b.h"),
        ("elsewhere/a.c", "int a;\n", "does not know"),
    ],
    "vulkan": [
        ("runtime/ops/a.c", "#include <vulkan/vulkan.h>\n", "vulkan.h"),
        ("tools/a.h", "#include <vulkan/vulkan_core.h>\n", "vulkan_core.h"),
    ],
    "calls": [
        ("quant/a.c", 'void f(void)\n{\n    printf("x");\n}\n', "printf"),
        ("offload/a.c", 'void f(void)\n{\n    fprintf (stderr, "x");\n}\n', "fprintf"),
        ("runtime/base/a.c", "void f(void)\n{\n    exit(1);\n}\n", "exit"),
        ("runtime/gpu/a.c", "void f(void)\n{\n    abort();\n}\n", "abort"),
        ("runtime/model/a.c", 'char *f(void)\n{\n    return getenv("A");\n}\n', "getenv"),
    ],
    "names": [("runtime/ops/same.c", "int b;\n", "same name")],
    "blanks": [
        ("quant/a.c", "int\ta;\n", "tab"),
        ("quant/a.c", "int a; \n", "blanks"),
        ("quant/a.c", "int a;\r\n", "carriage"),
        ("quant/a.c", "int a;", "newline"),
        ("README.md", "text\n\n", "newline"),
        ("tools/run", "#!/bin/sh \n", "blanks"),
    ],
    "length": [
        ("quant/a.c", LONG * 601, "601 lines"),
        ("quant/a.c", BIG_FUNCTION, "big() has 104 lines"),
        ("shaders/a.comp", SHADER_BIG, "main() has 102 lines"),
    ],
    "words": [
        ("quant/a.c", "// " + "TO" + "DO later\n", "TO" + "DO"),
        ("tools/a.sh", "# FIX" + "ME\n", "FIX" + "ME"),
        ("README.md", "XX" + "X\n", "XX" + "X"),
        ("README.md", "see /wo" + "rk/notes\n", "one machine"),
        ("tools/a.sh", "cd /opt" + "/sid\n", "one machine"),
        ("tests/a.c", 'char *p = "/tm' + 'p/file";\n', "one machine"),
    ],
    "headers": [
        ("quant/a.h", "#ifndef A\n// late\n#define A\n#endif\n", "begin with a comment"),
        ("shaders/a.comp", "#version 460\n", "begin with a comment"),
    ],
    "limits": [
        ("shaders/gated_add.comp", "// Kernel.\nlayout(local_size_x = 32) in;\n", "is 32, but ROW_LANES"),
        ("shaders/gated_add.comp", "// local_size_x = 64\nvoid main() {}\n", "local_size_x"),
        ("runtime/ops/op_norm.c", "enum { ROW_LANES = LANES };\n", "ROW_LANES"),
        ("quant/tile_layout.h", "// Tiles.\n#define QUANT_TILE_ROWS 64\n", "is 64, but TILE_ROWS"),
    ],
}

# Nothing is wrong with any of these, whatever they look like.
GOOD = {
    "runtime/base/base.h": "// What it is.\n#ifndef B\n#define B\nvoid f(void) __attribute__((format(printf, 1, 2)));\n#endif\n",
    "runtime/base/check.c": '#include <stdio.h>\nvoid g(void)\n{\n    fprintf(stderr, "x");\n    abort();\n}\n',
    "quant/same.c": '/* #include "offload/x.h" */\n// printf("x") getenv("y")\nconst char *s = "exit(1) // {";\n'
                    'void h(void)\n{\n    snprintf(s, 1, "printf(");\n    log->printf(1);\n}\n',
    "runtime/gpu/gpu.c": "#include <vulkan/vulkan.h>\n#include \"shaders/shader_table.h\"\n",
    "runtime/ops/ops.c": '#include "runtime/gpu/gpu.h"\n#include "quant/quant.h"\n#include "ops.h"\n',
    "runtime/model/model.c": '#include "runtime/sluice.h"\n#include "offload/x.h"\n',
    "runtime/sluice.h": "// API.\n",
    "tools/tool.c": '#include "runtime/sluice.h"\n#include "quant/quant.h"\nint main(void)\n{\n    exit(0);\n}\n',
    "tools/offline-compile/shader_stats.c": "#include <vulkan/vulkan.h>\n",
    "tests/t.c": '#include "runtime/model/model.h"\nchar p[] = "/tm' + 'p/sluice-XXXXXX";\n',
    "shaders/k.comp": '// Kernel.\n#include "quant/tile_layout.h"\n#include "k.glsl"\nvoid main()\n{\n}\n',
    "shaders/k.glsl": "// Part.\nuint k() { return 1; }\n",
    "quant/table.c": "static const int t[] = {\n" + "    1,\n" * 200 + "};\nstruct s {\n" + "    int a;\n" * 120 + "};\n",
    "quant/just.c": "void f(void)\n{\n" + "    a();\n" * 97 + "}\n" + "int x;\n" * 500,
    "runtime/ops/op_norm.c": "enum { ROW_LANES = 64 };\n",
    "shaders/gated_add.comp": "// Kernel.\nlayout(local_size_x = 64) in;\n",
    "runtime/gpu/matrix_cores.c": "enum { TILE_ROWS = 32, STEP_COLS = 64 };\n",
    "shaders/matmul_coop.comp": "// Kernel.\nconst uint STEP = 64u, RUN = 16u;\n",
    "quant/tile_layout.h": "// Tiles.\n#define QUANT_TILE_ROWS 32\n",
    "tests/data/any.txt": "tab\there and TO" + "DO \r\n",
    "build/junk.c": "\t\n",
    "README.md": "frame/wo" + "rk, net/wo" + "rk and /wo" + "rkspace\n",
}


def problems(check, files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
            with open(os.path.join(root, path), "w", newline="") as f:
                f.write(text)
        return list(hygiene.CHECKS[check](hygiene.read_tree(root)))


class Hygiene(unittest.TestCase):
    def test_every_check_is_tried(self):
        self.assertEqual(set(BAD), set(hygiene.CHECKS))

    def test_good_tree_passes(self):
        for check in hygiene.CHECKS:
            self.assertEqual(problems(check, GOOD), [], check)

    def test_each_fault_is_found_once(self):
        for check, faults in BAD.items():
            for path, text, word in faults:
                with self.subTest(check=check, path=path, word=word):
                    found = problems(check, {**GOOD, path: text})
                    self.assertEqual(len(found), 1, found)
                    self.assertIn(word, found[0])
                    self.assertTrue(re.match(re.escape(path), found[0]), found)


class Limits(unittest.TestCase):
    def test_files_exist(self):
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        for host, _, kernel, _ in hygiene.LIMITS:
            for path in (host, kernel):
                self.assertTrue(os.path.exists(os.path.join(root, path)), f"LIMITS in hygiene.py names {path}")


if __name__ == "__main__":
    unittest.main()
