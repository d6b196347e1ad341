//! Safe verbs, connection management and NVMe/RDMA queue pairs.
