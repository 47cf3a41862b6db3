"""What each flag stands for."""

from __future__ import annotations

from certify.document import Note

MIXTURE_DENSITY_NETWORKS = (
    "https://github.com/axelbrando/"
    "Mixture-Density-Networks-for-distribution-and-uncertainty-estimation"
)

NOTES = {
    "Smallest": Note(
        "basic",
        "One sample, one component, one dimension.",
        "Wrong constants, logarithms or signs show without anything to hide behind.",
    ),
    "OneComponent": Note(
        "basic",
        "One component, so that its responsibility is one and the gradient of its logit zero.",
        "A gradient of the logit that is not zero; a missing constant; a wrong Gaussian.",
    ),
    "OneDimension": Note(
        "basic",
        "D = 1, where a factor is a standard deviation.",
        "Axes of length one that broadcast or are squeezed away.",
    ),
    "Correlated": Note(
        "basic",
        "Factors with entries off the diagonal.",
        "An implementation that drops or transposes them, or takes the diagonal alone.",
    ),
    "Dense": Note(
        "basic",
        "Several components, dimensions and samples at once.",
        "A component, a dimension or the last row left out; axes in the wrong order.",
    ),
    "Diagonal": Note(
        "basic",
        "Factors that are diagonal, with standard deviations unlike each other.",
        "The entries off the diagonal have gradients too, and have to be given.",
    ),
    "BothSidesOfOne": Note(
        "basic",
        "Standard deviations below and above one: logarithms of either sign.",
        "|log sigma| for log sigma, which cannot be seen while all are above one.",
        ("https://github.com/kylesayrs/GMMScratch",),
    ),
    "OneSample": Note(
        "basic",
        "N = 1.",
        "Axes of length one that broadcast; statistics that divide by N - 1.",
    ),
    "ShiftedLogits": Note(
        "convention",
        "Logits that do not add up to weights of one: a constant was added to all.",
        "Logits taken for logarithms of weights without normalising them.",
        ("https://github.com/pyro-ppl/numpyro/issues/1489",),
    ),
    "Reduction": Note(
        "convention",
        "The same data as a mean and as a sum over samples.",
        "Mean for sum, or a mean of the value beside a sum of the gradient.",
    ),
    "FactorNotCovariance": Note(
        "convention",
        "Factors far from being equal to their covariances.",
        "The factor taken for the covariance, the covariance for the factor, or a solve too few.",
        ("https://github.com/kylesayrs/GMMScratch",),
    ),
    "CovarianceNotPrecision": Note(
        "convention",
        "Factors far from their own inverses.",
        "The precision's factor taken for the covariance's, or the sign of the log-determinant.",
    ),
    "Packing": Note(
        "convention",
        "D of 3 and more, the first size at which packing by rows and by columns differ.",
        "Gradients in another order; values in the upper triangle.",
    ),
    "Transposed": Note(
        "convention",
        "Factors with L L^T far from L^T L.",
        "L^T taken for L: Sigma = L^T L.",
    ),
    "LastRow": Note(
        "basic",
        "What matters stands in the last row, the last component, the last sample.",
        "A loop that ends one too early; a slice that forgets its end.",
    ),
    "Binary32": Note(
        "basic",
        "Inputs of single precision.",
        "Numbers read as doubles are not these inputs; the digest shows it.",
    ),
    "Far": Note(
        "range",
        "Samples many standard deviations from every component, so that densities underflow.",
        "exp without subtracting the maximum: log(0), and 0/0 in the gradient.",
    ),
    "LargeLogits": Note(
        "range",
        "Logits so large that their exponentials overflow or underflow.",
        "A softmax without its maximum subtracted.",
    ),
    "ComponentOff": Note(
        "range",
        "A logit of -inf: the component has no share, and its gradients are zero.",
        "NaN from 0 * inf or inf - inf.",
        ("https://github.com/pyro-ppl/numpyro/pull/2224",),
    ),
    "Duplicates": Note(
        "basic",
        "Components that are equal in everything, or in all but their logits.",
        "A maximum whose gradient goes to one of the tied components only.",
    ),
    "Ties": Note(
        "basic",
        "Samples exactly as likely under several components.",
        "A maximum whose gradient goes to one of the tied components only; gradients that should "
        "cancel exactly.",
    ),
    "Saturated": Note(
        "cancellation",
        "Responsibilities within rounding of one, the others far below.",
        "Gradients of the rest lost to rounding, or flushed where doubles still hold them.",
    ),
    "SmallShares": Note(
        "cancellation",
        "Responsibilities from 1e-3 down to 1e-280 that carry a whole component's gradient.",
        "Responsibilities clamped, thresholded or computed as a difference from one.",
    ),
    "IllConditioned": Note(
        "conditioning",
        "Covariances with a condition number of 1e4 and more, given by their factor.",
        "Digits lost by forming the covariance or its inverse: twice as many as by solving with "
        "the factor.",
    ),
    "ManyDimensions": Note(
        "size",
        "D = 32 and D = 128.",
        "Products of determinants that leave the range; errors that grow with D.",
    ),
    "ManyComponents": Note(
        "size",
        "K = 64.",
        "Memory, broadcasting, and weights that are far from equal.",
    ),
    "ManySamples": Note(
        "size",
        "N = 1e4 and more, by repeated rows.",
        "Sums that lose digits one addition at a time.",
    ),
    "Offset": Note(
        "cancellation",
        "Data and means far from the origin, compared with the standard deviations.",
        "x^2 - 2 x mu + mu^2 in place of (x - mu)^2.",
    ),
    "Weights": Note(
        "convention",
        "Weights of the samples.",
        "Weights that are ignored, normalised twice, or left out of the divisor; 0 * inf.",
    ),
    "Collapsed": Note(
        "range",
        "A component with a standard deviation of 1e-8 on a sample, as fits without a floor have.",
        "Variances clamped, or an epsilon added.",
    ),
    "ExtremeScales": Note(
        "range",
        "Standard deviations of 1e-150 and 1e150, whose squares are at the ends of the range.",
        "Covariances that under- or overflow where their factors do not.",
    ),
    "Subnormal": Note(
        "range",
        "Numbers below 2.2e-308, which have fewer digits the smaller they are.",
        "Flushing to zero; inverses that overflow.",
    ),
    "BeyondRange": Note(
        "range",
        "Outputs that are beyond the range of a double.",
        "NaN in place of an infinity, or of what is finite beside it.",
    ),
    "MixedMagnitudes": Note(
        "cancellation",
        "Samples whose losses differ by many orders of magnitude.",
        "Sums that lose the many small to the few large.",
    ),
    "Stationary": Note(
        "cancellation",
        "Parameters at a maximum of the likelihood, or next to it.",
        "Gradients whose addends cancel: what is left is rounding, which must not be amplified.",
    ),
    "Determinant": Note(
        "range",
        "D = 128 with determinants that are below or beyond the range.",
        "log(det) for the sum of logarithms: log(0), or an infinity.",
        ("https://github.com/kylesayrs/GMMScratch",),
    ),
    "NegativeDiagonal": Note(
        "policy",
        "A factor with a negative entry on its diagonal. Either reject it, since it is no Cholesky "
        "factor, or answer for Sigma = L L^T, which it still determines.",
        "log of a negative number: NaN, in silence.",
        ("https://github.com/google-deepmind/distrax/issues/244",),
    ),
    "AboveDiagonal": Note(
        "policy",
        "Values above the diagonal of a factor. Either reject them, or take the lower triangle "
        "alone, as if they were zero.",
        "Half the program reads the upper triangle, the other half does not.",
    ),
    "ZeroDiagonal": Note(
        "validation",
        "A factor with a zero on its diagonal: its covariance is singular.",
        "An infinite log-determinant, masked or not, taken for an answer.",
        ("https://github.com/kylesayrs/GMMScratch",),
    ),
    "NotFinite": Note(
        "validation",
        "NaN or an infinity among the inputs, where it has no meaning.",
        "A number for an answer, or NaN without a word.",
    ),
    "AllOff": Note(
        "validation",
        "All logits are -inf, so that there is no mixture.",
        "NaN without a word.",
    ),
    "BadShape": Note(
        "validation",
        "Arrays whose shapes disagree.",
        "Broadcasting into a number that answers another question.",
    ),
    "BadWeights": Note(
        "validation",
        "Weights that are negative, NaN, of the wrong length, or all zero.",
        "A number for an answer.",
    ),
    "WishartPrior": Note(
        "convention",
        "The objective of ADBench and GradBench: factors of precisions with logarithms on their "
        "diagonal, packed by columns, with a Wishart prior.",
        "The sign of the prior, its degrees of freedom or its multivariate gamma function; columns "
        "for rows.",
        (
            "https://github.com/microsoft/ADBench",
            "https://github.com/gradbench/gradbench/tree/main/evals/gmm",
        ),
    ),
    "AdbenchWishartSign": Note(
        "known_fault",
        "p = 3, m = 2, gamma = 1.3, Q = I: a log prior of -6.745693.",
        "ADBench's PyTorch objective has +6.745693: the log-Wishart prior has the wrong sign.",
        ("https://github.com/microsoft/ADBench",),
    ),
    "GmmScratchInverse": Note(
        "known_fault",
        "Full covariances. With Sigma = I the fault cannot be seen; the other cases show it.",
        "cholesky_inverse is called with Sigma itself, which makes Sigma^-1 into (Sigma^T Sigma)^-1"
        " of its lower triangle; the 2 pi term is left out.",
        ("https://github.com/kylesayrs/GMMScratch",),
    ),
    "SklearnPrecision": Note(
        "known_fault",
        "A covariance with three nearly dependent columns, by its factor.",
        "A log-likelihood of 10.97444 (scikit-learn 1.9.1, through precisions_init) or of 11.333 "
        "(NumPy's Cholesky factor of the inverse) for 11.185270887.",
        ("https://github.com/scikit-learn/scikit-learn/issues/29989",),
    ),
    "FisherVectorSign": Note(
        "known_fault",
        "x = {3, 4, 5}, mu = 0, sigma = 1, where the gradients in mu and sigma have the same sign.",
        "scikit-image's Fisher vector has the sigma block with the opposite sign.",
        ("https://github.com/scikit-image/scikit-image",),
    ),
    "AutogradSign": Note(
        "known_fault",
        "Gradients in a correlated factor, all of them away from zero.",
        "autograd 1.2 had the sign of the covariance's gradient in multivariate_normal wrong.",
        ("https://github.com/HIPS/autograd/issues/401",),
    ),
    "UnnormalisedLogits": Note(
        "known_fault",
        "Logits whose exponentials do not add up to one.",
        "numpyro took them as they were; mended since.",
        ("https://github.com/pyro-ppl/numpyro/issues/1489",),
    ),
    "ZeroProbability": Note(
        "known_fault",
        "A component with a probability of zero.",
        "NaN in the gradient of log_softmax(log p), in plain JAX and in numpyro before 0.22.0.",
        ("https://github.com/pyro-ppl/numpyro/pull/2224",),
    ),
    "MisplacedParenthesis": Note(
        "known_fault",
        "D = 3 and standard deviations unlike one, so that each addend of the log density has a "
        "weight of its own.",
        "gmm-torch had a parenthesis in its log-probability in the wrong place (in a comment).",
        ("https://github.com/ldeecke/gmm-torch/issues/31",),
    ),
    "Curvature": Note(
        "basic",
        "The product of the Hessian of the loss with a direction v_logits, v_means, v_chol.",
        "A term of Louis' identity that is left out; expected information for the observed one.",
    ),
    "OneArgument": Note(
        "basic",
        "A direction in which one of logits, means and factors moves.",
        "A block of the Hessian that is zero, or has another block's sign.",
    ),
    "OneEntry": Note(
        "convention",
        "A direction that is zero but for a one: the product is a column of the Hessian.",
        "Entries off the diagonal of a factor counted as in a symmetric matrix.",
    ),
    "Scores": Note(
        "convention",
        "The gradient of log p(x_n) for each sample, in logits, means and factors.",
        "Gradients of the loss for those of its negative; the mean's 1/N left in.",
    ),
    "SoftmaxChain": Note(
        "known_fault",
        "The gradient of the logits with two components and with three.",
        "nlmixr2est before pull request 1054 went through the diagonal of the softmax's Jacobian: "
        "right with two components, wrong from three, and without a factor of -2.",
        ("https://github.com/nlmixr2/nlmixr2est/pull/1054",),
    ),
    "SquareRootMixture": Note(
        "known_fault",
        "Components that are alike, and components that are not.",
        "nlmixr2est before pull request 1054 mixed square roots of likelihoods, which cannot be "
        "seen with one component or with components that are alike.",
        ("https://github.com/nlmixr2/nlmixr2est/pull/1054",),
    ),
    "ZeroWeight": Note(
        "known_fault",
        "A weight of exactly zero: a logit of -inf.",
        "A finite value and a gradient of NaN, in numpyro before pull request 2224 and in issue "
        "1870; or NaN only where samples have weights, too.",
        (
            "https://github.com/pyro-ppl/numpyro/pull/2224",
            "https://github.com/pyro-ppl/numpyro/issues/1870",
        ),
    ),
    "LinearBackward": Note(
        "known_fault",
        "Densities below the smallest number of single precision.",
        "A backward that leaves log space in single precision: the value is right, the gradient is "
        "NaN.",
        ("https://github.com/pyro-ppl/pyro/issues/3452",),
    ),
    "MeanOfLogs": Note(
        "known_fault",
        "Components apart.",
        "The mean of log-densities for the logarithm of the mean density, which users of mixture "
        "density networks ask about.",
        (
            "https://github.com/tonyduan/mixture-density-network/issues/1",
            f"{MIXTURE_DENSITY_NETWORKS}/issues/8",
        ),
    ),
    "BatchedDiagonal": Note(
        "known_fault",
        "Several factors at once, as many as a factor has rows.",
        "JAX's multivariate_normal.logpdf took the diagonal of the stack for those of the factors "
        "(issue 5570, mended): an infinity. Stan's multi_normal_cholesky_lpdf (issue 2332, mended) "
        "did not handle one mean for several samples.",
        (
            "https://github.com/jax-ml/jax/issues/5570",
            "https://github.com/stan-dev/math/issues/2332",
        ),
    ),
    "TruncatedConstant": Note(
        "convention",
        "A loss that is nearly nothing but its constant.",
        "0.918938 for log(2 pi) / 2, or another constant that was cut off.",
    ),
    "FlooredDeterminant": Note(
        "range",
        "A determinant of 1e-24, of ordinary deviations.",
        "A floor or an epsilon under the determinant.",
    ),
    "FlooredWeight": Note(
        "range",
        "A component with a small weight and a sample of its own.",
        "A floor or an epsilon under the weights.",
    ),
    "Remainder": Note(
        "size",
        "N, K or D above 8 or 16 and no multiple of 4, 8 or 16.",
        "The remainder of an unrolled loop left out, or computed by another branch that is wrong.",
    ),
    "ByCovariance": Note(
        "convention",
        "Covariances, precisions or variances as inputs, and the gradients in them; of a symmetric "
        "matrix the symmetric G with df = sum_ij G_ij dSigma_ij.",
        "Entries off the diagonal counted twice, one triangle alone, the gradient in the factor; "
        "deviations for variances; derivatives lost in the factorization (Stan, issue 2364).",
        ("https://github.com/stan-dev/math/issues/2364",),
    ),
    "NotSymmetric": Note(
        "validation",
        "A covariance or a precision that is not symmetric.",
        "One triangle is read, and the other passes unseen.",
    ),
    "Indefinite": Note(
        "validation",
        "A covariance, precision or variance that is not positive definite.",
        "A number for an answer, or NaN without a word.",
    ),
    "LogDensity": Note(
        "basic",
        "log p(x_n) for each sample.",
        "The loss for its negative; a mean in each place; the likeliest component for the sum.",
    ),
    "Responsibilities": Note(
        "basic",
        "The posterior probability of each component for each sample.",
        "Joint densities that are not normalised, or over samples; NaN far from every component.",
    ),
    "GradientInX": Note(
        "convention",
        "The gradient of the loss, a mean or a weighted mean, in x.",
        "The gradient of log p for that of the loss; 1/N or the weights left out; the gradient of "
        "a sum of densities that are not weighted.",
        ("https://github.com/openturns/openturns/issues/1915",),
    ),
    "EMStep": Note(
        "convention",
        "Weights, means and covariances after one step of EM, without a prior and without a floor.",
        "Moments about the old mean or the origin; N or N - 1 for the sum of responsibilities.",
        (
            "https://github.com/scikit-learn/scikit-learn/issues/30382",
            "https://github.com/hmmlearn/hmmlearn/issues/78",
            "https://github.com/hmmlearn/hmmlearn/issues/410",
        ),
    ),
    "Marginal": Note(
        "convention",
        "The density of some columns of x, the others integrated out.",
        "A block of the factor or of the precision for that of the covariance; the others fixed at "
        "their means.",
    ),
    "Columns": Note(
        "convention",
        "Columns in another order than they stand in.",
        "Columns sorted, or taken from the first on.",
    ),
    "Rowwise": Note(
        "convention",
        "Parameters of their own for each row, as the outputs of a network are.",
        "The softmax over rows; the parameters of the row before; a mean of logarithms for the "
        "logarithm of a mean; a gradient that is a sum over rows.",
        (
            "https://github.com/tonyduan/mixture-density-network/issues/1",
            f"{MIXTURE_DENSITY_NETWORKS}/issues/8",
        ),
    ),
    "CovarianceFamily": Note(
        "convention",
        "A family of covariances with a scale of its own: diagonal, tied or spherical.",
        "Variances for standard deviations; gradients averaged where they have to be added.",
    ),
}
