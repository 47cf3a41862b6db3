# Mixtures of R's packages, the value alone, by lines of words: Rscript values.R mvtnorm|mclust.
# With --version it prints the package and its version.
arguments <- commandArgs(trailingOnly = TRUE)
package <- arguments[1]
suppressMessages(library(package, character.only = TRUE))
if ("--version" %in% arguments) {
  cat(package, as.character(packageVersion(package)), "\n")
  quit()
}

# Log-likelihoods of x [N, D] by means [K, D] and lower factors [D, D, K].
by_mvtnorm <- function(x, log_pi, means, chol) {
  terms <- sapply(seq_along(log_pi), function(k) {
    log_pi[k] + dmvnorm(x, means[k, ], tcrossprod(as.matrix(chol[, , k])), log = TRUE)
  })
  terms <- matrix(terms, nrow(x))
  most <- apply(terms, 1, max)
  most + log(rowSums(exp(terms - most)))
}
by_mclust <- function(x, log_pi, means, chol) {
  D <- ncol(x); G <- length(log_pi)
  upper <- aperm(chol, c(2, 1, 3))
  variance <- list(d = D, G = G, sigmasq = chol[1, 1, ]^2, cholsigma = upper)
  name <- if (D == 1) "V" else "VVV"
  mean <- if (D == 1) means[, 1] else t(means)
  parameters <- list(pro = exp(log_pi), mean = mean, variance = c(list(modelName = name), variance))
  dens(if (D == 1) x[, 1] else x, modelName = name, parameters = parameters, logarithm = TRUE)
}
log_likelihoods <- list(mvtnorm = by_mvtnorm, mclust = by_mclust)[[package]]

answer <- function(words) {
  sizes <- as.integer(words[3:6])
  if (sizes[1] == 1) return("unsupported")
  N <- sizes[2]; K <- sizes[3]; D <- sizes[4]
  blocks <- split(as.numeric(words[-(1:6)]), rep(1:4, c(N * D, K, K * D, K * D * D)))
  tryCatch({
    most <- max(blocks[[2]])
    log_pi <- blocks[[2]] - most - log(sum(exp(blocks[[2]] - most)))
    chol <- aperm(array(blocks[[4]], c(D, D, K)), c(2, 1, 3))
    x <- matrix(blocks[[1]], N, D, byrow = TRUE)
    means <- matrix(blocks[[3]], K, D, byrow = TRUE)
    losses <- -log_likelihoods(x, log_pi, means, chol)
    value <- if (words[2] == "mean") mean(losses) else sum(losses)
    if (is.na(value)) "ok NaN" else sprintf("ok %.17g", value)  # R writes NA for what is missing
  }, error = function(e) paste("rejected", gsub("[[:space:]]+", " ", conditionMessage(e))))
}

input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1)) == 1) {
  words <- strsplit(line, " ", fixed = TRUE)[[1]]
  cat(words[1], " ", answer(words), "\n", sep = "")
  flush(stdout())
}
