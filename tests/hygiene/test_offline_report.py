#!/usr/bin/env python3
"""Proves that the table of the offline compilers counts right and that its ceilings can fail. Standard library only."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/offline-compile"))
import loops
import report

# A loop along the row (3 + 1 instructions) around one of two dot products (4 instructions), and one around both.
AMD = """BB0:
\ts_mov_b32 s0, 0
BB1:
\ts_cmp_ge_u32 s0, 8
\ts_cbranch_scc1 BB7
BB2:
\ts_add_u32 s1, s1, 1
\ts_cbranch_scc1 BB6
\ts_waitcnt vmcnt(0)
BB3:
\tv_dot4_i32_iu8 v1, v2, s3, v1
\tv_dot4_i32_iu8 v1, v3, s4, v1
\ts_add_u32 s2, s2, 1
\ts_cbranch_scc0 BB3
BB5:
\ts_branch BB2
BB6:
\ts_branch BB1
BB7:
\ts_endpgm
"""
NVIDIA = """block 0 L0 [] -> {
      r0 = mov rZ                  // delay=1
} -> [1]
block 1 L1 [0, 1] -> {
      r1 = idp4.i8.i8 r2 r3 r1     // delay=1
      r0 = iadd3 r0 0x1 rZ         // delay=1
@!p0       bra pT L1               // delay=1
} -> [1, 2]
block 2 L2 [1] -> {
           exit                    // delay=1
} -> []
"""
INTEL = """        mov (16)   r1:d   0:d
L0:
        cmp (16)   (ge)f0.0   null:d   r1:d   8:d
(f0.0)  break (16)   jip:L1   uip:L1
        dp4a (16)   r2:d   r2:d   r3:d   r4:d
        add (16)   r1:d   r1:d   1:d
L1:
        while (16)   L0
        send.ugm (16)   null   r1
"""


def entry(**values):
    return {("matmul_q4_k_q8/1", "rdna3"): values}


class Loops(unittest.TestCase):
    # A wrong count would let a kernel grow, or blame one that did not.
    def test_amd(self):
        self.assertEqual(loops.per_weight(AMD, 1, None, None), 4 / 8)
        self.assertEqual(loops.per_weight(AMD, 2, None, None), 4 / 4)
        self.assertEqual(loops.per_weight(AMD, 1, None, 32), 4 / 8 + 3 / 32)

    # The other vendors' assembly must not count as nothing.
    def test_other_vendors(self):
        self.assertEqual(loops.per_weight(NVIDIA, 1, None, None), 3 / 4)
        self.assertEqual(loops.per_weight(INTEL, 1, None, None), 5 / 4)

    # A kernel that has no loop, or text that is no assembly, must not look cheap.
    def test_nothing(self):
        self.assertIsNone(loops.per_weight("", 1, 64, 256))
        self.assertIsNone(loops.per_weight(AMD.replace("v_dot4", "v_sub"), 1, 64, 256))


class Ceilings(unittest.TestCase):
    labels = {"rdna3": "rdna3@22.3"}
    ceilings = {("matmul_q4_k_q8/1", "rdna3@22.3"): {"registers": 40, "waves": 8, "per_weight": 2.0}}

    def over(self, **values):
        return list(report.over_ceilings(entry(**values), self.ceilings, self.labels))

    # A regression of a kernel must be seen, whichever figure it shows in.
    def test_each_figure_can_fail(self):
        self.assertEqual(self.over(registers=40, waves=8, per_weight=2.0), [])
        self.assertEqual(len(self.over(registers=41, waves=8)), 1)
        self.assertEqual(len(self.over(registers=40, waves=7)), 1)
        self.assertEqual(len(self.over(per_weight=2.01)), 1)

    # A new kernel must not pass because nobody gave it a ceiling.
    def test_new_kernel_needs_ceiling(self):
        new = {("other", "rdna3"): {"registers": 1}}
        self.assertEqual(len(list(report.over_ceilings(new, self.ceilings, self.labels))), 1)

    # Ceilings that are written must be read as the same, or the next run fails for no reason.
    def test_round_trip(self):
        loose = {("matmul_q4_k_q8/1", "rdna3@22.3"): report.loosened(
            "matmul_q4_k_q8/1", "rdna3", {"registers": 36, "shared": 32000, "waves": 16, "per_weight": 1.91})}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ceilings.txt")
            report.write_ceilings(path, loose)
            self.assertEqual(report.read_ceilings(path), loose)
        self.assertEqual(loose[("matmul_q4_k_q8/1", "rdna3@22.3")],
                         {"registers": 40, "shared": 32768, "waves": 14, "per_weight": 2.1})

    # Figures written with a low occupancy must not become the rule for the kernels that wait for memory.
    def test_matvec_occupancy_floor(self):
        self.assertEqual(report.loosened("matmul_q5_k_q8/1", "rdna3", {"waves": 7})["waves"], 8)


if __name__ == "__main__":
    unittest.main()
