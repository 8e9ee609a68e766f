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
