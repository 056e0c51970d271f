"""The log-prob op's kernels: see `logprob.py` for the formula.

A chunk's logits are computed tile by tile; exp(d) goes to memory once, in 16 bits, and cuBLAS
multiplies it by W: 4 bytes of traffic a logit. Sums are float32, without atomics, in a fixed order:
the same input gives the same bits. Written for sm_80 and newer; here it was only ever compiled for
them and run in Triton's interpreter; no figure of a GPU stands behind it.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# ruff: noqa: N803, N806, SIM102

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .accumulate import matmul
from .jit import capability, cdiv, is_interpreted, jit, tl
from .scores import FrozenHead, Scores, finish, offset

CHUNK_BYTES = 288 * 2**20
"""Most bytes of exp(d) the kernel path holds: 896 rows of a 151,936-word vocabulary in bf16."""


class Tile(NamedTuple):
    """Tile of the logit kernel: `[rows, words]` of logits, `depth` of H a step.

    The sums are taken of `parts` (1 or 2) of the tile one after another, to keep in registers.
    """

    rows: int
    words: int
    depth: int
    num_warps: int
    num_stages: int
    use_tma: bool = False
    parts: int = 1


TILES = {
    0: Tile(16, 32, 16, 4, 1),
    80: Tile(128, 128, 32, 8, 3),
    90: Tile(128, 256, 64, 8, 3, use_tma=True, parts=2),
}
"""By compute capability (0: the interpreter); a device takes the newest that it has. Compiled, 0
bytes spill (`resources.py`); on sm_90 without `parts` 180 do, without TMA stores 296. On sm_75
Triton 3.9 emits no tensor-core instruction at all, so there the reference calls cuBLAS."""

SOFTCAP_TILE = Tile(128, 128, 64, 8, 3, use_tma=True, parts=2)
"""On sm_90 with a softcap, whose exponentials spill 424 bytes in the wider tile."""

FLOAT32_TILE = Tile(64, 64, 32, 4, 2)
"""Full float32, without tensor cores (TF32 would cost three digits): smaller tiles fit."""


@jit()
def _softcapped(u, softcap):
    """tanh(u / softcap); Triton has none outside of libdevice, which the interpreter lacks."""
    small = tl.exp(-2.0 * tl.abs(u) / softcap)
    bounded = (1.0 - small) / (1.0 + small)
    return tl.where(u < 0, -bounded, bounded)


@jit("num_rows")
def target_kernel(
    x_ptr, w_ptr, bias_ptr, target_ptr, z_ptr, slope_ptr, num_rows, softcap,
    HIDDEN: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """z_t and c_t of one row: a gathered dot product in float32."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(target_ptr + row)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, HIDDEN, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < HIDDEN
        x = tl.load(x_ptr + row * HIDDEN + columns, mask=inside, other=0.0).to(tl.float32)
        w = tl.load(w_ptr + target * HIDDEN + columns, mask=inside, other=0.0).to(tl.float32)
        total += x * w
    u = tl.sum(total, axis=0)
    slope = 1.0
    if HAS_BIAS:
        u += tl.load(bias_ptr + target).to(tl.float32)
    if HAS_SOFTCAP:
        bounded = _softcapped(u, softcap)
        slope = 1.0 - bounded * bounded
        u = softcap * bounded
    tl.store(z_ptr + row, u)
    tl.store(slope_ptr + row, slope)


