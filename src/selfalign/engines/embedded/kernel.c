/* What PyTorch's operators do in many passes: the two parts of attention, the RMS norm, and sampling.

   Compiled for one model: D is the size of a head, G the query heads that share a key-value head, and BFLOAT16 says
   how numbers are kept. All sums are in float32. The order of a row's sums depends on its own length alone, so its
   result has the same bits whatever else is in the batch. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WIDE 32
#define CHUNK 128 /* keys looked at together: their scores stay in the first-level cache */
#define LOG2E 1.44269504088896341f

#ifdef BFLOAT16
typedef uint16_t number;

static inline float of_number(number x) {
    uint32_t bits = (uint32_t)x << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static inline number to_number(float x) { /* to the nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7fc0 : (number)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float number;
static inline float of_number(number x) { return x; }
static inline number to_number(float x) { return x; }
#endif

/* e^x for x <= 0, to 2e-7 of itself: 2^n by its bits, 2^f by Taylor's series in f log 2, |f| <= 1/2. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = floorf(x * LOG2E + 0.5f);
    float f = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* log 2 in two parts, the first of few digits */
    float p = 1.0f + f * (1.0f + f * (0.5f + f * (1.0f / 6 + f * (1.0f / 24 + f * (1.0f / 120 + f * (1.0f / 720))))));
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* The highest of `start` and of a row, through WIDE maxima side by side: compilers vectorise no other form of it without
   leave to forget NaN. A NaN may or may not be the result; it stays in the scores. */
#define HIGHEST(name, type, of)                                                                                        \
    static float name(float start, const type *row, long count) {                                                      \
        float top[WIDE];                                                                                               \
        long i = 0;                                                                                                    \
        for (int j = 0; j < WIDE; j++) top[j] = start;                                                                 \
        for (; i + WIDE <= count; i += WIDE)                                                                           \
            for (int j = 0; j < WIDE; j++) top[j] = of(row[i + j]) > top[j] ? of(row[i + j]) : top[j];                 \
        for (; i < count; i++) top[0] = of(row[i]) > top[0] ? of(row[i]) : top[0];                                     \
        for (int j = 1; j < WIDE; j++) top[0] = top[j] > top[0] ? top[j] : top[0];                                     \
        return top[0];                                                                                                 \
    }
HIGHEST(highest_float, float, )
HIGHEST(highest_number, number, of_number)

typedef struct { /* softmax under way over one sequence's keys, for the G query heads of a key-value head */
    float highest[G], sum[G], output[G][D];
} state;

static void look_at(state *s, float query[G][D], const number *keys, const number *values, long room, long count) {
    float scores[G][CHUNK];
    memset(scores, 0, sizeof scores);
    for (long d = 0; d < D; d++)
        for (int g = 0; g < G; g++)
            for (long i = 0; i < count; i++) scores[g][i] += query[g][d] * of_number(keys[d * room + i]);
    for (int g = 0; g < G; g++) {
        float highest = highest_float(s->highest[g], scores[g], count);
        float shrink = exponential(s->highest[g] - highest), sum = 0;
        for (long i = 0; i < count; i++) sum += scores[g][i] = exponential(scores[g][i] - highest);
        s->highest[g] = highest;
        s->sum[g] = s->sum[g] * shrink + sum;
        for (int d = 0; d < D; d++) s->output[g][d] *= shrink;
    }
    for (long i = 0; i < count; i++)
        for (int g = 0; g < G; g++)
            for (int d = 0; d < D; d++) s->output[g][d] += scores[g][i] * of_number(values[i * D + d]);
}

/* Attention of every running sequence's newest token over the sequence's own keys, merged with its attention over the
   shared keys; each key and value is read once.

   query [heads, batch, D], key and value [kv_heads, batch, D] (the newest token's), with strides of a head and a row;
   keys [slots, kv_heads, D, room] and values [slots, kv_heads, room, D], to which they are added at `places` [batch];
   shared [heads, batch, D] and its log-sum-exp [heads, batch], or neither; output [batch, heads, D].
   A window of 0 sees all keys; a log-sum-exp is natural. */
void attend(long batch, long kv_heads, long room, long window, const int64_t *places,
            const number *query, long query_head, long query_row,
            const number *key, long key_head, long key_row,
            const number *value, long value_head, long value_row,
            number *keys, number *values,
            const number *shared, long shared_head, long shared_row, const float *shared_lse, long lse_head,
            number *output) {
#pragma omp parallel for schedule(static)
    for (long item = 0; item < batch * kv_heads; item++) {
        long row = item / kv_heads, head = item % kv_heads, place = places[row];
        number *own_keys = keys + item * D * room, *own_values = values + item * D * room;
        const number *new_key = key + head * key_head + row * key_row;
        const number *new_value = value + head * value_head + row * value_row;
        float asked[G][D];
        state s;
        for (int g = 0; g < G; g++) { /* the newest key first: nothing is read back that was just written */
            float score = 0;
            for (int d = 0; d < D; d++) {
                asked[g][d] = of_number(query[(head * G + g) * query_head + row * query_row + d]);
                score += asked[g][d] * of_number(new_key[d]);
                s.output[g][d] = of_number(new_value[d]);
            }
            s.highest[g] = score;
            s.sum[g] = 1;
        }
        long first = window && place >= window ? place - window + 1 : 0;
        for (long i = first; i < place; i += CHUNK)
            look_at(&s, asked, own_keys + i, own_values + i * D, room, place - i < CHUNK ? place - i : CHUNK);
        for (int d = 0; d < D; d++) {
            own_keys[d * room + place] = new_key[d];
            own_values[place * D + d] = new_value[d];
        }
        for (int g = 0; g < G; g++) {
            long query_index = head * G + g;
            float own = 1 / s.sum[g], other = 0;
            const number *rest = 0;
            if (shared) {
                rest = shared + query_index * shared_head + row * shared_row;
                float lse = s.highest[g] + logf(s.sum[g]);
                float share = 1 / (1 + expf(shared_lse[query_index * lse_head + row] - lse));
                own *= share;
                other = 1 - share;
            }
            number *target = output + (row * kv_heads * G + query_index) * D;
            for (int d = 0; d < D; d++)
                target[d] = to_number(s.output[g][d] * own + (rest ? other * of_number(rest[d]) : 0));
        }
    }
}

/* scores [rows, count], rows side by side -> their softmax, in place; log-sum-exp of each row. */
void soften(long rows, long count, number *scores, float *lse) {
#pragma omp parallel
    {
        float *weights = malloc(count * sizeof(float));
#pragma omp for schedule(static)
        for (long row = 0; row < rows; row++) {
            number *score = scores + row * count;
            float highest = highest_number(-INFINITY, score, count), sum = 0;
            for (long i = 0; i < count; i++) sum += weights[i] = exponential(of_number(score[i]) - highest);
            float scale = 1 / sum;
            for (long i = 0; i < count; i++) score[i] = to_number(weights[i] * scale);
            lse[row] = highest + logf(sum);
        }
        free(weights);
    }
}

/* RMS norm: output = weight * (hidden / root mean square), rounded after each of the two as transformers does;
   hidden and output [rows, width], rows side by side. */
void normalise(long rows, long width, const number *hidden, const number *weight, float epsilon, number *output) {
#pragma omp parallel for schedule(static) if (rows * width > 16384)
    for (long row = 0; row < rows; row++) {
        const number *in = hidden + row * width;
        number *out = output + row * width;
        float squares = 0;
        for (long i = 0; i < width; i++) squares += of_number(in[i]) * of_number(in[i]);
        float scale = 1 / sqrtf(squares / width + epsilon);
        for (long i = 0; i < width; i++)
            out[i] = to_number(of_number(weight[i]) * of_number(to_number(of_number(in[i]) * scale)));
    }
}

/* gate = silu(gate) * up, rounded after each of the two as transformers does. */
void gate(long count, number *gate, const number *up) {
#pragma omp parallel for schedule(static) if (count > 16384)
    for (long i = 0; i < count; i++) {
        float x = of_number(gate[i]), shrunk = exponential(x < 0 ? x : -x);
        float silu = x * (x < 0 ? shrunk : 1) / (1 + shrunk);
        gate[i] = to_number(of_number(to_number(silu)) * of_number(up[i]));
    }
}

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
