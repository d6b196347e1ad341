//! NVMe and NVMe over Fabrics wire formats, both directions.
