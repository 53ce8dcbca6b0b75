//! A gRPC client in another language, which learns the interface from the node itself.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, process::Command};

use continuum_tests::{Node, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_learns_the_interface_by_reflection() {
    let name = "a_python_client_learns_the_interface_by_reflection";
    let python = std::env::var("CONTINUUM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_grpc = Command::new(&python).args(["-c", "import grpc_reflection"]).output();
    if !has_grpc.is_ok_and(|output| output.status.success()) {
        return skipped(name, "Python has no `grpcio-reflection`: run through tools/test");
    }
    let node = Node::start().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/grpc_client.py");
    let output = Command::new(python)
        .arg(script)
        .arg(node.grpc().to_string())
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("wrote, read, scanned and watched"), "{stdout}");
}
