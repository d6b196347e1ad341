//! Micro-benchmarks and the side-by-side bench.
