//! The faces.
pub mod grpc;
pub mod http;
