/* The two parts of attention, in one or two passes where PyTorch's operators take many.

   Compiled for one model: D is the size of a head, G the query heads that share a key-value head. The order of a row's
   sums depends on its own length alone, so its result has the same bits whatever else is in the batch. */

#include "numbers.h"

#define CHUNK 128 /* keys looked at together: their scores stay in the first-level cache */

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
