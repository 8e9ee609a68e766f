/* Attention of many queries over keys that all of them share, scores and weights of six at a time. */

#include "pairs.h"

#if PAIRS && D % 16 == 0
/* weights [width] = the exponentials of scores [count] less the highest, then zeros; their sum; the log-sum-exp. */
static float weigh(long count, long width, float *scores, number *weights, float *lse) {
    float highest = highest_float(-INFINITY, scores, count), sum = 0;
    for (long i = 0; i < count; i++) sum += scores[i] = exponential(scores[i] - highest);
    for (long i = 0; i < count; i++) weights[i] = to_number(scores[i]);
    memset(weights + count, 0, (width - count) * sizeof(number));
    *lse = highest + logf(sum);
    return sum;
}

/* query [kv_heads, rows, D] over `count` keys, in blocks [kv_heads, blocks, D / 2, BLOCK, 2], and values
   [kv_heads, blocks * BLOCK / 2, D, 2], zeros behind the last -> output [kv_heads, rows, D], lse [kv_heads, rows]. */
void share(long kv_heads, long rows, long count, const number *query, const number *keys, const number *values,
           number *output, float *lse) {
    long blocks = (count + BLOCK - 1) / BLOCK, width = blocks * BLOCK, tiles = (rows + ROWS - 1) / ROWS;
#pragma omp parallel
    {
        float *scores = malloc(ROWS * width * sizeof(float));
        number *weights = calloc(ROWS * width, sizeof(number));
#pragma omp for schedule(static)
        for (long item = 0; item < kv_heads * tiles; item++) {
            long head = item / tiles, first = head * rows + item % tiles * ROWS;
            long here = (head + 1) * rows - first < ROWS ? (head + 1) * rows - first : ROWS;
            number asked[ROWS][D] = {0};
            float scale[ROWS] = {0}, found[16];
            __m512 sums[ROWS][VECTORS];
            memcpy(asked, query + first * D, here * D * sizeof(number));
            for (long block = 0; block < blocks; block++) {
                multiply(ROWS, VECTORS, D / 2, asked[0], D, keys + (head * blocks + block) * D * BLOCK, BLOCK, sums);
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < VECTORS; v++)
                        _mm512_storeu_ps(scores + r * width + block * BLOCK + 16 * v, sums[r][v]);
            }
            for (int r = 0; r < here; r++)
                scale[r] = 1 / weigh(count, width, scores + r * width, weights + r * width, lse + first + r);
            for (int d = 0; d < D; d += 16 * VECTORS) {
                const number *part = values + head * width * D + 2 * d;
                int vectors = D - d < 16 * VECTORS ? (D - d) / 16 : VECTORS;
                if (vectors == VECTORS) multiply(ROWS, VECTORS, width / 2, weights, width, part, D, sums);
                else multiply(ROWS, D / 16 % VECTORS, width / 2, weights, width, part, D, sums);
                for (int r = 0; r < here; r++)
                    for (int v = 0; v < vectors; v++) {
                        number *target = output + (first + r) * D + d + 16 * v;
                        _mm512_storeu_ps(found, sums[r][v]);
                        for (int i = 0; i < 16; i++) target[i] = to_number(found[i] * scale[r]);
                    }
            }
        }
        free(scores);
        free(weights);
    }
}
#else
void share(long kv_heads, long rows, long count, const number *query, const number *keys, const number *values,
           number *output, float *lse) {}
#endif
