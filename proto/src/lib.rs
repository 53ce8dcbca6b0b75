//! The wire interface `continuum.v1`: .proto files and the code generated from them.
//!
//! ```text
//!  continuum/v1/concepts.proto      Concepts    Put  Get  GetMany  Delete  Batch  Write  Transact  List  Scan  Watch
//!  continuum/v1/namespaces.proto    Namespaces  Create  Get  List  SetPolicy
//!  continuum/v1/admin.proto         Admin       Status  Compact  snapshots  Backup  Verify  log level  states and pool in and out
//!  continuum/v1/cluster.proto       Cluster     Status  Init  Invite  SetRole  Remove  HandOver
//!  continuum/v1/peers.proto         Peers       raft between the members of a cluster
//! ```
//!
//! The .proto files are the documentation; what they say of limits and errors, `server::api::grpc` keeps. Field numbers are
//! for ever: a retired one is `reserved`, never used again. This crate refuses to know anything of ours.

/// Messages, clients and servers of package `continuum.v1`.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::large_enum_variant,
    reason = "generated; the .proto files carry the comments"
)]
pub mod v1 {
    tonic::include_proto!("continuum.v1");
}

/// All of `continuum.v1` and what it imports as an encoded `FileDescriptorSet`: for server reflection, and for tests that
/// walk every call.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("continuum.v1");
