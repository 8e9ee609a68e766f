/* Drawing a token from a nucleus without sorting the vocabulary. */

#include "numbers.h"

typedef struct {
    float weight;
    int32_t token;
} candidate;

static int heavier(const void *a, const void *b) { /* for qsort: falling weight, then rising token */
    const candidate *x = a, *y = b;
    return x->weight != y->weight ? (x->weight < y->weight ? 1 : -1) : x->token - y->token;
}

/* Weights in (0, 1] by size: the exponent and the first 6 bits after it, 1 alone in the last bucket. */
#define BUCKETS 8129
static inline int bucket(float weight) {
    int32_t bits;
    memcpy(&bits, &weight, 4);
    return bits >> 17;
}

/* The candidate with which the sum of all weights, heaviest first, comes above `target`, or the lightest; that sum.
   Only the bucket where it happens is sorted, into `room`. */
static candidate passing(const candidate *all, long count, const double *mass, double target, double *sum,
                         candidate *room) {
    double before = 0, through = 0;
    int at = 0;
    for (int next = BUCKETS - 1; next >= 0 && through <= target; next--)
        if (mass[next] > 0) {
            before = through;
            through += mass[at = next];
        }
    long inside = 0;
    for (long i = 0; i < count; i++)
        if (bucket(all[i].weight) == at) room[inside++] = all[i];
    qsort(room, inside, sizeof(candidate), heavier);
    long i = 0;
    for (*sum = before + room[0].weight; *sum <= target && i + 1 < inside; i++) *sum += room[i + 1].weight;
    return room[i];
}

/* A token of each row of logits [rows, count], floats or numbers, drawn by `uniform` from the nucleus: the fewest of the
   likeliest tokens that hold `top_p` of the mass, in falling order. A temperature of 0 takes the likeliest.

   No token below (1 - top_p) / count of the mass is in it: all of those together are less than what it leaves out. */
void choose(long rows, long count, const void *logits, long is_float, const float *temperatures, const float *top_ps,
            const float *uniforms, int64_t *chosen) {
#pragma omp parallel
    {
        float *weights = malloc(count * sizeof(float));
        candidate *found = malloc(2 * count * sizeof(candidate));
        double *mass = malloc(BUCKETS * sizeof(double));
#pragma omp for schedule(dynamic, 1)
        for (long row = 0; row < rows; row++) {
            if (is_float) memcpy(weights, (const float *)logits + row * count, count * sizeof(float));
            else
                for (long i = 0; i < count; i++) weights[i] = of_number(((const number *)logits)[row * count + i]);
            float highest = highest_float(-INFINITY, weights, count);
            if (temperatures[row] <= 0) {
                long best = 0;
                while (best < count - 1 && weights[best] != highest) best++;
                chosen[row] = best;
                continue;
            }
            float factor = 1 / temperatures[row], total = 0;
            for (long i = 0; i < count; i++) {
                float x = (weights[i] - highest) * factor;
                total += weights[i] = x < -87.0f ? 0 : exponential(x);
            }
            float least = total * (1 - top_ps[row]) / count;
            long size = 0;
            for (long i = 0; i < count; i++)
                if (weights[i] >= least && weights[i] > 0) found[size++] = (candidate){weights[i], (int32_t)i};
            memset(mass, 0, BUCKETS * sizeof(double));
            for (long i = 0; i < size; i++) mass[bucket(found[i].weight)] += found[i].weight;
            double nucleus, sum; /* whose last token is the one that reaches top_p: what comes above a hair less */
            passing(found, size, mass, nextafter((double)top_ps[row] * total, 0), &nucleus, found + count);
            chosen[row] = passing(found, size, mass, uniforms[row] * nucleus, &sum, found + count).token;
        }
        free(weights);
        free(found);
        free(mass);
    }
}
