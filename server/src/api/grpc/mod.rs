//! The gRPC face: `continuum.v1`.
