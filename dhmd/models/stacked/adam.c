/* One update of Adam with decoupled weight decay: see dhmd/training/optimiser.py. */

#include <math.h>

static const float BETA_1 = 0.9f, BETA_2 = 0.999f, EPSILON = 1e-8f;

/* Each array has an entry per parameter; decays: NULL if all have the same `decay`. */
void adam(
    float *restrict values, const float *restrict grads, float *restrict first,
    float *restrict second, const float *restrict rates, const float *restrict decays, float decay,
    float clip, float first_correction, float second_correction, long count) {
    for (long i = 0; i < count; i++) {
        const float low = grads[i] < -clip ? -clip : grads[i], grad = low > clip ? clip : low;
        first[i] += (grad - first[i]) * (1.0f - BETA_1);
        second[i] = second[i] * BETA_2 + grad * grad * (1.0f - BETA_2);
        const float spread = sqrtf(second[i]) / second_correction + EPSILON;
        const float kept = values[i] * (1.0f - rates[i] * (decays ? decays[i] : decay));
        values[i] = kept - first[i] / spread * rates[i] / first_correction;
    }
}
