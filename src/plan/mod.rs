//! A graph and kernels become a plan.
