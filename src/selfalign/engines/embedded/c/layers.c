/* What stands between the matrix products of a layer, in one pass. */

#include "numbers.h"

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

/* Rotary position embedding, rounded as transformers does: rotated = x cos + (-second half, first half) sin.

   x [heads, rows, D] with strides of a head and a row; cos and sin [rows, D]; rotated [heads, rows, D]. */
void rotate(long heads, long rows, const number *x, long x_head, long x_row, const number *cos, const number *sin,
            number *rotated) {
#pragma omp parallel for schedule(static) collapse(2) if (heads * rows * D > 16384)
    for (long head = 0; head < heads; head++)
        for (long row = 0; row < rows; row++) {
            const number *in = x + head * x_head + row * x_row, *c = cos + row * D, *s = sin + row * D;
            number *out = rotated + (head * rows + row) * D;
            for (int d = 0; d < D / 2; d++) {
                float first = of_number(in[d]), second = of_number(in[d + D / 2]);
                out[d] = to_number(of_number(to_number(first * of_number(c[d]))) -
                                   of_number(to_number(second * of_number(s[d]))));
                out[d + D / 2] = to_number(of_number(to_number(second * of_number(c[d + D / 2]))) +
                                           of_number(to_number(first * of_number(s[d + D / 2]))));
            }
        }
}
