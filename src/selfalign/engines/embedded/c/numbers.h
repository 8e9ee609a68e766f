/* Numbers as a model keeps them: BFLOAT16 says how. All sums are in float32. */

#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WIDE 32
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
    static inline float name(float start, const type *row, long count) {                                                      \
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
