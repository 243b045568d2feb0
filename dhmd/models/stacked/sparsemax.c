/* Sparsemax of rows by Newton's method from the left: see sparsemax.py. */

/* z, p: [rows, codes] */
void sparsemax(const float *restrict z, float *restrict p, long newton_steps, long rows, long codes) {
    for (long r = 0; r < rows; r++, z += codes, p += codes) {
        float highest = z[0], tau = -1.0f;
        _Pragma("omp simd reduction(max : highest)") for (long k = 1; k < codes; k++)
            highest = z[k] > highest ? z[k] : highest;
        for (long k = 0; k < codes; k++) p[k] = z[k] - highest;
        for (long step = 0; step < newton_steps; step++) {
            float excess = 0.0f, support = 0.0f;
            _Pragma("omp simd reduction(+ : excess, support)") for (long k = 0; k < codes; k++) {
                const float above = p[k] - tau;
                excess += above > 0.0f ? above : 0.0f;
                support += above > 0.0f ? 1.0f : 0.0f;
            }
            tau += (excess - 1.0f) / support;
        }
        for (long k = 0; k < codes; k++) p[k] = p[k] - tau < 0.0f ? 0.0f : p[k] - tau;
    }
}
