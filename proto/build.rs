//! Compiles the .proto files in Rust: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message;

const FILES: [&str; 5] = [
    "continuum/v1/admin.proto",
    "continuum/v1/cluster.proto",
    "continuum/v1/concepts.proto",
    "continuum/v1/namespaces.proto",
    "continuum/v1/peers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("continuum.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Handed from thread to thread without being copied.
        .bytes(".continuum.v1.BackupChunk.data")
        .bytes(".continuum.v1.InstallRequest.data")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=google/rpc/status.proto");
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
