//! Sans-IO multipath device: paths, in-flight requests, retry, fences.
