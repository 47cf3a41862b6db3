/* Iterations of EM by VLFeat: reads a problem (see native_em.py), prints seconds an iteration. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <vl/generic.h>
#include <vl/gmm.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double *take(FILE *file, size_t count) {
  double *values = malloc(sizeof(double) * count);
  if (!values || fread(values, sizeof(double), count, file) != count) exit(1);
  return values;
}

int main(int argc, char **argv) {
  FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;
  double *head, *means, *variances, *weights, *x, seconds[2];
  if (!file) return 1;
  head = take(file, 5);
  size_t n = head[0], d = head[1], k = head[2], few = head[3], many = head[4];
  means = take(file, k * d), variances = take(file, k * d), weights = take(file, k);
  x = take(file, n * d);
  vl_set_num_threads(atoi(argv[2]));
  for (int i = 0; i < 2; ++i) {
    VlGMM *gmm = vl_gmm_new(VL_TYPE_DOUBLE, d, k);
    vl_gmm_set_initialization(gmm, VlGMMCustom);
    vl_gmm_set_means(gmm, means);
    vl_gmm_set_covariances(gmm, variances);
    vl_gmm_set_priors(gmm, weights);
    vl_gmm_set_covariance_lower_bound(gmm, 1e-12);
    vl_gmm_set_max_num_iterations(gmm, i ? many : few);
    double start = now();
    vl_gmm_em(gmm, x, n);
    seconds[i] = now() - start;
    vl_gmm_delete(gmm);
  }
  printf("%.9g\n", (seconds[1] - seconds[0]) / (many - few));
  return 0;
}