@jit()
def _load_tile(source, row, column, num_rows, HIDDEN, ROWS: tl.constexpr, DEPTH: tl.constexpr,
               USE_TMA: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """`[ROWS, DEPTH]` of a row-major matrix of HIDDEN columns, zeros outside of it."""
    if USE_TMA:
        tile = source.load([row, column])
    else:
        rows = (row + tl.arange(0, ROWS)).to(tl.int64)
        columns = column + tl.arange(0, DEPTH)
        inside = (rows < num_rows)[:, None] & (columns < HIDDEN)[None, :]
        tile = tl.load(source + rows[:, None] * HIDDEN + columns[None, :], mask=inside, other=0.0)
    # The interpreter multiplies 16-bit matrices wrongly.
    return tile.to(tl.float32) if UPCAST else tile


@jit()
def _reduce_tile(
    acc, row, word, bias_ptr, target_ptr, z_ptr, shift_ptr, e, e_stride,
    num_rows, num_words, scale, softcap,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, STORE_E: tl.constexpr,
    USE_TMA: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Sums of exp(d - shift) and of exp(d - shift) d, and the largest d, each `[ROWS]`."""
    rows, words = row + tl.arange(0, ROWS), word + tl.arange(0, WORDS)
    is_row, is_word = rows < num_rows, words < num_words
    if HAS_BIAS:
        acc += tl.load(bias_ptr + words, mask=is_word, other=0.0).to(tl.float32)[None, :]
    slope = 1.0
    if HAS_SOFTCAP:
        bounded = _softcapped(acc, softcap)
        slope = 1.0 - bounded * bounded
        acc = softcap * bounded
    z_t = tl.load(z_ptr + rows, mask=is_row, other=0.0)
    shift = tl.load(shift_ptr + rows, mask=is_row, other=0.0)
    target = tl.load(target_ptr + rows, mask=is_row, other=-1).to(tl.int32)
    # The target's own term is known without a sum. A finite d for what is left out: 0 d is 0.
    is_other = is_word[None, :] & (words[None, :] != target[:, None])
    d = tl.where(is_other, (acc - z_t[:, None]) * scale, -1e30)
    exp = tl.exp(d - shift[:, None])
    if STORE_E and USE_TMA:
        e.store([row, word], (exp * slope).to(e.dtype))
    elif STORE_E:
        at = e + rows.to(tl.int64)[:, None] * e_stride + words[None, :]
        tl.store(at, exp * slope, mask=is_row[:, None] & is_word[None, :])
    return tl.sum(exp, axis=1), tl.sum(exp * d, axis=1), tl.max(d, axis=1)


@jit("num_rows")
def logit_kernel(
    x, w, bias_ptr, target_ptr, z_ptr, shift_ptr, e, partial_ptr,
    num_rows, num_words, e_stride, scale, softcap,
    HIDDEN: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    STORE_E: tl.constexpr, AGAIN: tl.constexpr, USE_TMA: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, WORDS: tl.constexpr, DEPTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """One tile of logits: exp(d) times c to memory, and the tile's sums, all in float32 registers.

    Programs that share words run side by side, so W is read once. `AGAIN` is the second run for
    rows whose d was too large: tiles without one return at once, so nothing waits for the host.
    """
    row_tiles = tl.cdiv(num_rows, ROWS)
    row = (tl.program_id(0) % row_tiles) * ROWS
    tile = tl.program_id(0) // row_tiles
    rows = row + tl.arange(0, ROWS)
    if AGAIN:
        if tl.max(tl.load(shift_ptr + rows, mask=rows < num_rows, other=0.0), axis=0) == 0.0:
            return
    acc = tl.zeros([ROWS, WORDS], dtype=tl.float32)
    for k in range(0, HIDDEN, DEPTH):
        a = _load_tile(x, row, k, num_rows, HIDDEN, ROWS, DEPTH, USE_TMA, UPCAST)
        b = _load_tile(w, tile * WORDS, k, num_words, HIDDEN, WORDS, DEPTH, USE_TMA, UPCAST)
        acc = tl.dot(a, tl.trans(b), acc, input_precision="ieee")
    if PARTS == 1:
        total, dot, largest = _reduce_tile(
            acc, row, tile * WORDS, bias_ptr, target_ptr, z_ptr, shift_ptr, e, e_stride,
            num_rows, num_words, scale, softcap, HAS_BIAS, HAS_SOFTCAP, STORE_E, USE_TMA,
            ROWS, WORDS)  # fmt: skip
    else:
        HALF: tl.constexpr = WORDS // 2
        halves = tl.permute(tl.reshape(acc, (ROWS, 2, HALF)), (0, 2, 1))
        left, right = tl.split(halves)
        total, dot, largest = _reduce_tile(
            left, row, tile * WORDS, bias_ptr, target_ptr, z_ptr, shift_ptr, e, e_stride,
            num_rows, num_words, scale, softcap, HAS_BIAS, HAS_SOFTCAP, STORE_E, USE_TMA,
            ROWS, HALF)  # fmt: skip
        total_2, dot_2, largest_2 = _reduce_tile(
            right, row, tile * WORDS + HALF, bias_ptr, target_ptr, z_ptr, shift_ptr, e, e_stride,
            num_rows, num_words, scale, softcap, HAS_BIAS, HAS_SOFTCAP, STORE_E, USE_TMA,
            ROWS, HALF)  # fmt: skip
        total, dot, largest = total + total_2, dot + dot_2, tl.maximum(largest, largest_2)
    out = partial_ptr + tile * num_rows + rows
    plane = tl.cdiv(num_words, WORDS) * num_rows
    tl.store(out, total, mask=rows < num_rows)
    tl.store(out + plane, dot, mask=rows < num_rows)
    tl.store(out + 2 * plane, largest, mask=rows < num_rows)


@jit("num_rows")
def gradient_kernel(
    product_ptr, w_ptr, target_ptr, own_ptr, factor_ptr, out_ptr, num_rows,
    HIDDEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dlogp/dh of one row: (own W_t - product) factor, rounded once."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(target_ptr + row)
    own, factor = tl.load(own_ptr + row), tl.load(factor_ptr + row)
    for start in range(0, HIDDEN, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < HIDDEN
        w = tl.load(w_ptr + target * HIDDEN + columns, mask=inside, other=0.0).to(tl.float32)
        product = tl.load(product_ptr + row * HIDDEN + columns, mask=inside, other=0.0)
        tl.store(out_ptr + row * HIDDEN + columns, (own * w - product) * factor, mask=inside)


def score_triton(
    hidden: torch.Tensor, head: FrozenHead, targets: torch.Tensor, wants_gradient: bool
) -> Scores:
    """The kernels, a chunk of rows at a time; the head in the hidden states' dtype."""
    hidden, head = hidden.contiguous(), head._replace(weight=head.weight.contiguous())
    num_words, width = head.weight.shape
    logprobs = hidden.new_empty(len(hidden), dtype=torch.float32)
    entropies = torch.empty_like(logprobs)
    gradient = torch.empty_like(hidden) if wants_gradient else None
    size = min(chunk_rows(num_words, hidden.dtype), len(hidden))
    # Rows of 16 bytes' multiple, which the tensor memory accelerator and cuBLAS ask for.
    buffer = hidden.new_empty(size if wants_gradient else 0, cdiv(num_words, 8) * 8)
    for start in range(0, len(hidden), size):
        rows = slice(start, start + size)
        x, tokens = hidden[rows], targets[rows]
        e = buffer[: len(x), :num_words]
        z_t, c_t = _targets(x, head, tokens)
        total, dot, shift = _logits(x, head, (tokens, z_t), e)
        logprobs[rows], entropies[rows], everything = finish(total, dot, shift)
        if gradient is not None:
            gradient_kernel[(len(x),)](
                matmul(e, head.weight), head.weight, tokens, total * c_t,
                head.scale / everything, gradient[rows], len(x), HIDDEN=width, BLOCK=1024,
            )  # fmt: skip
    return Scores(logprobs, entropies, gradient)


def _targets(
    x: torch.Tensor, head: FrozenHead, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    z_t, c_t = x.new_empty(2, len(x), dtype=torch.float32).unbind()
    target_kernel[(len(x),)](
        x, head.weight, head.bias, targets, z_t, c_t, len(x), head.softcap or 1.0,
        HIDDEN=x.shape[1], HAS_BIAS=head.bias is not None, HAS_SOFTCAP=head.softcap is not None,
        BLOCK=1024,
    )  # fmt: skip
    return z_t, c_t


def _logits(
    x: torch.Tensor, head: FrozenHead, target: tuple[torch.Tensor, torch.Tensor], e: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums of exp(d - shift) and of that times d, and the shift, each `[n]`; fills `e`."""
    tile = tile_of(x, head)
    num_words, width = head.weight.shape
    tiles = cdiv(num_words, tile.words)
    partial = x.new_empty(3, tiles, len(x), dtype=torch.float32)
    shift = x.new_zeros(len(x), dtype=torch.float32)
    a, b, out = _descriptors(x, head.weight, e, tile) if tile.use_tma else (x, head.weight, e)
    for again in (False, True):
        logit_kernel[(cdiv(len(x), tile.rows) * tiles,)](
            a, b, head.bias, *target, shift, out, partial,
            len(x), num_words, e.stride(0), head.scale, head.softcap or 1.0,
            HIDDEN=width, HAS_BIAS=head.bias is not None, HAS_SOFTCAP=head.softcap is not None,
            STORE_E=len(e) > 0, AGAIN=again, USE_TMA=tile.use_tma, UPCAST=is_interpreted(),
            ROWS=tile.rows, WORDS=tile.words, DEPTH=tile.depth, PARTS=tile.parts,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
        if not again:
            shift = offset(partial[2].amax(dim=0), x.dtype)
    return partial[0].sum(dim=0), partial[1].sum(dim=0), shift


def _descriptors(x: torch.Tensor, weight: torch.Tensor, e: torch.Tensor, tile: Tile) -> Any:
    """What Hopper's tensor memory accelerator loads and stores tiles by."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    of = TensorDescriptor.from_tensor
    out = of(e, [tile.rows, tile.words // tile.parts]) if len(e) else None
    return of(x, [tile.rows, tile.depth]), of(weight, [tile.words, tile.depth]), out


def tile_of(x: torch.Tensor, head: FrozenHead) -> Tile:
    """The tile for hidden states `[n, H]` on their device."""
    if x.dtype == torch.float32 and x.is_cuda:
        return FLOAT32_TILE
    tile = TILES[max(c for c in TILES if c <= capability(x))]
    # The accelerator wants every row to begin on 16 bytes.
    if tile.use_tma and (x.shape[1] * x.element_size() % 16 or x.data_ptr() % 16):
        return TILES[80]
    return SOFTCAP_TILE if tile.use_tma and head.softcap is not None else tile


def chunk_rows(num_words: int, dtype: torch.dtype) -> int:
    """Rows of a chunk: a multiple of 128 that keeps exp(d) within `CHUNK_BYTES`."""
    return max(1, CHUNK_BYTES // (num_words * dtype.itemsize * 128)) * 128
