// Armadillo: gmm_full::log_p, the value alone, by lines of words. With an argument it prints its
// version.
#include <armadillo>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

static arma::vec take(std::istringstream& line, arma::uword count) {
  arma::vec found(count);
  std::string word;
  for (double& value : found) {
    line >> word;
    value = std::strtod(word.c_str(), nullptr);  // as streams do not, it reads NaN and Inf
  }
  return found;
}

int main(int count, char**) {
  if (count > 1) {
    std::printf("Armadillo %d.%d.%d\n", ARMA_VERSION_MAJOR, ARMA_VERSION_MINOR, ARMA_VERSION_PATCH);
    return 0;
  }
  for (std::string text, id, reduction; std::getline(std::cin, text);) {
    std::istringstream line(text);
    arma::uword weighted, N, K, D;
    line >> id >> reduction >> weighted >> N >> K >> D;
    std::printf("%s ", id.c_str());
    if (weighted) {
      std::puts("unsupported");
    } else {
      const arma::mat x = arma::reshape(take(line, N * D), D, N);
      arma::vec weights = take(line, K);
      weights = arma::exp(weights - weights.max());
      weights /= arma::accu(weights);
      const arma::mat means = arma::reshape(take(line, K * D), D, K);
      arma::cube covariances(D, D, K);
      for (arma::uword k = 0; k < K; ++k) {
        const arma::mat upper = arma::reshape(take(line, D * D), D, D);
        covariances.slice(k) = upper.t() * upper;
      }
      try {
        arma::gmm_full model;
        model.set_params(means, covariances, weights.t());
        long double sum = 0;  // the sum is ours, and no fault of the library
        for (const double value : arma::rowvec(model.log_p(x))) sum -= value;
        std::printf("ok %.17g\n", double(reduction == "mean" ? sum / N : sum));
      } catch (const std::exception& error) {
        std::puts("rejected");
      }
    }
    std::fflush(stdout);
  }
}
