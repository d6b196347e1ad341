//! Simulator, conformance and VM suites.
