"""Instructions per weight, from the assembly of a matrix kernel. Standard library only.

The assembly is cut into basic blocks, the loops are found (natural loops of back edges), and the loop that multiplies is
the innermost one with the most dot products, or fused multiply-adds where there are none. Its instructions divided by the
weights that a lane handles per trip, plus the same for the loop around it that walks along the row, is what a weight costs.
What happens once per row is not counted: the start, and the sum over lanes.

Scheduling hints (waits, delays, clauses, nops) are not counted, although the compilers' own totals have them.
"""
import re

HINTS = re.compile(r"s_(waitcnt|wait_|delay_alu|clause|nop|code_end|inst_prefetch|set_inst_prefetch)|s?nop\b|sync\b")
DOT = re.compile(r"v_dot4c?_i32_iu?8|idp4\b|dp4a\b")
MULTIPLY_ADD = re.compile(r"v_(dual_|pk_)?fma|ffma\b|hfma2\b|mad\b")


class Block:
    def __init__(self):
        self.instructions = 0
        self.dots = 0
        self.multiply_adds = 0
        self.next = []

    def add(self, text):
        if not HINTS.match(text):
            self.instructions += 1
            self.dots += bool(DOT.match(text))
            self.multiply_adds += bool(MULTIPLY_ADD.match(text))


def parse_amd(text):
    """Blocks "BB3:", instructions behind a tab; a block without an unconditional branch falls through. Where Mesa has no
    disassembler for the chip it prints its last intermediate form: the same, with "BB3" and "result = instruction"."""
    names, branches, order = {}, [], []
    block, closed = None, True
    for line in text.split("\n"):
        label = re.match(r"BB(\d+):?$", line)
        if label:
            new = names[label.group(1)] = Block()
            if block and not closed:
                block.next.append(new)
            block, closed = new, False
            order.append(block)
        elif line.startswith("\t") and block:
            instruction = line.strip().rsplit(" = ", 1)[-1]
            block.add(instruction)
            branch = re.match(r"s_(c?)branch\w*\s+(?:block:)?BB(\d+)", instruction)
            if branch:
                branches.append((block, branch.group(2)))
                closed = not branch.group(1)
                if not closed:  # a conditional branch in the middle ends its block as well
                    new = Block()
                    block.next.append(new)
                    order.append(new)
                    block = new
            elif instruction.startswith("s_endpgm"):
                closed = True
    for source, target in branches:
        if target in names:
            source.next.append(names[target])
    return order


def parse_nvidia(text):
    """block 3 L2 [1] -> { ... } -> [4, 5]"""
    blocks, edges = {}, []
    current = None
    for line in text.split("\n"):
        start = re.match(r"block\S* (\d+) ", line)
        end = re.match(r"\} -> \[([\d, ]*)\]", line)
        if start:
            current = blocks[int(start.group(1))] = Block()
        elif end and current:
            edges.append((current, [int(n) for n in end.group(1).replace(" ", "").split(",") if n]))
            current = None
        elif current and line.strip():
            instruction = re.sub(r"^@!?u?p\d+\s+", "", line.strip())
            # "r1 = op ..." and "op ..."
            current.add(instruction.split("=", 1)[-1].strip())
    for block, targets in edges:
        block.next = [blocks[t] for t in targets if t in blocks]
    return list(blocks.values())


def parse_intel(text):
    """Labels "L3:", instructions indented; if, else, break, continue and while name their labels."""
    names, branches, order = {}, [], []
    block = Block()
    order.append(block)
    for line in text.split("\n"):
        label = re.match(r"(L\d+):", line)
        if label or not line.strip():
            if label:
                new = names[label.group(1)] = Block()
                block.next.append(new)
                order.append(new)
                block = new
            continue
        instruction = re.sub(r"^\([^)]*\)\s+", "", line.strip())
        block.add(instruction)
        if re.match(r"(if|else|break|cont|while|halt|jmpi|endif)\b", instruction):
            for target in re.findall(r"\b(L\d+)\b", instruction.split("{")[0])[:1]:
                branches.append((block, target))
            new = Block()
            block.next.append(new)
            order.append(new)
            block = new
    for source, target in branches:
        if target in names:
            source.next.append(names[target])
    return order


def parse(text):
    if re.search(r"^BB\d+:?$", text, re.M):
        return parse_amd(text)
    if re.search(r"^block\S* \d+ ", text, re.M):
        return parse_nvidia(text)
    return parse_intel(text)


def reachable_backwards(end, header, before):
    """The blocks from which `end` is reached without passing `header`, with both."""
    found, todo = {header, end}, [end]
    while todo:
        for block in before.get(todo.pop(), []):
            if block not in found:
                found.add(block)
                todo.append(block)
    return found


def find_loops(order):
    """Sets of blocks, one per loop header, smallest first."""
    if not order:
        return []
    before = {}
    for block in order:
        for target in block.next:
            before.setdefault(target, []).append(block)
    loops, state = {}, {}
    todo = [(order[0], iter(order[0].next))]
    state[order[0]] = "open"
    while todo:  # depth first; an edge to a block that is still open closes a loop
        block, rest = todo[-1]
        target = next(rest, None)
        if target is None:
            state[block] = "done"
            todo.pop()
        elif state.get(target) == "open":
            loops.setdefault(target, set()).update(
                reachable_backwards(block, target, before) if block is not target else {block})
        elif target not in state:
            state[target] = "open"
            todo.append((target, iter(target.next)))
    return sorted(loops.values(), key=len)


def instructions(blocks):
    return sum(b.instructions for b in blocks)


def dots(blocks):
    return sum(b.dots for b in blocks)


def multiply_loop(order):
    """The innermost loop that does the most of the multiplications, and the loops around it from the inside out."""
    def work(blocks):
        return sum(b.dots if any_dots else b.multiply_adds for b in blocks)
    any_dots = dots(order) > 0
    loops = [l for l in find_loops(order) if work(l)]
    innermost = [l for l in loops if not any(o < l for o in loops)]
    if not innermost:
        return None, []
    best = max(innermost, key=lambda l: (work(l), -instructions(l)))
    return best, [l for l in loops if best < l]


def per_weight(text, columns, inner_weights, row_weights):
    """Instructions of one lane per weight, or None if there is no loop.

    columns        rows of activations that are multiplied by each weight
    inner_weights  weights per lane and trip of the inner loop; None: 4 per dot product and column
    row_weights    the same for the loop around it, which walks along the row, if the outermost loop is yet another one;
                   None: only the inner loop counts
    """
    inner, around = multiply_loop(parse(text))
    if inner is None:
        return None
    if dots(inner):
        inner_weights = 4 * dots(inner) / columns
    if not inner_weights:
        return None
    cost, counted = instructions(inner) / inner_weights, inner
    for loop in around[:-1] if row_weights else []:
        cost += instructions(loop - counted) / row_weights
        counted = loop
    return cost
