//! Sans-IO NVMe-oF controller session.
