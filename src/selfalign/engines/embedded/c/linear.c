/* A linear layer for few rows and for many. */

#include "pairs.h"

long has_pairs(void) { return PAIRS; }

#if PAIRS
#define TOGETHER 240 /* rows that stay in the second-level cache while the weights pass by */

/* The columns of one block of up to ROWS rows; the number of rows is known to the compiler, so their sums stay in registers. */
static void block_of(long rows, long in, long out, const number *hidden, const number *weights, const number *bias,
                     number *output) {
    __m512 sums[ROWS][VECTORS];
    float column[BLOCK];
    switch (rows) {
#define CASE(n) case n: multiply(n, VECTORS, in / 2, hidden, in, weights, BLOCK, sums); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(column + 16 * v, sums[r][v]);
        for (int i = 0; i < BLOCK; i++) output[r * out + i] = to_number(column[i] + (bias ? of_number(bias[i]) : 0));
    }
}

/* hidden [rows, in], weights [out / BLOCK, in / 2, BLOCK, 2], bias [out] or none -> output [rows, out]. */
void linear(long rows, long in, long out, const number *hidden, const number *weights, const number *bias,
            number *output) {
    long blocks = out / BLOCK;
#pragma omp parallel
    for (long start = 0; start < rows; start += TOGETHER) {
        long some = rows - start < TOGETHER ? rows - start : TOGETHER, tiles = (some + ROWS - 1) / ROWS;
#pragma omp for schedule(static) nowait
        for (long item = 0; item < blocks * tiles; item++) {
            long block = item / tiles, first = start + item % tiles * ROWS;
            block_of(start + some - first < ROWS ? start + some - first : ROWS, in, out, hidden + first * in,
                     weights + block * in * BLOCK, bias ? bias + block * BLOCK : 0, output + first * out + block * BLOCK);
        }
    }
}
#else
void linear(long rows, long in, long out, const number *hidden, const number *weights, const number *bias,
            number *output) {}
#endif
