// Iterations of EM by Armadillo: reads a problem (see native_em.py), prints seconds an iteration.
#include <armadillo>
#include <chrono>
#include <cstdio>
#include <cstring>

static bool take(std::FILE *file, double *values, size_t count) {
  return std::fread(values, sizeof(double), count, file) == count;
}

int main(int argc, char **argv) {
  std::FILE *file = argc > 3 ? std::fopen(argv[1], "rb") : nullptr;
  double head[5];
  if (!file || !take(file, head, 5)) return 1;
  const arma::uword n = head[0], d = head[1], k = head[2];
  arma::mat means(d, k), variances(d, k), x(d, n);
  arma::rowvec weights(k);
  if (!take(file, means.memptr(), k * d) || !take(file, variances.memptr(), k * d) ||
      !take(file, weights.memptr(), k) || !take(file, x.memptr(), n * d))
    return 1;
  const bool full = std::strcmp(argv[3], "full") == 0;
  arma::cube covariances(d, d, k);
  for (arma::uword j = 0; j < k; ++j) covariances.slice(j) = arma::diagmat(variances.col(j));
  double seconds[2];
  for (int i = 0; i < 2; ++i) {
    arma::gmm_full dense;
    arma::gmm_diag diagonal;
    if (full) dense.set_params(means, covariances, weights);
    else diagonal.set_params(means, variances, weights);
    const auto start = std::chrono::steady_clock::now();
    const arma::uword steps = head[3 + i];
    if (full) dense.learn(x, k, arma::eucl_dist, arma::keep_existing, 0, steps, 1e-12, false);
    else diagonal.learn(x, k, arma::eucl_dist, arma::keep_existing, 0, steps, 1e-12, false);
    seconds[i] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::printf("%.9g\n", (seconds[1] - seconds[0]) / (head[4] - head[3]));
}
