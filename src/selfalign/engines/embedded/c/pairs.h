/* Products of bfloat16 pairs, where the processor has them: two numbers by two, added to a float32 sum.

   What is multiplied by many rows lies in lines of pairs, 16 pairs a vector (pairs.py). The order of a sum's terms
   depends on nothing but its length, so a row has the same bits whatever rows are beside it. */

#pragma once
#include "numbers.h"

#if defined(BFLOAT16) && defined(__AVX512BF16__)
#define PAIRS 1
#include <immintrin.h>

#define ROWS 6 /* rows together: 6 x 4 sums stay in registers, where 10 loads feed 24 products */
#define VECTORS 4
#define BLOCK 64 /* columns in VECTORS of 16 */
#define LOOP _Pragma("GCC unroll 8") for

/* sums[r][v] = the products of the pairs left[r][i] and right[i], added over i; `right` has `wide` pairs a line. */
static inline __attribute__((always_inline)) void multiply(const int rows, const int vectors, long pairs,
                                                           const number *left, long left_row, const number *right,
                                                           long wide, __m512 sums[ROWS][VECTORS]) {
    LOOP(int r = 0; r < rows; r++) LOOP(int v = 0; v < vectors; v++) sums[r][v] = _mm512_setzero_ps();
    for (long i = 0; i < pairs; i++) {
        __m512bh line[VECTORS];
        LOOP(int v = 0; v < vectors; v++) line[v] = (__m512bh)_mm512_loadu_si512(right + 2 * (i * wide + 16 * v));
        LOOP(int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, left + r * left_row + 2 * i, 4);
            __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
            LOOP(int v = 0; v < vectors; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], both, line[v]);
        }
    }
}
#else
#define PAIRS 0
#endif
