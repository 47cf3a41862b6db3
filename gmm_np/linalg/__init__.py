"""Linear algebra in small products, and threads: what the E-step and the families are made of.

`triangles` has the one rule on BLAS, and stacks of lower triangles; `factors` their entries as
vectors and gradients through an inverse; `threads` parts of one piece of work side by side.
"""
